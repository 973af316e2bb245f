"""Searches on a machine that changes its speed half-way: what they measure, order and say.

The machine is a fake: every run, and every run of the speed probe, takes as long as it says, and no clock is read.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
import pytest
from rich.console import Console

from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.engines.local.trials import run_local_trials
from nas.latency.device import Device
from nas.latency.measure import timer
from nas.latency.settings import LatencySettings
from nas.latency.speed import MachineSpeed
from nas.methods.search import session as session_module
from nas.methods.search.latency_check import correction_text
from nas.methods.search.measurement_notes import measurement_remarks, new_notes
from nas.methods.search.session import SearchSession
from nas.methods.search.settings import StudySettings
from nas.study import measurement
from nas.study.measurement import make_measurer
from nas.study.storage.retry_policy import RetryPolicy
from nas.study.trial_attributes import MeasuredLatency, latency_scale, record_network_measurement, trial_records
from nas.study.trial_record import Outcome, TrialRecord
from tests.study.fakes import MS_PER_GMAC, FakeEvaluator, LearningPredictor, make_plan, new_study, pricer, small_space

HERE = Device(processor="test core", cores=2, backend="onnxruntime", backend_version="0", os="none")
SPEED = MachineSpeed(typical_ms=0.2, fast_ms=0.196, slow_ms=0.214)  # of the calibration: 0.98 to 1.07
TRUE = 1.1 * MS_PER_GMAC  # by this much the calibration is off
SLOW = 1.25
N_TRIALS = 12
REFINED, CHECKED = LatencySettings(refine=True), LatencySettings()


class Calibrated(LearningPredictor):
    """A calibration of this machine that is off by a tenth."""

    def __init__(self, ms_per_gmac: float = MS_PER_GMAC) -> None:
        super().__init__(ms_per_gmac)
        self.device, self.speed = HERE, SPEED

    def refined(self, measured: Any) -> Calibrated:
        return Calibrated(super().refined(measured).ms_per_gmac) if measured else self


class Machine:
    """A machine that runs ``slowness`` times as long as during the calibration, from ``change_run()`` on.

    ``jitter``: a factor of each run of a network alone, by its number.
    """

    def __init__(self, slowness: float = 1.0) -> None:
        self.slowness = slowness
        self.jitter: Callable[[int], float] = lambda _: 1.0
        self.probe_error: NasError | None = None
        self.jumps = False
        self._runs = 0

    def runner(self, arch: ArchSpec, **_: object) -> Callable[[], float]:
        """A run whose result is its duration in s."""
        typical_s = complexity(arch).macs * 1e-12 * TRUE

        def run() -> float:
            self._runs += 1
            return typical_s * self.jitter(self._runs) * self.slowness

        return run

    def speed_probe(self, _: Device) -> Callable[[], float]:
        if self.probe_error:
            raise self.probe_error
        return lambda: SPEED.typical_ms * 1e-3 * self.slowness

    def stopwatch(self, *_: object) -> Callable[[Callable[[], float]], float]:
        return lambda run: -1.0 if self.jumps else run()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The machine that measures in these tests, as fast as during the calibration."""
    machine = Machine()
    for name in ("runner", "speed_probe", "stopwatch"):
        monkeypatch.setattr(timer, name, getattr(machine, name))
    monkeypatch.setattr(timer, "describe", lambda *_: HERE)
    monkeypatch.setattr(measurement, "device_of", lambda _: HERE)
    monkeypatch.setattr(session_module.SystemLoad, "others_since", lambda *_: 0.0)
    return machine


def make_session(latency: LatencySettings, on_training: Callable[[int], object] = lambda _: None) -> SearchSession:
    """A search on the fake machine, whose trainings take no time."""
    predictor = Calibrated()
    rest: dict[str, Any] = {"data": None, "evaluator": FakeEvaluator(lambda call, _: on_training(call))}
    return SearchSession(
        plan=make_plan(small_space(), study=StudySettings(n_trials=N_TRIALS, max_screened=500), latency=latency),
        predictor=predictor,
        retry=RetryPolicy(limit_s=1),
        pricer=replace(pricer(small_space()), predictor=predictor),
        measure=make_measurer(latency, predictor),
        **rest,
    )


def search(
    latency: LatencySettings,
    on_training: Callable[[int], object] = lambda _: None,
    *,
    measure_winners: bool = True,
) -> tuple[Any, str]:
    """Run a search, measure the first six of its networks as winners; its study and what it printed.

    ``on_training`` is called with the number of each training, from 1.
    """
    study, out, session = new_study(), io.StringIO(), make_session(latency, on_training)
    with session.progress(study, Console(file=out, width=1000)) as progress:
        run_local_trials(session, None, study, progress)  # type: ignore[arg-type]
        winners = [row for row in trial_records(study) if row.outcome is Outcome.TRAINED][:6]
        session.measure_networks(winners if measure_winners else [], study, progress.say)
    return study, out.getvalue()


