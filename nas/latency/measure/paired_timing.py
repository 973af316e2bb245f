"""Paired timing: every timed run stands between two runs of a speed probe.

The speed of a machine changes: its clock, and what neighbours on the same host leave of its caches and its core. On a
virtual machine with two cores it moved by 20 to 30% within seconds. So a run counts relative to a small network, the
probe, which runs right before and right after it: the lower quartile of these ratios over many short turns is the
latency of the network in units of the probe, whatever the speed was. What a probe takes in ms is determined apart, from
all of its runs.

Compared on recorded runs of 12 published networks (`tests/benchmarks/latency_design.py`):

- The probe fits into the inner caches and runs in a tenth of a millisecond, so that it sees the core's speed alone, at
  the time of the run. A network as large as those that are measured, mobilenetv3_small_100, was a worse reference than
  none: contention for the outer caches changes its latency by more than that of most networks.
- Two runs fetch the probe back into the caches; the third is timed. The second still depends on the network before it.
- The faster of the probes before and after counts: an interruption that hits a probe alone does not make the network
  look fast.
- Errors of one turn are alike, so that ten short turns are better than six long ones. Three runs of a turn are not
  timed, because a small network is 6 to 9% too slow in its third run still.
- The lower quartile of the ratios repeats better than their median: what disturbs a run but not the probes around it
  only adds time.

Tried on the same recordings, without gain, and not in that script: references of other characters beside the probe (16
MB of weights read once, mobilenetv3_small_100, mixnet_s), alone, averaged, or with a weight for each network by
regression (ridge, shrunk to the mean of all); only those runs whose probes before and after agree within 5%.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from nas.core.errors import NasError
from nas.latency.arrays import FloatArray
from nas.latency.measure.backends import Runner

Timer = Callable[[Runner], float]

COLD_RUNS: Final = 3  # runs of a turn that are not timed: caches fill again
PROBE_COLD_RUNS: Final = 2  # the same of the probe
# A run that takes this many times as long as the others of its network shows that the machine was suspended or its
# clock was set, not how fast the network is.
_IMPOSSIBLE: Final = 10.0
# Of the ratios of a network. Interference only adds time, and unlike the minimum a quartile does not depend on a single
# fast run.
QUANTILE: Final = 0.25
_RESAMPLES: Final = 60  # a standard error from as many is exact to within a tenth


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTimes:
    """Durations of interleaved runs in s, and of the speed probe around each.

    ``runs_s`` and ``probes_s``: shape (rounds, networks, runs); the latter holds the faster of the probe's runs right
    before and right after each run. NaN where a clock jumped.
    """

    runs_s: FloatArray
    probes_s: FloatArray

    @property
    def probe_s(self) -> float:
        """Median duration of the probe: the typical speed of the machine."""
        return float(_quantile(self.probes_s.ravel(), 0.5))

    def ratios(self) -> FloatArray:
        """Latencies of the networks in units of the probe's, shape (networks,)."""
        return _quantile(_by_network(self.runs_s / self.probes_s), QUANTILE)

    def relative_errors(self) -> FloatArray:
        """Standard errors of the ratios, relative, shape (networks,).

        By bootstrap over rounds, because runs of one turn err alike; NaN for a network with fewer than two rounds. What
        all rounds of a call have in common, such as a neighbour on the same host, is not in it: calls minutes apart
        differed by up to 3% (standard deviation) for networks below 2 ms.
        """
        has_error = self._has_two_rounds()
        if not has_error.any():
            return np.full(len(has_error), np.nan)
        return np.where(has_error, self._bootstrap_errors(self._resampled_logs()), np.nan)

    def ratio_errors(self) -> FloatArray:
        """Standard errors of the latency of one network divided by another's, relative.

        Shape (networks, networks), symmetric. By the same bootstrap: what slows all networks of a round down cancels.
        NaN for networks with fewer than two rounds.
        """
        has_error = self._has_two_rounds()
        if not has_error.any():
            return np.full((len(has_error), len(has_error)), np.nan)
        logs = self._resampled_logs()
        errors = self._bootstrap_errors(logs[:, :, None] - logs[:, None, :])
        return np.where(has_error[:, None] & has_error, errors, np.nan)

    def _has_two_rounds(self) -> npt.NDArray[np.bool_]:
        """Whether each network was timed in two rounds or more, shape (networks,)."""
        ratios = self.runs_s / self.probes_s
        return np.asarray(np.count_nonzero(~np.isnan(ratios).all(axis=2), axis=0) >= 2)

    def _resampled_logs(self) -> FloatArray:
        """Logarithms of the ratios over rounds drawn with replacement, (draws, networks)."""
        ratios, rounds = self.runs_s / self.probes_s, len(self.runs_s)
        rng = np.random.default_rng(0)
        drawn = [rng.integers(rounds, size=rounds) for _ in range(_RESAMPLES)]
        return np.log([_quantile(_by_network(ratios[rows]), QUANTILE) for rows in drawn])

    def _bootstrap_errors(self, logs: FloatArray) -> FloatArray:
        """Standard errors from resampled logarithms, shape (draws, ...)."""
        rounds = len(self.runs_s)
        return np.asarray(np.nanstd(logs, axis=0, ddof=1) * np.sqrt(rounds / (rounds - 1)))

    def turn_probes_s(self) -> FloatArray:
        """Median durations of the probe turn by turn, without lost ones, shape (turns,)."""
        turns = _quantile(self.probes_s, 0.5).ravel()
        return turns[~np.isnan(turns)]

    def slowdowns(self) -> FloatArray:
        """How much slower than typical the machine was in each run, shape as ``runs_s``."""
        return np.asarray(self.probes_s / self.probe_s)

    def spreads(self) -> FloatArray:
        """Interquartile ranges of the ratios, shape (networks,)."""
        ratios = _by_network(self.runs_s / self.probes_s)
        return _quantile(ratios, 0.75) - _quantile(ratios, 0.25)

    def __add__(self, other: PairedTimes) -> PairedTimes:
        """The rounds of both."""
        return PairedTimes(
            runs_s=np.concatenate([self.runs_s, other.runs_s]), probes_s=np.concatenate([self.probes_s, other.probes_s])
        )


