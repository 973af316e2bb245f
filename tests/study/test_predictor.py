"""What is said, and waited for, where a latency predictor is calibrated beside other programs."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import pytest
from rich.console import Console

from nas.core.errors import NasError
from nas.latency.settings import LatencySettings
from nas.study.predictor import make_quiet_check


def said_of(settings: LatencySettings, loads: Sequence[float], *disturbed: bool) -> tuple[list[str], int]:
    """Lines of a calibration whose chunks were ``disturbed``, and how often the load was read."""
    out, left = io.StringIO(), list(loads)
    check = make_quiet_check(settings, Console(file=out, width=300), lambda _: left.pop(0), "latency.when_busy")
    for before in disturbed:
        check(before)
    return out.getvalue().splitlines(), len(loads) - len(left)


def test_by_default_a_busy_machine_is_said_once_with_the_offer_to_wait() -> None:
    lines, read = said_of(LatencySettings(), [1.9], False, True, True)
    assert read == 1
    assert lines == [
        f"other programs use 1.9 of {os.cpu_count()} cores, and beside them a calibration is inaccurate: "
        "latency.when_busy=wait waits until they are quiet."
    ]
    assert said_of(LatencySettings(), [0.1], False)[0] == []


def test_it_waits_at_the_start_and_after_each_disturbed_chunk() -> None:
    settings = LatencySettings(when_busy="wait", wait_s=100)
    lines, read = said_of(settings, [1.9, 1.8, 0.0, 0.1], False, False, True, False)
    assert read == 4  # busy, busy, quiet; then, after the disturbed chunk, quiet
    assert lines == [
        f"other programs use 1.9 of {os.cpu_count()} cores; waited 5 of at most 100 s for a quiet machine; Ctrl-C ends "
        "this, latency.when_busy=warn does not wait",
        "the machine is quiet: calibrating",
    ]
    lines, _ = said_of(settings, [2.0] * 12 + [0.0], False)
    assert [line.partition("; ")[2].partition(" s ")[0] for line in lines[:-1]] == [
        "waited 5 of at most 100",
        "waited 30 of at most 100",
        "waited 60 of at most 100",
    ]
    with pytest.raises(NasError, match=r"still use 2\.0 cores after 100 s"):
        said_of(settings, [2.0] * 30, False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"when_busy": "later"}, r"unknown latency\.when_busy 'later': choose from wait, warn"),
        ({"wait_s": -1}, r"latency\.wait_s -1: must be a number of at least 0"),
    ],
)
def test_other_settings_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(NasError, match=words):
        LatencySettings(**change)