def true_ms(row: TrialRecord) -> float:
    """What the row's network takes at the typical speed of the calibration."""
    return (row.macs_m or 0.0) * 1e-3 * TRUE


def measured_rows(study: optuna.Study) -> list[TrialRecord]:
    return [row for row in trial_records(study) if row.measured_ms is not None]


@pytest.mark.parametrize("latency", [REFINED, CHECKED], ids=["refine", "check"])
@pytest.mark.parametrize("change_at", [2, N_TRIALS // 2], ids=["before the check", "half-way"])
def test_a_search_keeps_its_order_on_a_machine_that_slows_down(
    machine: Machine, latency: LatencySettings, change_at: int
) -> None:
    def slow_down(training: int) -> None:
        if training == change_at:
            machine.slowness = SLOW

    steady, nothing = search(latency)
    study, said = search(latency, slow_down)
    rows, expected = measured_rows(study), measured_rows(steady)
    assert len(rows) >= 6 and [row.arch_id for row in rows] == [row.arch_id for row in expected]
    assert [row.measured_ms for row in rows] == pytest.approx([true_ms(row) for row in rows], rel=1e-6, abs=1e-6)
    assert [row.measured_ms for row in rows] == [row.measured_ms for row in expected]
    assert [row.latency_ms for row in trial_records(study)] == [row.latency_ms for row in trial_records(steady)]
    by_latency = sorted(rows, key=lambda row: row.latency_ms or 0.0)
    assert [true_ms(row) for row in by_latency] == sorted(true_ms(row) for row in rows)
    # The calibration's own error of a tenth is corrected, the machine's quarter is not.
    if not latency.refine:
        assert "all off alike: limits and results count with predictions x 1.10" in said
        assert correction_text(study) == correction_text(steady) != ""
    (line,) = (line for line in said.splitlines() if "times as long" in line)
    assert line == (
        "measured networks took 1.25 times as long as at the machine's typical speed during the calibration (its range "
        "then: 0.98 to 1.07): measured latencies are stated at that speed; latency.speed=now predicts for the present "
        "one (another study.name)"
    )
    (remark,) = measurement_remarks(study, Calibrated(), latency)
    span = "1.00 to 1.25" if latency.refine else "1.25"  # the networks of the check were measured again
    assert remark.startswith(f"Measured networks took {span} times as long as at the machine's typical speed")
    assert "times as long" not in nothing and measurement_remarks(steady, Calibrated(), latency) == ()


def test_a_change_of_speed_amid_a_measurement_changes_nothing(machine: Machine) -> None:
    def change(run: int) -> float:
        if run == 500:
            machine.slowness = SLOW
        return 1.0

    machine.jitter = change
    study, said = search(REFINED)
    assert machine.slowness == SLOW and said.count("times as long") == 1
    rows = measured_rows(study)
    assert [row.measured_ms for row in rows] == pytest.approx([true_ms(row) for row in rows], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("slowness", [0.99, 1.06])
def test_a_speed_that_the_calibration_knows_is_not_mentioned(machine: Machine, slowness: float) -> None:
    machine.slowness = slowness
    study, said = search(CHECKED)
    assert "times as long" not in said and measurement_remarks(study, Calibrated(), CHECKED) == ()
    assert all(row.measured_ms == pytest.approx(true_ms(row), abs=1e-6) for row in measured_rows(study))


def test_a_machine_that_gets_slower_still_says_so_again(machine: Machine) -> None:
    paces = {3: 1.2, 5: 1.25, 7: 1.6, 9: 1.3}
    _, said = search(REFINED, lambda training: setattr(machine, "slowness", paces.get(training, machine.slowness)))
    lines = [line for line in said.splitlines() if "times as long" in line]
    assert ["1.20 times" in lines[0], "1.60 times" in lines[1]] == [True, True] and len(lines) == 2


def test_a_machine_that_was_faster_and_gets_slower_says_both() -> None:
    study, said = new_study(), list[str]()
    for arch_id, slowdown in (("a", 0.8), ("b", 1.25), ("c", 1.3), ("d", 0.8)):
        record_network_measurement(study, arch_id, MeasuredLatency(3.0, 0.1, SPEED.typical_ms * slowdown, 0.01))
        said += new_notes(study, Calibrated(), CHECKED)
    assert [line.split(" times")[0] for line in said] == ["measured networks took 0.80", "measured networks took 1.25"]


def test_a_search_says_at_its_start_that_the_machine_has_another_speed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "survey_space", lambda *_: None)
    monkeypatch.setattr(session_module, "_queue_first", lambda *_: None)

    def started(probe_ms: float, latency: LatencySettings = CHECKED) -> tuple[optuna.Study, str]:
        monkeypatch.setattr(session_module, "present_probe_ms", lambda _: probe_ms)
        study, out = new_study(), io.StringIO()
        make_session(latency).start(study, Console(file=out, width=300), lambda found: found)
        return study, out.getvalue()

    study, said = started(SPEED.typical_ms * SLOW)
    assert said == (
        "networks now take 1.25 times as long as at the machine's typical speed during the calibration (its range "
        "then: 0.98 to 1.07): predicted and measured latencies are stated at that speed; latency.speed=now predicts "
        "for the present one (another study.name)\n"
    )
    record_network_measurement(study, "0123", MeasuredLatency(3.0, 0.1, SPEED.typical_ms * SLOW, 0.01))
    assert new_notes(study, Calibrated(), CHECKED) == []  # it was said
    assert started(SPEED.typical_ms * 1.06)[1] == started(0.5, replace(CHECKED, speed="now"))[1] == ""

    def broken(_: Device) -> float:
        raise NasError("the clock jumped.")

    monkeypatch.setattr(session_module, "present_probe_ms", broken)
    out = io.StringIO()
    make_session(CHECKED).start(new_study(), Console(file=out, width=300), lambda found: found)
    assert out.getvalue() == "the present speed of the machine was not measured: the clock jumped.\n"


def test_predictions_for_the_present_speed_are_compared_with_that(machine: Machine) -> None:
    machine.slowness = SLOW
    study, said = search(replace(CHECKED, speed="now"))
    assert "times as long as at the speed of the machine that latency.speed=now found at the start (its range" in said
    assert "latencies are stated at the speed of the start" in said
    assert len(measured_rows(study)) >= 6


def test_a_machine_that_does_not_settle_is_named_with_its_error(machine: Machine) -> None:
    """Runs of networks vary by a factor of e, and those of the probe do not: ratios cannot cancel it."""
    noise = random.Random(1)
    machine.jitter = lambda _: math.exp(noise.gauss(0, 1))
    study, said = search(CHECKED, measure_winners=False)
    rows = list({row.arch_id: row for row in measured_rows(study)}.values())
    worst = max((row.measured_error_ms or 0.0) / (row.measured_ms or 1.0) for row in rows)
    large = sum((row.measured_error_ms or 0.0) > 0.1 * (row.measured_ms or 0.0) for row in rows)
    assert large > 0
    assert said.count("standard errors above 10%") == 1
    assert f"{worst:.0%}), because the machine did not keep its speed; their latencies are kept" in said
    (remark,) = measurement_remarks(study, Calibrated(), CHECKED)
    assert remark.startswith(f"Standard errors above 10%: {large} of {len(rows)} measurements (up to {worst:.0%})")
    assert sum(row.outcome is Outcome.TRAINED for row in trial_records(study)) == N_TRIALS


@pytest.mark.parametrize("trouble", ["probe", "clock", "runtime"])
@pytest.mark.parametrize("latency", [REFINED, CHECKED], ids=["refine", "check"])
def test_a_machine_that_cannot_measure_costs_the_measurements_alone(
    machine: Machine, latency: LatencySettings, trouble: str
) -> None:
    def break_down(training: int) -> None:
        if training != 2:  # before the check after a quarter
            return
        if trouble == "probe":
            machine.probe_error = NasError("the speed probe does not run there")
        elif trouble == "clock":
            machine.jumps = True
        else:
            machine.jitter = crash

    def crash(_: int) -> float:
        raise RuntimeError("illegal instruction")

    reason = {
        "probe": "the speed probe does not run there",
        "clock": "latency: the clock jumped in 100% of all runs",
        "runtime": "does not run what was to be measured (illegal instruction)",
    }[trouble]
    study, said = search(latency, break_down, measure_winners=False)
    rows = trial_records(study)
    if latency.refine:
        # Measured before it is trained, each candidate of the broken machine is a failed trial; the first two are kept.
        assert [row.outcome for row in rows] == [Outcome.TRAINED] * 2 + [Outcome.FAILED] * (N_TRIALS - 2)
        assert all(reason in row.reason for row in rows[2:])
        assert [row.measured_ms for row in rows[:2]] == pytest.approx([true_ms(row) for row in rows[:2]], abs=1e-6)
        return
    assert said.count("the predicted latencies were not checked: ") == 1 and reason in said
    assert latency_scale(study) == 1
    assert sum(row.outcome is Outcome.TRAINED for row in rows) == N_TRIALS
