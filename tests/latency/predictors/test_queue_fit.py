"""Fits recover latencies of a known device, bear outliers, and learn from related devices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from nas.latency.predictors.queue_fit import (
    ROUGH_BELIEF,
    QueuePrices,
    _Problem,
    fit_queue_prices,
    queue_ms,
    update_belief,
)
from nas.latency.predictors.queue_law import ISSUE, NAMES, ONCE, cuts, stacked
from nas.latency.random_networks import random_specs

CUTS = stacked([cuts(spec) for spec in random_specs(140, seed=4)])
SEEN, UNSEEN = CUTS[:80], CUTS[80:]


def device(seed: int, issue: float) -> QueuePrices:
    """A made-up device: prices off the rough ones by factors around 1.6, the host ``issue`` times as slow."""
    log_ms = ROUGH_BELIEF.log_ms + np.random.default_rng(seed).normal(0, 0.5, len(NAMES)) + np.log(issue) * ISSUE
    return QueuePrices(log_ms=log_ms, spread=np.zeros(len(NAMES)))


def errors(found: QueuePrices, truth: QueuePrices) -> np.ndarray:
    return np.abs(queue_ms(UNSEEN, found) / queue_ms(UNSEEN, truth) - 1)


@pytest.mark.parametrize("issue", [0.01, 1.0, 20.0])
def test_unseen_networks_are_foreseen_whether_host_or_processor_decides(issue: float) -> None:
    truth = device(1, issue)
    found = fit_queue_prices(SEEN, queue_ms(SEEN, truth), ROUGH_BELIEF)
    # 80 exact measurements for 32 prices: the beliefs' pull and prices of rare operations are left.
    assert np.median(errors(found, truth)) < 0.03
    assert np.quantile(errors(found, truth), 0.9) < 0.12


def test_a_fifth_of_slow_runs_is_borne() -> None:
    truth, rng = device(2, 1.0), np.random.default_rng(0)
    measured = queue_ms(SEEN, truth) * rng.normal(1, 0.02, len(SEEN)) * np.where(rng.random(len(SEEN)) < 0.2, 1.4, 1.0)
    assert np.median(errors(fit_queue_prices(SEEN, measured, ROUGH_BELIEF), truth)) < 0.04
    assert (measured / queue_ms(SEEN, truth)).mean() > 1.06  # what a fit of means would have been drawn to


def test_ten_networks_suffice_where_a_relative_is_known() -> None:
    relative = device(3, 1.0)
    change = np.random.default_rng(5).normal(0, 0.15, len(NAMES)) + np.log(3) - np.log(4) * ISSUE
    truth = QueuePrices(log_ms=relative.log_ms + change, spread=relative.spread)
    measured = queue_ms(SEEN[:10], truth)
    alone, _ = update_belief(SEEN[:10], measured, [ROUGH_BELIEF])
    taught, _ = update_belief(SEEN[:10], measured, [ROUGH_BELIEF, *relative.beliefs()])
    factor = np.median(measured / queue_ms(SEEN[:10], relative))
    scaled = np.abs(queue_ms(UNSEEN, relative) * factor / queue_ms(UNSEEN, truth) - 1)
    assert np.median(errors(taught, truth)) < min(np.median(errors(alone, truth)), np.median(scaled))
    assert np.median(errors(taught, truth)) < 0.08


def test_a_useless_relative_does_no_great_harm() -> None:
    truth, stranger = device(6, 20.0), device(7, 0.01)
    measured = queue_ms(SEEN[:20], truth)
    alone, _ = update_belief(SEEN[:20], measured, [ROUGH_BELIEF])
    misled, _ = update_belief(SEEN[:20], measured, [ROUGH_BELIEF, *stranger.beliefs()])
    assert np.median(errors(misled, truth)) < 1.3 * np.median(errors(alone, truth)) + 0.01


def test_held_out_predictions_come_from_fits_without_their_network() -> None:
    measured = queue_ms(SEEN, device(1, 1.0))
    seen: list[tuple[int, int]] = []
    _, held_out = update_belief(
        SEEN[:30], measured[:30], [ROUGH_BELIEF], lambda done, total: seen.append((done, total))
    )
    unseen = np.arange(30) % 10 != 4
    expected = queue_ms(SEEN[:30][~unseen], fit_queue_prices(SEEN[:30][unseen], measured[:30][unseen], ROUGH_BELIEF))
    assert held_out[~unseen] == pytest.approx(expected)
    assert seen == [(step, 11) for step in range(12)]


def test_derivatives_are_those_of_differences() -> None:
    measured = queue_ms(SEEN[:6], device(1, 1.0))
    problem = _Problem(cuts=SEEN[:6], log_ms=np.log(measured), belief=ROUGH_BELIEF, scale=0.3)
    point = np.random.default_rng(0).normal(0, 0.3, len(NAMES) + 2)
    numeric = approx_fprime(point, problem.residuals, 1e-7)
    # Residuals are in units of 0.07: differences of 1e-7 in them are good to about 1e-5.
    assert problem.jacobian(point) == pytest.approx(numeric, abs=1e-4)


def test_what_was_measured_is_better_known_than_what_was_not() -> None:
    found = fit_queue_prices(SEEN, queue_ms(SEEN, device(1, 0.01)), ROUGH_BELIEF)
    spread = dict(zip(NAMES, (found.spread / ROUGH_BELIEF.spread).tolist(), strict=True))
    assert spread["pointwise.macs"] < 0.6
    assert spread["issue.layer"] > 0.9  # hidden behind the work
    relative, twin = found.beliefs()
    assert (relative.spread > found.spread).all()
    assert relative.spread[ONCE] <= np.hypot(1.5, 0.2)
    assert (twin.spread < relative.spread).all()
