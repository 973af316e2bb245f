"""Forms of blocks as they are priced: the fastest together, by kernels that really run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from nas.arch import zoo
from nas.arch.ops.network import network_segments
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.exporters.rewriting.candidates import candidates
from nas.exporters.rewriting.forms import PLAIN
from nas.latency.arrays import FloatArray, Indices
from nas.latency.calibration.collect import sample_kernels
from nas.latency.host import describe
from nas.latency.kernels.kernel import Context, kernel_elements
from nas.latency.kernels.network_times import NetworkTimes
from nas.latency.kernels.ort_lowering import Kernel, network_calls
from nas.latency.measure.kernel_match import match_kernels
from nas.latency.measure.ort_profile import ProfiledNetwork

LANE = 8
MIXED = ArchSpec.from_strings(
    "mixed",
    [["ir_r1_k3.5.7_s2_e4_a1.1_c24_se0.25"], ["ir_r2_k3.5.7.9_s1_e3_p1.1_c24"]],
    stem=StemSpec(channels=24),
    head=HeadSpec(channels=32),
    resolution_px=56,
    classes=10,
    activation="swish",
)


def kernel_time(kernel: Kernel) -> float:
    """A device on which plain kernels and conversions are slow, the latter by an arbitrary factor for each shape."""
    macs, moved, _ = kernel_elements(kernel, LANE)
    whim = random.Random(str(kernel)).uniform(0.5, 2.0)
    return (macs / 1e6 + moved / 1e5 * (1 if kernel.blocked else 3)) * whim + 0.1


def evaluate(kernels: Sequence[Kernel], contexts: Sequence[Context], rows: Indices, columns: Indices) -> FloatArray:
    return np.array([kernel_time(kernel) for kernel in kernels])[rows]


def test_the_fastest_forms_together_are_found() -> None:
    blocks = network_segments(MIXED)[1:-1]
    choices = [[one.form for one in candidates(part, MIXED.padding, LANE)] for part in blocks]
    assert np.prod([len(forms) for forms in choices]) > 100
    every = {
        forms: sum(kernel_time(call.kernel) for call in network_calls(MIXED, LANE, forms))
        for forms in product(*choices)
    }
    fastest = min(every, key=every.__getitem__)
    times = NetworkTimes(evaluate, LANE, rewrites=True)
    (total,) = times.totals([(MIXED, None)])
    assert total == pytest.approx(every[fastest])
    assert times.forms(MIXED) == fastest
    assert times.of_kernels(MIXED).sum() == pytest.approx(total)
    (plain,) = NetworkTimes(evaluate, LANE).totals([(MIXED, None)])
    assert plain == pytest.approx(every[(PLAIN,) * len(blocks)]) and plain > total


def test_prices_do_not_depend_on_the_networks_beside() -> None:
    specs = [replace(MIXED, resolution_px=px) for px in (32, 40, 56)] + [zoo.get("mobilenetv2_100")]
    together = NetworkTimes(evaluate, LANE, rewrites=True).totals([(spec, None) for spec in specs])
    alone = [NetworkTimes(evaluate, LANE, rewrites=True).totals([(spec, None)])[0] for spec in specs]
    assert together.tolist() == pytest.approx(alone, rel=1e-12)


def test_rewritten_blocks_run_the_kernels_that_are_predicted() -> None:
    lane, match = sample_kernels(describe("onnxruntime"))
    if match.unknown_us or match.absent:
        pytest.skip("plain networks run unknown kernels on this processor, or in this version of ONNX Runtime")
    rng = random.Random(1)
    for name in ("mixnet_s", "mixnet_l"):
        spec = replace(zoo.get(name), resolution_px=64)
        blocks = network_segments(spec)[1:-1]
        forms = tuple(rng.choice(candidates(part, spec.padding, lane)).form for part in blocks)
        profile = ProfiledNetwork(spec, threads=1, batch=1, seed=0, forms=forms)
        profile.run()
        match = match_kernels(profile.finish([1.0]), list(network_calls(spec, lane, forms)))
        assert (match.unknown_us, match.absent) == ({}, 0)
