"""What a benchmark shows: which forms differ, and whether int8 pays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Final

from nas.core.formatting import number_with_error
from nas.core.statistics import binomial_tail
from nas.latency.bench.results import FLOAT, BenchAccuracy, BenchResult

SIGNIFICANCE: Final = 0.05  # of all comparisons of a network together (Bonferroni)


class Gain(StrEnum):
    """How the latency of a quantised form compares with float32's."""

    FASTER = "faster"
    SLOWER = "slower"
    EQUAL = "equal"  # the noise does not separate them


# What follows "0.70 ± 0.01 of float32's time" in a sentence.
GAIN_TEXTS: Final = {
    Gain.FASTER: "",
    Gain.SLOWER: ": slower here, ship float32",
    Gain.EQUAL: ", which the noise does not separate: no gain but size",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Verdict:
    """A quantised form against float32 in the same runtime.

    ``row``, ``base``: their indices in ``network``. ``ratio``: of the latencies, with its standard error. ``p_loss``:
    two-sided p-value of equal accuracy (McNemar's exact test), None where the accuracy is unknown.
    """

    network: BenchResult
    row: int
    base: int
    gain: Gain
    ratio: float
    ratio_error: float
    p_loss: float | None

    @property
    def loses_accuracy(self) -> bool:
        """Whether the quantised form is significantly less accurate."""
        accuracy = self.network.rows[self.row].accuracy
        change = accuracy.change if accuracy else None
        return self.p_loss is not None and self.p_loss < SIGNIFICANCE and change is not None and change < 0

    @property
    def text(self) -> str:
        """The verdict in a sentence."""
        row = self.network.rows[self.row]
        ratio = number_with_error(self.ratio, self.ratio_error, 3)
        how = f"takes {ratio} of float32's time{GAIN_TEXTS[self.gain]}"
        return f"{self.network.name}, {row.label}: {how}{_accuracy_text(row.accuracy, self)}"


def int8_verdicts(network: BenchResult) -> list[Int8Verdict]:
    """Compare every quantised form of ``network`` with float32 in the same runtime."""
    pairs = [
        (index, base)
        for index, row in enumerate(network.rows)
        for base, other in enumerate(network.rows)
        if row.precision != FLOAT == other.precision and (row.runtime, row.rewrite) == (other.runtime, other.rewrite)
    ]
    verdicts = []
    for index, base in pairs:
        ratio, error = network.ratio(index, base)
        verdicts.append(
            Int8Verdict(
                network=network,
                row=index,
                base=base,
                gain=gain_of(ratio, error, len(pairs)),
                ratio=ratio,
                ratio_error=error,
                p_loss=_p_value(network.rows[index].accuracy),
            )
        )
    return verdicts


def gain_of(ratio: float, error: float, comparisons: int) -> Gain:
    """What a ratio to float32's latency says; arguments as of ``ratio_sign``."""
    return {-1: Gain.FASTER, 0: Gain.EQUAL, 1: Gain.SLOWER}[ratio_sign(ratio, error, comparisons)]


def ratio_sign(ratio: float, error: float, comparisons: int) -> int:
    """1 if a ratio of latencies is above 1, -1 if it is below, 0 within the noise.

    At the 5% level, two-sided, with Bonferroni's correction for ``comparisons``.
    """
    deviates = NormalDist().inv_cdf(1 - SIGNIFICANCE / (2 * max(1, comparisons)))
    if abs(math.log(ratio)) <= deviates * error / ratio:
        return 0
    return 1 if ratio > 1 else -1


def fastest(network: BenchResult) -> tuple[int, list[int]]:
    """Index of the fastest row, and of those that the noise does not separate from it."""
    rows = network.rows
    best = min(range(len(rows)), key=lambda index: rows[index].latency_ms)
    near = [
        index
        for index in range(len(rows))
        if index != best and ratio_sign(*network.ratio(index, best), len(rows) - 1) == 0
    ]
    return best, near


def is_separated(network: BenchResult, row: int, base: int = 0) -> bool:
    """Whether the latencies of two rows differ beyond the noise."""
    return row == base or ratio_sign(*network.ratio(row, base), len(network.rows) - 1) != 0


def verdict_lines(networks: Sequence[BenchResult]) -> list[str]:
    """The fastest form of each network, and whether int8 pays, one sentence each."""
    lines = []
    for network in networks:
        if len(network.rows) > 1:
            best, near = fastest(network)
            equal = f"; not separated from it: {', '.join(network.rows[index].label for index in near)}" if near else ""
            lines.append(f"{network.name}: fastest is {network.rows[best].label}{equal}")
        lines += [verdict.text for verdict in int8_verdicts(network)]
    return lines


def _p_value(accuracy: BenchAccuracy | None) -> float | None:
    counts = accuracy.changed if accuracy else None
    if counts is None:
        return None
    return min(1.0, 2 * binomial_tail(max(counts), sum(counts), 0.5)) if any(counts) else 1.0


def _accuracy_text(accuracy: BenchAccuracy | None, verdict: Int8Verdict) -> str:
    if accuracy is None or accuracy.change is None or accuracy.change_error is None:
        return ""
    text = f"; accuracy {100 * accuracy.change:+.2f} ± {100 * accuracy.change_error:.2f} points"
    return f"{text}, a significant loss" if verdict.loses_accuracy else text
