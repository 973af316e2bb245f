"""Candidates measured before training, against a device whose law the predictor does not know at first."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from nas.arch import zoo
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.rewriting.forms import Forms
from nas.exporters.rewriting.named import named_forms
from nas.latency.device import Device
from nas.latency.measure.timer import Measurement
from nas.latency.predictors.macs import MacsPredictor
from nas.latency.settings import LatencySettings
from nas.study import measurement
from nas.study.measurement import PredictorRefinement, make_measurer, measure_rows
from nas.study.objective import ObjectiveSettings
from nas.study.storage.attributes import set_system_attribute
from nas.study.storage.opening import open_storage, open_study
from nas.study.trial_attributes import MeasuredLatency, probed_measurements, trial_records
from nas.study.trial_record import Outcome, TrialRecord
from tests.study.fakes import (
    MS_PER_GMAC,
    PARETO,
    FakeEvaluator,
    LearningPredictor,
    Stopwatch,
    make_search,
    new_study,
    pricer,
    small_space,
)

TRUE = 1.5 * MS_PER_GMAC  # the device is half as slow again as the predictor believes
HERE = Device(processor="test core", cores=2, backend="onnxruntime", backend_version="0", os="none")


def true_ms(row: TrialRecord) -> float:
    """What a row's network measures, of its multiply-adds alone."""
    return (row.macs_m or 0.0) * 1e-3 * TRUE


def interrupt_at(call: int) -> Callable[[int, ArchSpec], None]:
    """Ctrl-C in this call."""

    def trouble(now: int, _: ArchSpec) -> None:
        if now == call:
            raise KeyboardInterrupt

    return trouble


@pytest.mark.parametrize("objective", [PARETO, ObjectiveSettings(kind="mnasnet", target_ms=0.05)], ids=lambda o: o.kind)
def test_what_is_told_is_measured_and_the_prediction_stands_beside_it(objective: ObjectiveSettings) -> None:
    search = make_search(small_space(), FakeEvaluator(), objective=objective, stopwatch=Stopwatch(TRUE), n_trials=8)
    search.run()
    rows = trial_records(search.study)
    for row in rows:
        assert row.measured_ms == row.latency_ms == pytest.approx(true_ms(row), abs=1e-6)
        assert row.measured_spread_ms == 0.001
        told = tuple(search.study.trials[row.number].values)
        assert told == objective.values(row.accuracy or 0.0, row.latency_ms or 0.0)
    # Nothing is known of the device before the first measurement; after it the factor is known, and it is the same.
    first, *later = [row for row in rows if row.outcome is Outcome.TRAINED]
    assert first.predicted_ms == pytest.approx(true_ms(first) / 1.5, abs=1e-6)
    assert all(row.predicted_ms == pytest.approx(true_ms(row), abs=2e-6) for row in later)
    assert all((row.latency_low_ms or 0) < (row.predicted_ms or 0) < (row.latency_high_ms or 0) for row in rows)


