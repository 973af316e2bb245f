"""Tests of reading ONNX Runtime's profiles."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas.arch import zoo
from nas.latency.measure.ort_profile import ProfiledNetwork, typical_times_us


def test_times_are_means_of_the_middle_runs_at_the_typical_speed() -> None:
    true_us = np.array([40.0, 7.0])
    slowdowns = np.array([math.nan, 1.0, 2.0, 1.25, 0.8, 1.0, 1.0, 1.0, 1.0])
    durations_us = true_us * np.nan_to_num(slowdowns, nan=9.0)[:, None] - 0.5  # as if rounded down by half on average
    assert typical_times_us(durations_us, slowdowns) == pytest.approx(true_us)
    durations_us[3] *= 50  # an interruption
    assert typical_times_us(durations_us, slowdowns) == pytest.approx(true_us)


def test_times_are_those_of_counted_runs_and_leave_nothing_behind() -> None:
    network = ProfiledNetwork(zoo.get("mobilenetv3_small_050"), threads=1, batch=1, seed=0)
    for _ in range(5):
        network.run()
    events = network.finish([math.nan, 1.0, 1.0, 1.0])  # the last run does not count
    assert all(us >= 0.5 for _, us in events)
    assert len({event["name"] for event, _ in events}) == len(events)
