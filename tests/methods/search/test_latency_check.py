"""Predictions that measured networks correct during a search: what is decided, stored, trained and told.

The device runs networks at a factor of what the calibration predicts, by multiply-adds alone.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from nas.analysis.history import learning_curves
from nas.analysis.latency_agreement import latency_agreement
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.engines.local.trials import run_local_trials
from nas.latency.predictors.macs import MacsPredictor
from nas.latency.settings import LatencySettings
from nas.methods.search import session as session_module
from nas.methods.search.latency_check import correct_latencies, correction_text, is_check_due, networks_to_check
from nas.methods.search.session import SearchSession
from nas.methods.search.settings import StudySettings
from nas.study.candidates import survey
from nas.study.constraints import Constraints
from nas.study.measurement import measure_rows
from nas.study.objective import ObjectiveSettings
from nas.study.storage.optuna_private import storage_of
from nas.study.storage.retry_policy import RetryPolicy
from nas.study.trial_attributes import MeasuredLatency, latency_scale, trial_records
from nas.study.trial_record import Outcome, TrialRecord
from tests.study.fakes import (
    MS_PER_GMAC,
    PARETO,
    FakeEvaluator,
    Stopwatch,
    make_plan,
    make_search,
    new_study,
    pricer,
    small_space,
)

FACTOR = 0.87
REWARD = ObjectiveSettings(kind="mnasnet", target_ms=0.05, form="hard")


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other program runs beside these measurements: in their microseconds one tick looks like many cores."""
    monkeypatch.setattr(session_module.SystemLoad, "others_since", lambda *_: 0.0)


def predicted_ms(row: TrialRecord) -> float:
    """What the calibration predicts for a row's network."""
    return (row.macs_m or 0.0) * 1e-3 * MS_PER_GMAC


def limit_met_by(share: float) -> float:
    """A limit in ms that this share of networks meets as predicted; nobody stands on it."""
    prices, rng = pricer(small_space()), random.Random(1)
    costs = sorted(prices.price(prices.space.sample(rng)).measures["latency_ms"] for _ in range(200))
    return costs[int(len(costs) * share)] * 1.0001


def make_session(
    stopwatch: Callable[[Sequence[ArchSpec]], list[MeasuredLatency]],
    *,
    limit_ms: float | None = None,
    n_trials: int = 12,
    objective: ObjectiveSettings = PARETO,
    latency: LatencySettings | None = None,
    evaluator: FakeEvaluator | None = None,
) -> SearchSession:
    """A search whose trainings take no time, on a device that ``stopwatch`` measures."""
    plan = make_plan(
        small_space(),
        constraints=Constraints(latency_ms=limit_ms),
        study=StudySettings(n_trials=n_trials, max_screened=500),
        objective=objective,
        latency=latency or LatencySettings(backend="macs"),
    )
    rest: dict[str, Any] = {"data": None, "evaluator": evaluator or FakeEvaluator(epochs=2)}
    prices = pricer(small_space(), **({} if limit_ms is None else {"latency_ms": limit_ms}))
    return SearchSession(
        plan=plan,
        predictor=MacsPredictor(MS_PER_GMAC),
        retry=RetryPolicy(limit_s=1),
        pricer=prices,
        measure=stopwatch,
        **rest,
    )


def run(session: SearchSession, study: optuna.Study) -> str:
    """Run a search in this process; what it printed."""
    out = io.StringIO()
    with session.progress(study, Console(file=out, width=300)) as progress:
        run_local_trials(session, None, study, progress)  # type: ignore[arg-type]
    return out.getvalue()


class Uneven(Stopwatch):
    """Networks measure at 0.55, 1.05, 0.55, ... times their prediction."""

    def __call__(self, archs: Sequence[ArchSpec]) -> list[MeasuredLatency]:
        return [
            MeasuredLatency(one.latency_ms * (0.55, 1.05)[index % 2], 0.001)
            for index, one in enumerate(super().__call__(archs))
        ]


