"""Tests of what measuring and what the model contribute to a held-out error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nas.latency.predictors.held_out import ErrorSources, HeldOutCheck, HeldOutError

REPEATED, NETWORKS = 10, 42


def checks(relative: Sequence[float], repeated: int = REPEATED, measurements: int = 2) -> list[HeldOutCheck]:
    """Checks with these errors; the first ``repeated`` networks were measured ``measurements`` times."""
    return [
        HeldOutCheck(
            name=str(row),
            measured_ms=10.0 + row,
            predicted_ms=(10.0 + row) * (1 + error),
            measurements=measurements if row < repeated else 1,
        )
        for row, error in enumerate(relative)
    ]


def sources(relative: Sequence[float], noise: float, repeated: int = REPEATED, measurements: int = 2) -> ErrorSources:
    found = ErrorSources.of(checks(relative, repeated, measurements), noise)
    assert found is not None
    return found


def test_the_squared_error_is_the_sum_of_both_sources() -> None:
    # All networks measured twice: noise of the means is 3 of 5%, 4% remain (3, 4, 5 is a right triangle).
    found = sources([0.05, -0.05] * 50, 0.03 * 2**0.5, repeated=100)
    assert (found.total, found.measuring, found.model) == (
        pytest.approx(0.05),
        pytest.approx(0.03),
        pytest.approx(0.04),
    )
    assert found.measuring_error == pytest.approx(0.03 / 200**0.5)
    assert not found.is_mostly_measuring
    assert str(found) == (
        "RMS error 5.0%: 3.0% ± 0.2% by measuring (100 networks measured twice) and 4.0% by the model, added as squares"
    )
    assert "measured 4 times" in str(sources([0.05, -0.05] * 50, 0.03 * 4**0.5, repeated=100, measurements=4))


def test_an_error_that_noise_explains_is_not_blamed_on_the_model() -> None:
    found = sources([0.03, -0.03] * 21, 0.04)
    assert found.model is None and found.is_mostly_measuring
    assert sources([0.03, -0.03] * 21, 0.4).model_limit == pytest.approx(0.03)
    assert str(found).startswith(
        "RMS error 3.0%, not separable from 3.8% ± 0.8% by measuring (10 networks measured twice): at most "
    )


def test_without_repeated_measurements_the_error_reads_as_ever() -> None:
    relative = [0.05, -0.05] * 21
    for error in (HeldOutError.of(checks(relative), None), HeldOutError.of(checks(relative, repeated=0), 0.01)):
        assert error.sources is None
        assert str(error) == (
            "median error 5.0%, 90th percentile 5.0%, bias +0.0%, 100% within 10%, Kendall tau 0.93, on 42 held-out "
            "networks"
        )
    assert str(HeldOutError.of(checks(relative), 0.01)) == str(error)


@pytest.mark.parametrize(
    ("model", "least", "most"),
    [(0.0, 0.0, 0.07), (0.02, 0.0, 0.3), (0.03, 0.0, 0.5), (0.04, 0.0, 1.0), (0.09, 0.99, 1.0)],
)
def test_simulated_calibrations_bear_the_figures_out(model: float, least: float, most: float) -> None:
    """A thousand calibrations with errors of the model and of measuring (3%) drawn from normal distributions."""
    rng, noise = np.random.default_rng(3), 0.03
    averaged = np.where(np.arange(NETWORKS) < REPEATED, 2, 1)
    errors = rng.normal(0, model, (1000, NETWORKS))  # of the model
    found = [
        sources(row + rng.normal(0, noise / np.sqrt(averaged)), noise * np.sqrt(rng.chisquare(REPEATED) / REPEATED))
        for row in errors
    ]
    true = np.sqrt(np.mean(errors**2, axis=1))
    rest = [one.total**2 - one.measuring**2 for one in found]
    assert np.mean(rest) == pytest.approx(model**2, abs=4 * np.std(rest) / 1000**0.5)
    assert np.mean([one.model_limit for one in found] >= true) >= 0.93
    assert least <= np.mean([one.model is not None for one in found]) <= most
