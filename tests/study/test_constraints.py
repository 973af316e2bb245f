"""Limits: the sign and size of a violation, and the words for it."""

from __future__ import annotations

from typing import Any

import pytest

from nas.core.errors import NasError
from nas.study.constraints import Constraints

MEASURES = {"latency_ms": 30.0, "macs_m": 200.0, "params_m": 4.0, "peak_memory_mb": 8.0}


def test_violations_are_relative_and_positive_beyond_the_limit() -> None:
    limits = Constraints(latency_ms=20, macs_m=400, params_m=4)
    assert limits.violations(MEASURES) == pytest.approx({"latency_ms": 0.5, "macs_m": -0.5, "params_m": 0.0})


def test_a_network_at_the_limit_meets_it() -> None:
    assert Constraints(params_m=4.0).explain(MEASURES) == ""


def test_explain_names_what_is_broken_and_nothing_else() -> None:
    limits = Constraints(latency_ms=20, macs_m=400, peak_memory_mb=2)
    assert limits.explain(MEASURES) == "latency_ms 30 > 20; peak_memory_mb 8 > 2"


def test_without_limits_there_is_nothing_to_violate() -> None:
    assert Constraints().violations(MEASURES) == {}
    assert Constraints().explain(MEASURES) == ""
    assert str(Constraints()) == "none"
    assert str(Constraints(latency_ms=20, params_m=1.5)) == "latency_ms <= 20, params_m <= 1.5"


@pytest.mark.parametrize("name", list(MEASURES))
@pytest.mark.parametrize("limit", [-1.0, 0.0, float("nan")])
def test_a_limit_must_be_positive(name: str, limit: float) -> None:
    fields: dict[str, Any] = {name: limit}
    with pytest.raises(NasError, match=rf"constraint\.{name} .*must be a number above 0"):
        Constraints(**fields)
