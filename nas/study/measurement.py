"""Measured latency: of winners, and of candidates with ``latency.refine=true``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

import optuna
from optuna.trial import FrozenTrial

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.latency.measure.backends import runtime_errors_as
from nas.latency.measure.timer import measure_many
from nas.latency.predictors.base import LatencyPredictor, forms_of
from nas.latency.settings import MEASURED_BACKENDS, LatencySettings
from nas.latency.speed import speed_of
from nas.latency.store import device_of
from nas.study.candidates import Pricer
from nas.study.trial_attributes import (
    MeasuredLatency,
    count_measurements,
    probed_measurements,
    record_network_measurement,
    trial_records,
    with_measurement,
)
from nas.study.trial_record import TrialRecord

Measurer = Callable[[Sequence[ArchSpec]], list[MeasuredLatency]]
_DRIFT: Final = 1.2  # between speeds that are told by one measurement each: up to it, as much noise


def make_measurer(settings: LatencySettings, predictor: LatencyPredictor) -> Measurer | None:
    """A function that measures networks as ``predictor`` prices them.

    None if the predictor's device is not this machine.

    Raises: NasError if ``settings`` ask for a search with measurements and there is nothing to measure.
    """
    device = predictor.device
    if device.backend not in MEASURED_BACKENDS or device != device_of(settings):
        if settings.refine:
            raise NasError(
                f"latency.refine true: the latency is that of {device}, which cannot be measured here; "
                "leave latency.refine out, or calibrate this machine."
            )
        return None

    def measure(archs: Sequence[ArchSpec]) -> list[MeasuredLatency]:
        with runtime_errors_as(f"{device} does not run what was to be measured"):  # a search goes on without it
            measured = measure_many(
                archs,
                backend=device.backend,
                precision=device.precision,
                threads=device.threads,
                batch=device.batch,
                seed=settings.seed,
                forms=[forms_of(predictor, arch) for arch in archs],
            )
        return [
            MeasuredLatency(
                one.latency_ms, one.spread_ms, one.probe_ms, one.error_ms if math.isfinite(one.error_ms) else None
            )
            for one in measured
        ]

    return measure


def at_calibrated_speed(study: optuna.Study, measured: MeasuredLatency, predictor: LatencyPredictor) -> MeasuredLatency:
    """``measured`` scaled to the speed of the machine at which ``predictor`` holds.

    Calibrations of older versions do not say it: there the usual speed is the median over what ``study`` measured so
    far, and differences up to a fifth stay, because they are as much noise.
    """
    own_ms, speed = measured.probe_ms, speed_of(predictor)
    if own_ms is None:
        return measured
    if speed is not None:
        return _with_noise(measured, predictor).scaled(1 / speed.slowdown(own_ms))
    known = [one.probe_ms for one in probed_measurements(study) if one.probe_ms is not None]
    factor = statistics.median([own_ms, *known]) / own_ms
    return measured.scaled(factor) if max(factor, 1 / factor) > _DRIFT else measured


def _with_noise(measured: MeasuredLatency, predictor: LatencyPredictor) -> MeasuredLatency:
    """``measured`` with the noise between calls, as the calibration found it, on top."""
    noise: float | None = getattr(predictor, "noise", None)
    if noise is None or measured.error_ms is None:
        return measured
    return measured._replace(error_ms=math.hypot(measured.error_ms, noise * measured.latency_ms))


def measure_rows(
    rows: Sequence[TrialRecord],
    study: optuna.Study,
    pricer: Pricer,
    measure: Measurer | None,
    others: Sequence[ArchSpec] = (),
) -> list[TrialRecord]:
    """``rows`` with their networks' latency measured now, interleaved.

    The measurements are recorded in the study, with those of ``others``: networks of no trial, measured in turn with
    them.
    """
    if measure is None or not rows:
        return list(rows)
    found = measure([*(pricer.decode(row.genotype) for row in rows), *others])
    measured = [at_calibrated_speed(study, one, pricer.predictor) for one in found]
    for arch_id, one in zip([row.arch_id for row in rows] + [arch.arch_id for arch in others], measured, strict=True):
        record_network_measurement(study, arch_id, one)
    return [with_measurement(row, one) for row, one in zip(rows, measured, strict=False)]


class PredictorRefinement:
    """A predictor that is refined by the study's own measurements.

    Candidates are measured before they are trained, and the predictor is fitted again to every measurement of the
    study.

    All its measurements are in the study's storage: workers share them, and a resumed search has them again.
    ``measure`` times the network of a running trial. The sequence of candidates cannot be repeated: no two
    measurements are the same. It learns from every new measurement and, beyond 40, whenever they are a 20th more:
    at 1,000 learning anew takes a CPU-second, and one more changes nothing.
    """

    def __init__(self, pricer: Pricer, measure: Callable[[FrozenTrial, ArchSpec], MeasuredLatency]) -> None:
        self.measure = measure
        self._unrefined = self._refined = pricer
        self._learned = 0

    def pricer(self, study: optuna.Study) -> Pricer:
        """Prices by a predictor that has learned from what ``study`` has measured so far."""
        wanted = _lesson(count_measurements(study))
        if wanted != self._learned:
            predictor = self._unrefined.predictor.refined(list(_pairs(trial_records(study), self._unrefined)))
            self._refined, self._learned = replace(self._unrefined, predictor=predictor), wanted
        return self._refined


def _lesson(measured: int) -> int:
    """The number of measurements at which the predictor was last refined.

    The largest such number that is at most ``measured``.
    """
    last = 0
    while (following := last + max(1, last // 20)) <= measured:
        last = following
    return last


def _pairs(rows: Iterable[TrialRecord], pricer: Pricer) -> Iterable[tuple[ArchSpec, float]]:
    """Networks with their measured ms, each once."""
    seen = set()
    for row in rows:
        if row.measured_ms is not None and row.arch_id not in seen:
            seen.add(row.arch_id)
            yield pricer.decode(row.genotype), row.measured_ms