def test_what_measures_above_the_limit_is_not_trained_and_teaches_the_screening() -> None:
    costs = sorted({row.macs_m or 0.0 for row in _unlimited()})
    limit = costs[len(costs) // 2] * 1e-3 * TRUE * 1.0001  # nobody stands on it
    evaluator, stopwatch = FakeEvaluator(), Stopwatch(TRUE)
    search = make_search(
        small_space(), evaluator, stopwatch=stopwatch, sampler="random", n_trials=12, limits={"latency_ms": limit}
    )
    # By the untaught predictor this one is within the limit, by the clock it is not.
    search.study.enqueue_trial(_between(limit))
    search.run()
    rows = trial_records(search.study)
    assert rows[0].outcome is Outcome.INFEASIBLE and (rows[0].predicted_ms or 0.0) <= limit < (rows[0].latency_ms or 0)
    assert rows[0].reason == f"latency_ms {rows[0].latency_ms:.4g} > {limit:g}, as measured"
    for row in rows:
        feasible = true_ms(row) <= limit
        assert (row.outcome is Outcome.INFEASIBLE) is not feasible
        assert (row.arch_id in evaluator.trained) is feasible
        trial = search.study.trials[row.number]
        assert trial.constraints["latency_ms"] == pytest.approx(true_ms(row) / limit - 1, abs=1e-4)
        assert (trial.state is TrialState.PRUNED) is not feasible
    # Taught by it, the screening spends no measurement on any other that is too slow.
    refused = {row.arch_id for row in rows if row.outcome is Outcome.INFEASIBLE}
    assert len(refused) > 1 and refused & set(stopwatch.timed) == {rows[0].arch_id}


def test_a_network_is_measured_once_however_it_is_spelt() -> None:
    stopwatch = Stopwatch(TRUE)
    search = make_search(small_space(), FakeEvaluator(), stopwatch=stopwatch, n_trials=40)
    search.run()
    assert len(set(stopwatch.timed)) == len(stopwatch.timed) == 40
    first = {row.arch_id: row for row in reversed(trial_records(search.study))}
    repeats = [row for row in trial_records(search.study) if row.outcome is Outcome.DUPLICATE]
    assert repeats
    for row in repeats:
        twin = first[row.arch_id]
        assert (row.latency_ms, row.predicted_ms, row.measured_ms) == (
            twin.latency_ms,
            twin.predicted_ms,
            twin.measured_ms,
        )


def test_a_resumed_search_knows_what_was_measured_from_its_storage_alone(tmp_path: Path) -> None:
    def resumed(evaluator: FakeEvaluator, stopwatch: Stopwatch) -> list[TrialRecord]:
        study = open_study(open_storage(f"sqlite:///{tmp_path / 'optuna.db'}"), "fake", PARETO, {})
        search = make_search(small_space(), evaluator, study=study, stopwatch=stopwatch, n_trials=4)
        with contextlib.suppress(KeyboardInterrupt):
            search.run()
        return trial_records(study)

    before, after = Stopwatch(TRUE), Stopwatch(TRUE)
    resumed(FakeEvaluator(interrupt_at(3)), before)  # in a training: its network has been measured
    rows = resumed(FakeEvaluator(), after)
    assert len(before.timed) == 3 and len(after.timed) == 1 and after.timed[0] not in before.timed
    assert rows[2].predicted_ms == pytest.approx(true_ms(rows[2]), abs=2e-6)
    assert rows[3].predicted_ms == pytest.approx(true_ms(rows[3]), abs=2e-6)


def test_a_slow_hour_of_the_machine_does_not_count() -> None:
    slowness = (1.0, 1.0, 1.3, 1.0, 0.8, 1.1)
    kept = (1.0, 1.0, 1.0, 1.0, 1.0, 1.1)  # a tenth is noise
    search = make_search(
        small_space(), FakeEvaluator(), stopwatch=Stopwatch(TRUE, slowness=slowness), sampler="random", n_trials=6
    )
    search.run()
    trained = [row for row in trial_records(search.study) if row.outcome is Outcome.TRAINED]
    # The median of the first one, two, ... six of them is always 1: the machine's usual speed.
    expected = [pace * true_ms(row) for row, pace in zip(trained, kept, strict=True)]
    assert [row.latency_ms for row in trained] == pytest.approx(expected, abs=2e-6)
    slow = Stopwatch(TRUE, slowness=(1.4,))
    winners = measure_rows(trained[:2], search.study, search.pricer, slow)
    assert [row.measured_ms for row in winners] == pytest.approx([true_ms(row) for row in winners], abs=2e-6)


def test_what_older_versions_called_the_reference_is_not_mixed_with_the_speed_probe() -> None:
    """They recorded the latency of another network, in trials, and of checked networks latency and spread alone."""
    search = make_search(small_space(), FakeEvaluator(), n_trials=2)
    search.run()
    for trial in search.study.trials:
        for name, value in (("reference_ms", 8.0), ("measured_ms", 3.0), ("measured_spread_ms", 0.1)):
            search.study._storage._get_trial(trial._trial_id).user_attrs[name] = value
    rows = trial_records(search.study)
    set_system_attribute(search.study, f"measured:{rows[0].arch_id}", [3.5, 0.2])
    assert [row.measured_ms for row in trial_records(search.study)] == [3.5, 3.0]
    assert probed_measurements(search.study) == []
    (found,) = measure_rows(rows[1:], search.study, search.pricer, Stopwatch(TRUE, slowness=(0.2,)))
    assert found.measured_ms == pytest.approx(0.2 * true_ms(rows[1]), abs=1e-6)  # the probe's is the only speed known


def test_it_learns_from_every_measurement_and_of_many_when_they_are_a_twentieth_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learned = []

    class Pupil(LearningPredictor):
        def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> LearningPredictor:
            learned.append(count)
            return self

    refinement = PredictorRefinement(
        replace(pricer(small_space()), predictor=Pupil(TRUE)), lambda *_: MeasuredLatency(1, 0)
    )
    for count in range(200):
        monkeypatch.setattr(measurement, "count_measurements", lambda _, count=count: count)
        refinement.pricer(new_study())
    assert learned[:42] == [*range(1, 41), 42, 44]
    gaps = [later - earlier for earlier, later in itertools.pairwise(learned)]
    assert max(gaps) == 9 and all(gap <= max(1, at / 20) for gap, at in zip(gaps, learned, strict=False))


def test_an_interrupted_measurement_is_taken_again() -> None:
    search = make_search(small_space(), FakeEvaluator(), stopwatch=Stopwatch(TRUE, interrupt_at(2)), n_trials=3)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    again = Stopwatch(TRUE)
    make_search(small_space(), FakeEvaluator(), study=search.study, stopwatch=again, n_trials=3).run()
    assert len(again.timed) == 2 and len(search.study.trials) == 3


def test_a_measurement_that_fails_is_one_failed_trial() -> None:
    def trouble(call: int, _: ArchSpec) -> None:
        if call == 2:
            raise NasError("the machine changed speed")

    evaluator = FakeEvaluator()
    search = make_search(small_space(), evaluator, stopwatch=Stopwatch(TRUE, trouble), n_trials=4)
    search.run()
    (failed,) = [row for row in trial_records(search.study) if row.outcome is Outcome.FAILED]
    assert failed.reason == "NasError: the machine changed speed" and failed.arch_id not in evaluator.trained


def test_winners_are_measured_together_and_remembered() -> None:
    search = make_search(small_space(), FakeEvaluator(), n_trials=4)
    search.run()
    rows = trial_records(search.study)
    found = measure_rows(rows[:2], search.study, search.pricer, Stopwatch(TRUE))
    assert [row.measured_ms for row in found] == pytest.approx([true_ms(row) for row in found])
    assert [row.latency_ms for row in found] == [row.latency_ms for row in rows[:2]]
    remembered = trial_records(search.study)
    assert [row.measured_ms for row in remembered] == pytest.approx(
        [*(true_ms(row) for row in found), None, None], abs=1e-6
    )
    assert measure_rows(rows, search.study, search.pricer, None) == rows
    measure_rows(rows[:1], search.study, search.pricer, Stopwatch(2 * TRUE))  # the latest counts
    assert trial_records(search.study)[0].measured_ms == pytest.approx(2 * true_ms(rows[0]), abs=1e-6)


class Priced(MacsPredictor):
    """A predictor of a device's latency."""

    def __init__(self, device: Device) -> None:
        super().__init__(MS_PER_GMAC)
        self.device = device


class PricedInForms(Priced):
    """A predictor that prices every block with its MixConv kernels merged."""

    rewrites = True

    def forms(self, spec: ArchSpec, resolution_px: int | None = None) -> Forms:
        return named_forms(spec, ["merge_mixconv"])

    def with_rewrites(self, rewrites: bool) -> Priced:
        return PricedInForms(self.device) if rewrites else Priced(self.device)


def test_networks_are_measured_as_they_are_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def fake(archs: list[ArchSpec], **protocol: Any) -> list[Measurement]:
        asked.update(protocol)
        errors = itertools.cycle([0.02, math.nan])  # of a single round none is known
        return [
            Measurement(latency_ms=2.0, spread_ms=0.5, error_ms=error, runs=1, device=HERE, probe_ms=1.5)
            for _, error in zip(archs, errors, strict=False)
        ]

    monkeypatch.setattr(measurement, "device_of", lambda _: HERE)
    monkeypatch.setattr(measurement, "measure_many", fake)
    measure = make_measurer(LatencySettings(seed=7, refine=True), Priced(HERE))
    assert measure is not None
    first, second = measure([zoo.get("mixnet_s")] * 2)
    assert (first, second) == (MeasuredLatency(2.0, 0.5, 1.5, 0.02), MeasuredLatency(2.0, 0.5, 1.5))
    protocol = {"backend": "onnxruntime", "precision": "float32", "threads": 1, "batch": 1, "seed": 7}
    assert asked == {**protocol, "forms": [None, None]}
    measure = make_measurer(LatencySettings(seed=7, refine=True), PricedInForms(HERE))
    assert measure is not None
    archs = [zoo.get("mixnet_s"), zoo.get("mixnet_l")]
    measure(archs)
    assert asked == {**protocol, "forms": [named_forms(arch, ["merge_mixconv"]) for arch in archs]}


def test_another_device_is_not_measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "device_of", lambda _: HERE)
    there = Device(processor="phone", cores=8, backend="onnxruntime", backend_version="0", os="none")
    assert make_measurer(LatencySettings(allow_other_device=True), Priced(there)) is None
    assert make_measurer(LatencySettings(backend="macs"), MacsPredictor(MS_PER_GMAC)) is None
    with pytest.raises(
        NasError, match=r"latency\.refine true: the latency is that of phone .* cannot be measured here"
    ):
        make_measurer(LatencySettings(refine=True), Priced(there))


def test_a_formula_cannot_be_refined() -> None:
    with pytest.raises(NasError, match=r"latency\.refine true: with latency\.backend=macs there is nothing to measure"):
        LatencySettings(backend="macs", refine=True)


def _unlimited() -> list[TrialRecord]:
    search = make_search(small_space(), FakeEvaluator(), n_trials=20)
    search.run()
    return trial_records(search.study)


def _between(limit: float) -> dict[str, Any]:
    """A genotype that is within ``limit`` as predicted and above it as measured."""
    for row in _unlimited():
        if true_ms(row) / 1.5 <= limit < true_ms(row):
            return dict(row.genotype)
    raise AssertionError("no such network")