def time_in_turns(runners: Sequence[Runner], probe: Runner, *, rounds: int, runs: int, timer: Timer) -> PairedTimes:
    """Time runners in turns, with ``probe`` around each of ``runs`` runs of a turn.

    The first ``COLD_RUNS`` runs of a turn are not timed. Durations are in the unit of ``timer``, a second. Every runner
    has run before: the first run allocates.

    Raises: NasError if more than half of the durations of a runner are no durations, because the clock jumped.
    """
    shape = (rounds, len(runners), runs)
    runs_s, probes_s = np.empty(shape), np.empty(shape)

    def probed() -> float:
        for _ in range(PROBE_COLD_RUNS):
            probe()
        return timer(probe)

    for turn in range(rounds):
        for index, run in enumerate(runners):
            for _ in range(COLD_RUNS):
                run()
            before = probed()
            for column in range(runs):
                runs_s[turn, index, column] = timer(run)
                after = probed()
                probes_s[turn, index, column] = _faster(before, after)
                before = after
    return _without_jumps(PairedTimes(runs_s=runs_s, probes_s=probes_s))


def _by_network(values: FloatArray) -> FloatArray:
    """``values`` of shape (rounds, networks, runs) as (networks, rounds * runs)."""
    return values.transpose(1, 0, 2).reshape(values.shape[1], -1)


def _quantile(values: FloatArray, quantile: float) -> FloatArray:
    """Quantiles along the last axis without NaN; NaN where there is nothing else."""
    if not np.isnan(values).any():
        return np.asarray(np.quantile(values, quantile, axis=-1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where every clock jumped
        return np.asarray(np.nanquantile(values, quantile, axis=-1))


def _faster(before: float, after: float) -> float:
    """The shorter of two durations; NaN if neither is one."""
    return min((duration for duration in (before, after) if duration > 0), default=float("nan"))


def _without_jumps(times: PairedTimes) -> PairedTimes:
    """``times`` with NaN where the clock jumped, or the machine was suspended.

    Raises: NasError if these are more than half of a network's.
    """
    runs_s = np.where(times.runs_s > 0, times.runs_s, np.nan)
    probes_s = np.where(times.probes_s > _IMPOSSIBLE * _quantile(times.probes_s.ravel(), 0.5), np.nan, times.probes_s)
    runs_s = np.where(runs_s > _IMPOSSIBLE * _quantile(_by_network(runs_s), 0.5)[:, None], np.nan, runs_s)
    is_lost = np.isnan(runs_s) | np.isnan(probes_s)
    lost = is_lost.mean(axis=(0, 2))
    if np.any(lost > 0.5):
        raise NasError(
            f"latency: the clock jumped in {is_lost.mean():.0%} of all runs, or the machine was suspended; try again."
        )
    return PairedTimes(runs_s=np.where(is_lost, np.nan, runs_s), probes_s=np.where(is_lost, np.nan, probes_s))
