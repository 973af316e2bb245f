"""Latency of one int8 file beside float32, in a sentence."""

from __future__ import annotations

from nas.core.formatting import ms_with_error, number_with_error
from nas.exporters.formats import ImageBatch, Run
from nas.latency.bench.verdicts import GAIN_TEXTS, gain_of
from nas.latency.host import describe
from nas.latency.measure.side_by_side import measure_side_by_side
from nas.latency.measure.timer import ROUNDS, RUNS


def compare_int8(before: Run, after: Run, images: ImageBatch, *, backend: str, threads: int) -> str:
    """Say whether int8 (``after``) is faster than float32 (``before``).

    They are timed in turns. ``images``: one batch, float32 (N, C, H, W).

    Raises: NasError if the clock jumps all the time.
    """
    devices = [describe(backend, threads, len(images), precision) for precision in ("float32", "int8")]
    timed = measure_side_by_side([lambda: before(images), lambda: after(images)], devices, rounds=ROUNDS, runs=RUNS)
    base, int8 = timed.measurements
    ratio = int8.latency_ms / base.latency_ms
    error = ratio * timed.ratio_errors[1][0]
    return (
        f"int8 takes {ms_with_error(int8.latency_ms, int8.error_ms)}, {number_with_error(ratio, error, 3)} of "
        f"float32's time{GAIN_TEXTS[gain_of(ratio, error, 1)]} ({int8.device})"
    )
