"""Tests of the random networks of calibrations."""

from __future__ import annotations

from nas.arch.complexity import complexity
from nas.arch.heads import backbone
from nas.latency.random_networks import MACS_RANGE, random_network, random_spec


def test_some_networks_are_detectors_and_segmenters_of_the_same_blocks() -> None:
    seed, count = 4, 200
    networks = [random_network(seed, index) for index in range(count)]
    assert networks == [random_network(seed, index) for index in range(count)]
    plain = [random_spec(seed, index) for index in range(count)]
    tasks = [spec.task for spec in networks]
    # A fifth are drawn, of which some cannot have the head; four standard deviations of a binomial below and above.
    assert 0.05 < 1 - tasks.count("classification") / count < 0.32
    assert min(tasks.count("detection"), tasks.count("segmentation")) >= 5
    for spec, own in zip(networks, plain, strict=True):
        assert MACS_RANGE[0] <= complexity(spec).macs <= MACS_RANGE[1]
        if spec.task == "classification":
            assert spec == own
        else:
            assert backbone(spec).stages == own.stages
