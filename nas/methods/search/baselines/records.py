"""Results of baselines in the study, and read back as rows of its tables."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import optuna

from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.storage.opening import study_identity
from nas.study.trial_attributes import MeasuredLatency, latency_scale, network_measurements, with_measurement
from nas.study.trial_record import BaselineRecord, Outcome, PairedCounts, TrialRecord

BASELINES_FOLDER: Final = "baselines"  # in the study's folder: specs, weights, and unfinished trainings
_PREFIX: Final = "baseline:"  # and a hash of its name: system attribute of the study
_PREDICTED: Final = ("predicted_ms", "latency_low_ms", "latency_high_ms")
_NOT_STORED: Final = ("number", "outcome", "reason", "latency_ms", "genotype", "scores")


def baseline_file(folder: Path, place: int, suffix: str) -> Path:
    """File of a baseline in the study's ``folder``: ``.yaml``, ``.safetensors``."""
    return folder / BASELINES_FOLDER / f"baseline_{place}{suffix}"


def record_baseline(study: optuna.Study, baseline: BaselineRecord) -> None:
    """Record a baseline in ``study``, in the place of an earlier one of its name.

    Its latencies are those that the calibration predicts, without the correction of the study.
    """
    facts = asdict(baseline)
    stored = {name: facts[name] for name in ("published", "epochs", "resolution_px", "last_map_px", "weights_sha256")}
    figures = {name: value for name, value in facts["row"].items() if name not in _NOT_STORED and value is not None}
    paired = {arch_id: list(counts) for arch_id, counts in baseline.paired.items()}
    place = baseline.place
    set_system_attribute(study, _key(baseline.published), {**stored, "place": place, "row": figures, "paired": paired})


def record_pairs(study: optuna.Study, baseline: BaselineRecord, counts: Mapping[str, PairedCounts]) -> None:
    """Add counts by a winner's network id to a recorded ``baseline``."""
    key = _key(baseline.published)
    stored = system_attributes(study)[key]
    new = {arch_id: list(pair) for arch_id, pair in counts.items()}
    set_system_attribute(study, key, {**stored, "paired": {**stored["paired"], **new}})


def baseline_records(study: optuna.Study) -> list[BaselineRecord]:
    """The baselines of ``study`` in the order in which they were first recorded.

    Latencies are corrected as those of trials, and measured ones replace them where the search counts with those.
    """
    attributes = system_attributes(study)
    stored = sorted((one for key, one in attributes.items() if key.startswith(_PREFIX)), key=lambda one: one["place"])
    if not stored:
        return []
    scale, measured = latency_scale(study), network_measurements(study)
    is_refined = bool(study_identity(attributes).get("latency.refine"))
    return [_record(one, scale, measured.get(one["row"]["arch_id"]), is_refined=is_refined) for one in stored]


def _key(name: str) -> str:
    return _PREFIX + hashlib.sha256(name.encode()).hexdigest()[:16]  # a name may be longer than a key


def _record(
    stored: Mapping[str, Any], scale: float, measured: MeasuredLatency | None, *, is_refined: bool
) -> BaselineRecord:
    facts: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored["row"].items()
    }
    facts |= {name: round(facts[name] * scale, 6) for name in _PREDICTED if name in facts}
    row = TrialRecord(
        number=-stored["place"], outcome=Outcome.BASELINE, latency_ms=facts["predicted_ms"], reason=stored["published"],
        **facts,
    )  # fmt: skip
    if measured is not None:
        row = with_measurement(row, measured)
    if measured is not None and is_refined:
        row = replace(row, latency_ms=measured.latency_ms)
    return BaselineRecord(
        row=row,
        paired={arch_id: PairedCounts(*counts) for arch_id, counts in stored["paired"].items()},
        **{name: value for name, value in stored.items() if name not in ("place", "row", "paired")},
    )