def test_networks_off_alike_correct_the_limit_for_the_rest_of_the_search() -> None:
    limit_ms, stopwatch = limit_met_by(0.3), Stopwatch(FACTOR * MS_PER_GMAC)
    evaluator, study = FakeEvaluator(epochs=2), new_study()
    said = run(make_session(stopwatch, limit_ms=limit_ms, evaluator=evaluator), study)
    assert study.user_attrs["latency_scale"] == pytest.approx(FACTOR, abs=1e-4)
    assert "measuring " in said and "all off alike: limits and results count with predictions x 0.87" in said
    rows = trial_records(study)
    first = next(trial.number for trial in study.trials if "latency_scale" in trial.user_attrs)
    assert 0 < first < len(rows)
    changed = 0
    for row in rows:
        scale = 1.0 if row.number < first else FACTOR
        feasible = scale * predicted_ms(row) <= limit_ms
        assert (row.outcome is Outcome.INFEASIBLE) is not feasible
        assert (row.arch_id in evaluator.trained) or not feasible
        changed += feasible and predicted_ms(row) > limit_ms
        excess = study.trials[row.number].constraints["latency_ms"]
        assert excess == pytest.approx(scale * predicted_ms(row) / limit_ms - 1, abs=1e-3)
        # Results count with the correction, those before it too; Optuna compares all at the calibration's scale.
        assert row.latency_ms == row.predicted_ms == pytest.approx(FACTOR * predicted_ms(row), rel=1e-3)
        if feasible:
            assert study.trials[row.number].values[1] == pytest.approx(predicted_ms(row), abs=2e-6)
    assert changed > 0  # networks that the calibration alone would have turned down
    assert len(stopwatch.timed) == len(set(stopwatch.timed)) == 8  # once in a search


def test_resumed_and_other_workers_use_the_factor_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_ms, stopwatch, study = limit_met_by(0.3), Stopwatch(FACTOR * MS_PER_GMAC), new_study()
    run(make_session(stopwatch, limit_ms=limit_ms), study)
    before = len(study.trials)
    other = optuna.load_study(study_name=study.study_name, storage=storage_of(study))
    make_search(small_space(), FakeEvaluator(), study=other, n_trials=16, limits={"latency_ms": limit_ms}).run()
    rows = trial_records(other)[before:]
    assert all((row.outcome is Outcome.INFEASIBLE) is (FACTOR * predicted_ms(row) > limit_ms) for row in rows)
    surveyed, out = list[SearchSession](), io.StringIO()
    monkeypatch.setattr(session_module, "survey_space", lambda session, _: surveyed.append(session))
    monkeypatch.setattr(session_module, "_queue_first", lambda *_: None)
    session = make_session(stopwatch, limit_ms=limit_ms, n_trials=20)
    assert session.start(other, Console(file=out, width=300), lambda found: found) is other
    assert "latency: predictions x 0.87: 8 networks measured 0.87 times the prediction" in out.getvalue()
    found, expected = survey(surveyed[0].pricer, samples=300, seed=0), survey(session.pricer, samples=300, seed=0)
    assert found.fastest_ms == pytest.approx(FACTOR * expected.fastest_ms, rel=1e-3)
    assert found.slowest_ms == pytest.approx(FACTOR * expected.slowest_ms, rel=1e-3)
    assert len(found.feasible) > len(expected.feasible)


def test_networks_that_are_not_off_alike_change_nothing() -> None:
    study = new_study()
    said = run(make_session(Uneven(MS_PER_GMAC)), study)
    assert "they are not off alike, so that no common factor corrects them. Calibrate again when" in said
    assert "when_busy=wait), or set latency.refine=true; either under another study.name" in said
    assert latency_scale(study) == 1 and correction_text(study) == ""
    assert all(row.latency_ms == pytest.approx(predicted_ms(row), abs=1e-6) for row in trial_records(study))
    exact = new_study()
    assert "alike" not in run(make_session(Stopwatch(MS_PER_GMAC * 1.03)), exact) and latency_scale(exact) == 1


@pytest.mark.parametrize(
    ("factor", "others", "scale"),
    [(0.87, 0.0, 0.87), (0.87, 1.9, 0.87), (1.2, 0.0, 1.2), (1.2, None, 1.2), (1.2, 1.9, 1.0)],
)
def test_other_programs_explain_slow_measurements_but_not_fast_ones(
    factor: float, others: float | None, scale: float
) -> None:
    search = make_search(small_space(), FakeEvaluator(), n_trials=6)
    search.run()
    measure_rows(trial_records(search.study)[:6], search.study, search.pricer, Stopwatch(factor * MS_PER_GMAC))
    said = correct_latencies(search.study, others, "")
    assert latency_scale(search.study) == pytest.approx(scale, abs=1e-4)
    assert ("other programs used 1.9 cores meanwhile" in said) is (scale != pytest.approx(factor))
    # Decided again from the same measurements, relative to the calibration: the factor is not applied twice.
    correct_latencies(search.study, others, "")
    assert latency_scale(search.study) == pytest.approx(scale, abs=1e-4)


def test_a_few_winners_are_no_evidence() -> None:
    search = make_search(small_space(), FakeEvaluator(), n_trials=4)
    search.run()
    measure_rows(trial_records(search.study)[:3], search.study, search.pricer, Stopwatch(0.5 * MS_PER_GMAC))
    assert correct_latencies(search.study, 0.0, "") == "" and "latency_scale" not in search.study.user_attrs


