"""Screening of candidates before training.

Each one is decoded, priced, recorded and checked against the limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import optuna
from optuna.trial import Trial

from nas.arch.spec import ArchSpec
from nas.study.candidates import Pricer
from nas.study.measurement import PredictorRefinement, at_calibrated_speed
from nas.study.storage.optuna_private import trial_id
from nas.study.storage.trial_draft import TrialDraft
from nas.study.trial_attributes import (
    earlier_measurement,
    latency_scale,
    record_candidate,
    record_measured,
)

# Optuna's samplers and its dashboard still read the constraints under this older name.
_LEGACY_CONSTRAINTS: Final = "constraints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """Prices and records the candidates of ``study``.

    With a ``refinement``, candidates within the limits are measured and screened again.
    """

    study: optuna.Study
    pricer: Pricer
    refinement: PredictorRefinement | None = None

    def judge(self, draft: TrialDraft, trial: Trial) -> tuple[ArchSpec, str]:
        """Price and record a candidate; its network, and the violated limits in words.

        ``trial``: of ``draft``. The text is empty for a feasible candidate.
        """
        pricer = self.present_pricer()
        candidate = pricer.price(trial.params)
        known = earlier_measurement(self.study, candidate.arch.arch_id) if self.refinement else {}
        record_candidate(trial, candidate, has_interval=pricer.predictor.error is not None, latency=known)
        measures = {name: known.get(name, value) for name, value in candidate.measures.items()}
        violated, origin = pricer.constraints.explain(measures), ", as measured" if known else ""
        if self.refinement and not known and not violated:
            stored = draft.store()  # measuring takes long: others are to see that this worker has the network
            measured = self.refinement.measure(stored, candidate.arch)
            record_measured(trial, at_calibrated_speed(self.study, measured, self.pricer.predictor))
            measures["latency_ms"] = trial.user_attrs["latency_ms"]
            violated, origin = pricer.constraints.explain(measures), ", as measured"
        self._record_constraints(trial, measures)
        return candidate.arch, violated and violated + origin

    def present_pricer(self) -> Pricer:
        """Prices as the study refines or corrects predictions now."""
        if self.refinement:
            return self.refinement.pricer(self.study)
        return replace(self.pricer, latency_scale=latency_scale(self.study))

    def _record_constraints(self, trial: Trial, measures: Mapping[str, float]) -> None:
        """Record in Optuna how far ``measures`` exceed each limit."""
        violations = self.pricer.constraints.violations(measures)
        known = trial.constraints  # of an interrupted trial
        for name, excess in violations.items():
            if name not in known:
                trial.set_constraint(name, excess)
        if violations:
            trial.storage.set_trial_system_attr(trial_id(trial), _LEGACY_CONSTRAINTS, list(violations.values()))
