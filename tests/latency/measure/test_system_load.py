"""Tests of waiting for a quiet machine, whose load is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from nas.core.errors import NasError
from nas.latency.measure.system_load import DISTURBING_CORES, WINDOW_S, is_busy, wait_until_quiet


def script(loads: Sequence[float | None], asked: list[float]) -> Callable[[float], float | None]:
    """A load meter that reads ``loads``, one per window."""
    left = iter(loads)

    def load(window_s: float) -> float | None:
        asked.append(window_s)
        return next(left)

    return load


def test_it_waits_window_by_window_until_others_are_quiet() -> None:
    asked, heard = list[float](), list[tuple[float, float]]()
    wait_until_quiet(600, lambda others, waited_s: heard.append((others, waited_s)), script([1.9, 0.3, 0.2], asked))
    assert asked == [WINDOW_S] * 3
    assert heard == [(1.9, WINDOW_S), (0.3, 2 * WINDOW_S)]
    assert not is_busy(DISTURBING_CORES) and is_busy(0.3) and not is_busy(None)


def test_it_waits_no_longer_than_told_and_says_what_to_do() -> None:
    asked, heard = list[float](), list[tuple[float, float]]()
    words = r"other programs still use 1\.9 cores after 15 s; close them, raise latency\.wait_s, .*when_busy=warn"
    with pytest.raises(NasError, match=words):
        wait_until_quiet(15, lambda *what: heard.append(what), script([1.9] * 9, asked))
    assert len(asked) == 3 and len(heard) == 2


def test_a_system_that_does_not_report_its_load_cannot_be_waited_for() -> None:
    with pytest.raises(NasError, match="does not report how busy it is"):
        wait_until_quiet(600, print, script([None], []))


def test_ctrl_c_ends_the_wait() -> None:
    def interrupted(_: float) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_until_quiet(600, print, interrupted)