def test_a_reward_is_told_against_the_corrected_latency() -> None:
    study = new_study(objective=REWARD)
    run(make_session(Stopwatch(2 * MS_PER_GMAC), objective=REWARD), study)
    trained = [row for row in trial_records(study) if row.outcome is Outcome.TRAINED]
    corrected = ["latency_scale" in study.trials[row.number].user_attrs for row in trained]
    assert corrected == sorted(corrected) and {True, False} == set(corrected)
    for row, is_corrected in zip(trained, corrected, strict=True):
        latency_ms = predicted_ms(row) * (2 if is_corrected else 1)
        assert study.trials[row.number].value == pytest.approx(REWARD.reward(row.accuracy or 0.0, latency_ms), rel=1e-4)
        assert REWARD.reward_of(row) == pytest.approx(
            REWARD.reward(row.accuracy or 0.0, 2 * predicted_ms(row)), rel=1e-4
        )
    curves = learning_curves(study, REWARD)
    assert all(curves[row.number][-1][1] == pytest.approx(row.accuracy, rel=1e-6) for row in trained)


def ended(outcomes: Sequence[Outcome]) -> optuna.Study:
    """A study whose trials ended like this."""
    study = new_study()
    for outcome in outcomes:
        study.add_trial(optuna.trial.create_trial(state=TrialState.PRUNED, user_attrs={"outcome": str(outcome)}))
    return study


def test_the_check_comes_once_after_a_quarter_or_after_many_were_turned_down() -> None:
    def due(trained: int, turned_down: int, n_trials: int = 16) -> bool:
        return is_check_due(ended([Outcome.INFEASIBLE] * turned_down + [Outcome.STOPPED] * trained), n_trials)

    assert [due(trained, 0) for trained in (0, 3, 4, 15, 16)] == [False, False, True, True, False]
    assert [due(1, turned_down) for turned_down in (39, 40)] == [False, True] and due(0, 40)
    assert not due(6, 40, n_trials=7)  # little is left to correct
    checked = ended([Outcome.STOPPED] * 8)
    checked.set_user_attr("latency_scale", 1.0)
    assert not is_check_due(checked, 16)


def test_turned_down_networks_closest_to_the_limit_fill_up_the_check() -> None:
    limit_ms = limit_met_by(0.1)
    search = make_search(small_space(), FakeEvaluator(), n_trials=2, limits={"latency_ms": limit_ms})
    search.run()
    rows = trial_records(search.study)
    chosen = networks_to_check(rows, PARETO, limit_ms)
    trained = {row.arch_id for row in rows if row.outcome is Outcome.TRAINED}
    above = sorted({(row.latency_ms or 0.0, row.arch_id) for row in rows if row.outcome is Outcome.INFEASIBLE})
    assert len(trained) == 2 and {row.arch_id for row in chosen[:2]} == trained
    assert [row.latency_ms for row in chosen[2:]] == [latency_ms for latency_ms, _ in above[: len(chosen) - 2]]
    assert len({row.arch_id for row in chosen}) == len(chosen) == min(8, 2 + len(above))
    assert networks_to_check(rows, PARETO, None) == []  # two alone are no evidence


def test_a_machine_too_busy_to_measure_does_not_end_the_search() -> None:
    def trouble(_: int, __: ArchSpec) -> None:
        raise NasError("the machine changed speed; close other programs.")

    study, stopwatch = new_study(), Stopwatch(MS_PER_GMAC, trouble)
    said = run(make_session(stopwatch), study)
    assert "the predicted latencies were not checked: the machine changed speed; close other programs." in said
    assert len(stopwatch.timed) == 1 and latency_scale(study) == 1
    assert sum(row.outcome is Outcome.TRAINED for row in trial_records(study)) == 12


def test_a_search_that_refines_its_predictor_corrects_nothing_besides() -> None:
    study, stopwatch = new_study(), Stopwatch(0.5 * MS_PER_GMAC)
    session = make_session(stopwatch, latency=LatencySettings(refine=True))
    make_search(small_space(), FakeEvaluator(), study=study, n_trials=6).run()
    said: list[str] = []
    session.check_latencies(study, said.append)
    session.measure_networks(trial_records(study), study, said.append)
    assert said == [] and "latency_scale" not in study.user_attrs and len(stopwatch.timed) == 6


def test_the_report_compares_measurements_with_the_calibration_itself() -> None:
    study = new_study()
    run(make_session(Stopwatch(0.8 * MS_PER_GMAC)), study)
    agreement = latency_agreement(trial_records(study), {}, scale=latency_scale(study))
    assert agreement.mean_ratio == pytest.approx(1 / 0.8, rel=1e-3)
    assert "as calibrated; everywhere else predictions are multiplied by 0.80" in str(agreement)
    assert all(pair.predicted_ms == pytest.approx(pair.measured_ms / 0.8, rel=1e-3) for pair in agreement.pairs)
