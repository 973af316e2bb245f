"""Tests of queue-law fits: known devices, outliers, priors of related devices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from nas.latency.predictors.queue_fit import (
    DEFAULT_PRIOR,
    QueuePrices,
    _Problem,
    fit_and_cross_validate,
    fit_queue_prices,
    queue_ms,
)
from nas.latency.predictors.queue_law import ISSUE, NAMES, ONCE, design_matrix, stack_designs
from nas.latency.random_networks import random_specs

DESIGNS = stack_designs([design_matrix(spec) for spec in random_specs(140, seed=4)])
SEEN, UNSEEN = DESIGNS[:80], DESIGNS[80:]


def device(seed: int, issue: float) -> QueuePrices:
    """Synthetic device: prices off the default ones by factors around 1.6.

    The host is ``issue`` times as slow.
    """
    log_ms = DEFAULT_PRIOR.log_ms + np.random.default_rng(seed).normal(0, 0.5, len(NAMES)) + np.log(issue) * ISSUE
    return QueuePrices(log_ms=log_ms, spread=np.zeros(len(NAMES)))


def errors(fitted: QueuePrices, truth: QueuePrices) -> np.ndarray:
    """Relative errors on unseen networks, shape (networks,)."""
    return np.abs(queue_ms(UNSEEN, fitted) / queue_ms(UNSEEN, truth) - 1)


@pytest.mark.parametrize("issue", [0.01, 1.0, 20.0])
def test_unseen_networks_are_predicted_whether_host_or_processor_limits(issue: float) -> None:
    truth = device(1, issue)
    fitted = fit_queue_prices(SEEN, queue_ms(SEEN, truth), DEFAULT_PRIOR)
    # 80 exact measurements for 32 prices: what remains is the prior's regularisation and prices of rare operations.
    assert np.median(errors(fitted, truth)) < 0.03
    assert np.quantile(errors(fitted, truth), 0.9) < 0.12


def test_the_fit_is_robust_against_a_fifth_of_slow_runs() -> None:
    truth, rng = device(2, 1.0), np.random.default_rng(0)
    measured = queue_ms(SEEN, truth) * rng.normal(1, 0.02, len(SEEN)) * np.where(rng.random(len(SEEN)) < 0.2, 1.4, 1.0)
    assert np.median(errors(fit_queue_prices(SEEN, measured, DEFAULT_PRIOR), truth)) < 0.04
    assert (measured / queue_ms(SEEN, truth)).mean() > 1.06  # the bias of a fit of means


def test_ten_networks_suffice_where_a_related_device_is_known() -> None:
    relative = device(3, 1.0)
    change = np.random.default_rng(5).normal(0, 0.15, len(NAMES)) + np.log(3) - np.log(4) * ISSUE
    truth = QueuePrices(log_ms=relative.log_ms + change, spread=relative.spread)
    measured = queue_ms(SEEN[:10], truth)
    alone, _ = fit_and_cross_validate(SEEN[:10], measured, [DEFAULT_PRIOR])
    taught, _ = fit_and_cross_validate(SEEN[:10], measured, [DEFAULT_PRIOR, *relative.priors()])
    factor = np.median(measured / queue_ms(SEEN[:10], relative))
    scaled = np.abs(queue_ms(UNSEEN, relative) * factor / queue_ms(UNSEEN, truth) - 1)
    assert np.median(errors(taught, truth)) < min(np.median(errors(alone, truth)), np.median(scaled))
    assert np.median(errors(taught, truth)) < 0.08


def test_an_unrelated_device_as_prior_does_little_harm() -> None:
    truth, stranger = device(6, 20.0), device(7, 0.01)
    measured = queue_ms(SEEN[:20], truth)
    alone, _ = fit_and_cross_validate(SEEN[:20], measured, [DEFAULT_PRIOR])
    misled, _ = fit_and_cross_validate(SEEN[:20], measured, [DEFAULT_PRIOR, *stranger.priors()])
    assert np.median(errors(misled, truth)) < 1.3 * np.median(errors(alone, truth)) + 0.01


def test_held_out_predictions_come_from_fits_without_their_network() -> None:
    measured = queue_ms(SEEN, device(1, 1.0))
    calls: list[tuple[int, int]] = []
    _, held_out = fit_and_cross_validate(
        SEEN[:30], measured[:30], [DEFAULT_PRIOR], lambda done, total: calls.append((done, total))
    )
    unseen = np.arange(30) % 10 != 4
    expected = queue_ms(SEEN[:30][~unseen], fit_queue_prices(SEEN[:30][unseen], measured[:30][unseen], DEFAULT_PRIOR))
    assert held_out[~unseen] == pytest.approx(expected)
    assert calls == [(step, 11) for step in range(12)]


def test_jacobian_matches_finite_differences() -> None:
    measured = queue_ms(SEEN[:6], device(1, 1.0))
    problem = _Problem(designs=SEEN[:6], log_ms=np.log(measured), prior=DEFAULT_PRIOR, scale=0.3)
    point = np.random.default_rng(0).normal(0, 0.3, len(NAMES) + 2)
    numeric = approx_fprime(point, problem.residuals, 1e-7)
    # Residuals are in units of 0.07: differences of 1e-7 in them are good to about 1e-5.
    assert problem.jacobian(point) == pytest.approx(numeric, abs=1e-4)


def test_measured_prices_have_less_uncertainty() -> None:
    fitted = fit_queue_prices(SEEN, queue_ms(SEEN, device(1, 0.01)), DEFAULT_PRIOR)
    spread = dict(zip(NAMES, (fitted.spread / DEFAULT_PRIOR.spread).tolist(), strict=True))
    assert spread["pointwise.macs"] < 0.6
    assert spread["issue.layer"] > 0.9  # hidden behind the work
    related, scaled = fitted.priors()
    assert (related.spread > fitted.spread).all()
    assert related.spread[ONCE] <= np.hypot(1.5, 0.2)
    assert (scaled.spread < related.spread).all()
