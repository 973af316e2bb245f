"""Tests that the queue law equals a simulation of host and processor."""

from __future__ import annotations

import numpy as np
import pytest

from nas.arch import zoo
from nas.arch.ops.network import Op, network_ops
from nas.arch.spec import ArchSpec
from nas.latency.predictors.queue_law import (
    ISSUE,
    NAMES,
    ONCE,
    PRICES,
    Span,
    amounts,
    design_matrix,
    shares_ms,
    span,
    stack_designs,
)
from nas.latency.random_networks import random_specs
from tests.latency.dense import random_dense_specs

SPECS = [zoo.get("mobilenetv3_large_100"), zoo.get("mixnet_s"), *random_specs(4, seed=2), *random_dense_specs(2)]
PRIOR_MS = np.array([PRICES[name].ms for name in NAMES])


def prices(issue: float) -> list[float]:
    """Default prices with a host that is ``issue`` times as slow."""
    return np.where(ISSUE, PRIOR_MS * issue, PRIOR_MS).tolist()


def simulated_ms(spec: ArchSpec, prices_ms: list[float]) -> float:
    """Latency in ms by simulation, kernel by kernel.

    A kernel starts when it has been issued and the previous one has ended.
    """
    clock = end = 0.0
    for op in network_ops(spec):
        issue = sum(amount * prices_ms[index] for index, amount in amounts(op) if ISSUE[index])
        work = sum(amount * prices_ms[index] for index, amount in amounts(op) if not ISSUE[index])
        clock += issue
        end = max(clock, end) + work
    return prices_ms[ONCE] + end


@pytest.mark.parametrize("issue", [0.0, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_law_is_the_simulation_in_every_form(spec: ArchSpec, issue: float) -> None:
    paid = prices(issue)
    expected = simulated_ms(spec, paid)
    assert (design_matrix(spec) @ paid).max() == pytest.approx(expected)
    ops = list(network_ops(spec))
    assert paid[ONCE] + span(ops, paid).total_ms == pytest.approx(expected)
    for middle in (1, len(ops) // 2, len(ops) - 1):
        assert span(ops[:middle], paid).then(span(ops[middle:], paid)) == pytest.approx(span(ops, paid))
    shares = shares_ms(spec, paid)
    assert [path for path, _ in shares] == [op.path for op in ops]
    assert sum(ms for _, ms in shares) == pytest.approx(expected)
    assert min(ms for _, ms in shares) >= 0


def test_a_slow_host_counts_kernels_and_a_fast_one_work() -> None:
    spec = zoo.get("mobilenetv2_100")
    ops = list(network_ops(spec))
    host, work = (np.where(chosen, PRIOR_MS, 0.0).tolist() for chosen in (ISSUE, ~ISSUE))
    kernels = sum(1 + bool(op.norm) + bool(op.activation) for op in ops)
    assert (design_matrix(spec) @ host).max() == pytest.approx(0.02 * kernels)  # every issue costs the same, roughly
    assert (design_matrix(spec) @ work).max() == pytest.approx(
        sum(span((op,), work).work_ms for op in ops) + work[ONCE]
    )


def test_amounts_by_hand() -> None:
    op = Op("depthwise", "x", ("",), 18, 18, 14, 7, 5, 2, norm="bn1", activation="swish")
    totals: dict[str, float] = {}
    for index, amount in amounts(op):
        totals[NAMES[index]] = totals.get(NAMES[index], 0.0) + amount
    taps, out_mb = 25 * 18 * 49 * 1e-6, 18 * 49 * 4e-6
    assert totals == pytest.approx(
        {
            "issue.layer": 1, "issue.norm": 1, "issue.activation": 1, "kernel.layer": 1, "kernel.pointwise": 2,
            "depthwise5.taps": taps, "depthwise_odd.taps": taps, "depthwise.mb": 18 * 196 * 4e-6 + out_mb,
            "norm.mb": 2 * out_mb, "swish.mb": 2 * out_mb,
        }
    )  # fmt: skip
    assert amounts(Op("split", "x", ("",), 8, 8, 4, 4, parts=(4, 4))) == ()
    product = dict(amounts(Op("matmul", "x", ("", "y"), 64, 98, 7, 7, groups=2)))
    assert product[NAMES.index("pointwise.macs")] == pytest.approx(64 * 98 / 2 * 49 * 1e-6)
    unheard = dict(amounts(Op("conv", "x", ("",), 8, 8, 4, 4, activation="unheard_of")))
    assert NAMES.index("activation.mb") in unheard


def test_padding_tables_changes_no_latency() -> None:
    tables = [design_matrix(spec) for spec in SPECS]
    paid = prices(1.0)
    padded = stack_designs(tables)
    assert padded.shape == (len(SPECS), max(map(len, tables)), len(NAMES))
    assert (padded @ paid).max(axis=1).tolist() == pytest.approx([(table @ paid).max() for table in tables])


def test_nothing_costs_nothing() -> None:
    assert span((), prices(1.0)) == Span()
