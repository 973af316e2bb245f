"""A simulated machine: recorded durations of networks at a speed that follows a trace.

The noise is recorded (`tests/reference/speed_trace.csv`): a turn of a network on the simulated machine has the
durations of one of its recorded turns, drawn at random, relative to the speed at that time. They are multiplied by the
network's latency and by the speed of the moment, which is recorded too (`Recording.speed`) or SYNTHETIC
(`synthetic_speed`).
Simulated time is the CPU time of what runs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from nas.latency.arrays import FloatArray
from tests.paths import ROOT

TRACE: Final = ROOT / "tests" / "reference" / "speed_trace.csv"
RECORDINGS: Final = ("quiet", "busy")
# Of the first run after another network, the trace has the median alone, in its header.
_FIRST_PROBE_RUN_S: Final = 0.228e-3
_FIRST_REFERENCE_RUN_S: Final = 2.38e-3
_WARM: Final = 4  # index of the first run of a turn that is warm: the true latency is the median of these
# Of the former timer: every round began with a turn of the reference network, runs 4 to 7 of a turn were timed, rounds
# counted in which the reference took at most 1.5 times as long as in the fast ones (20% quantile), or as short.
_FORMER_COLD, _FORMER_TIMED, _FORMER_DRIFT, _FORMER_FAST, _FORMER_QUANTILE = 4, 4, 1.5, 0.2, 0.25

Run = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedTrace:
    """Factor on all durations over time: ``factors[i]`` from ``starts_s[i]`` on, repeated after ``length_s``.

    ``starts_s`` begins with 0. A factor of 1 is the typical speed, 1.25 a machine that takes 25% longer.
    """

    starts_s: list[float]
    factors: list[float]
    length_s: float

    def at(self, time_s: float) -> float:
        """The factor at ``time_s``."""
        return self.factors[bisect_right(self.starts_s, time_s % self.length_s) - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Durations that were recorded, relative to the speed of the moment and to the median of their kind.

    A row is a turn of a network; rows are in order of time, networks in turns. ``second`` and ``third``: second and
    third runs of the speed probe before and after each run, shape (turns, 9). ``runs``: of the network, relative to its
    warm ones, shape (turns, 8). ``references``: second and fourth runs of the reference network, shape (turns, 2).
    """

    names: tuple[str, ...]
    latencies_s: FloatArray
    probe_s: FloatArray  # typical second and third run
    reference_s: FloatArray  # typical second and fourth run
    second: list[list[float]]
    third: list[list[float]]
    runs: list[list[float]]
    references: list[list[float]]
    speed: SpeedTrace

    def silent(self) -> Recording:
        """The same without noise: every run takes its warm duration at the speed of the moment."""
        turns = len(self.runs)
        return Recording(
            names=self.names,
            latencies_s=self.latencies_s,
            probe_s=self.probe_s,
            reference_s=self.reference_s,
            second=[[1.0] * 9] * turns,
            third=[[1.0] * 9] * turns,
            runs=[[1.0] * 8] * turns,
            references=[[1.0] * 2] * turns,
            speed=self.speed,
        )


def recorded(name: str) -> Recording:
    """The recording called ``name``, one of ``RECORDINGS``.

    Its speed at the time of a turn is the median of the probe's third runs in it and the turns before and after.
    """
    lines = TRACE.read_text(encoding="utf-8").splitlines()
    header = [line.removeprefix("# ").rpartition(": ") for line in lines if line.startswith("# ")]
    figures = {key: float(value) for key, _, value in header if key.partition(" ")[0].endswith("_ms")}
    networks = {key.partition(" ")[2]: value for key, value in figures.items() if key.startswith("latency_ms ")}
    rows = np.array([line.split(",")[1:] for line in lines if line.startswith(f"{name},")], dtype=float)
    durations = 1 + rows[:, 2:] / 1000
    third = durations[:, 9:18]
    speed = np.median(np.concatenate([np.roll(third, shift, axis=0) for shift in (-1, 0, 1)], axis=1), axis=1)
    durations /= speed[:, None]
    runs = durations[:, 18:26].reshape(-1, len(networks), 8)
    runs /= np.median(runs[:, :, _WARM:], axis=(0, 2))[:, None]  # a view: the true latency is exact
    start_s = (rows[:, 0] - rows[0, 0]) / 1000
    return Recording(
        names=tuple(networks),
        latencies_s=np.array(list(networks.values())) / 1000,
        probe_s=np.array([figures["probe_ms second"], figures["probe_ms third"]]) / 1000,
        reference_s=np.array([figures["reference_ms second"], figures["reference_ms fourth"]]) / 1000,
        second=durations[:, :9].tolist(),
        third=durations[:, 9:18].tolist(),
        runs=durations[:, 18:26].tolist(),
        references=durations[:, 26:].tolist(),
        speed=SpeedTrace(starts_s=start_s.tolist(), factors=speed.tolist(), length_s=2 * start_s[-1] - start_s[-2]),
    )


def synthetic_speed(seed: int, *, length_s: float = 600.0) -> SpeedTrace:
    """A SYNTHETIC trace: changes by 20 to 30%, up or down, every 0.3 to 5 s (log-uniform), between 0.77 and 1.3.

    As a virtual machine on Zen 3 was described whose neighbours on the host came and went. Its median over time is 1.
    """
    rng = np.random.default_rng(seed)
    lengths: list[float] = []
    levels = [0.0]
    while sum(lengths) < length_s:
        lengths.append(float(np.exp(rng.uniform(np.log(0.3), np.log(5.0)))))
        step = float(rng.choice([-1, 1]) * rng.uniform(np.log(1.2), np.log(1.3)))
        levels.append(levels[-1] + (step if abs(levels[-1] + step) <= np.log(1.3) else -step))
    log_factors = np.array(levels[:-1])
    order = np.argsort(log_factors)
    half = np.searchsorted(np.cumsum(np.array(lengths)[order]), sum(lengths) / 2)
    return SpeedTrace(
        starts_s=[0.0, *np.cumsum(lengths[:-1]).tolist()],
        factors=np.exp(log_factors - log_factors[order[half]]).tolist(),
        length_s=sum(lengths),
    )


class Machine:
    """Runs networks, a speed probe and a reference network in simulated time.

    ``cpu_s``: time that has passed, since a random moment of ``speed``; ``is_timing``: whether a run is being timed.
    """

    def __init__(self, recording: Recording, speed: SpeedTrace, rng: np.random.Generator) -> None:
        self.cpu_s, self.is_timing = 0.0, False
        self.networks: list[Run] = [self._network(index) for index in range(len(recording.names))]
        self._recording, self._speed, self._rng = recording, speed, rng
        self._begin_s = float(rng.uniform(0, speed.length_s))
        self._latencies = recording.latencies_s.tolist()
        self._second_s, self._third_s = recording.probe_s.tolist()
        self._reference_second_s, self._reference_fourth_s = recording.reference_s.tolist()
        self._owner: int | None = None  # network whose turn it is, -1 the reference
        self._turn = self._run = self._probe_run = (
            0  # recorded turn; runs in it; runs of the probe since the last of them
        )

    def timer(self, run: Run) -> float:
        """Duration of ``run`` in simulated CPU seconds."""
        start, self.is_timing = self.cpu_s, True
        run()
        self.is_timing = False
        return self.cpu_s - start

    def probe(self) -> None:
        """Run the speed probe: its first run since the last of a network is slow, the second nearly warm."""
        noise = (self._recording.second, self._recording.third)[min(self._probe_run, 2) - 1][self._turn][self._run]
        self._pass((_FIRST_PROBE_RUN_S, self._second_s * noise, self._third_s * noise)[min(self._probe_run, 2)])
        self._probe_run += 1

    def reference_as_probe(self) -> None:
        """Run the reference network in the place of the speed probe, with the noise of consecutive recorded turns."""
        noise = self._recording.references[(self._turn + self._run) % len(self._recording.references)]
        self._pass(self._reference_second_s * noise[0] if self._probe_run else _FIRST_REFERENCE_RUN_S)
        self._probe_run += 1

    def reference(self) -> None:
        """Run the reference network in a turn of its own."""
        if self._owner != -1:
            self._begin_turn(-1, int(self._rng.integers(len(self._recording.runs))))
        noise = self._recording.references[(self._turn + self._run) % len(self._recording.references)]
        later = (self._reference_second_s * noise[0], self._reference_fourth_s * noise[1])
        self._pass((_FIRST_REFERENCE_RUN_S, *later)[min(self._run, 2)])
        self._run += 1

    def _network(self, index: int) -> Run:
        def run() -> None:
            if self._owner != index:
                networks = len(self.networks)
                rounds = len(self._recording.runs) // networks
                self._begin_turn(index, int(self._rng.integers(rounds)) * networks + index)
            self._pass(self._latencies[index] * self._recording.runs[self._turn][self._run])
            self._run += 1
            self._probe_run = 0

        return run

    def _begin_turn(self, owner: int, turn: int) -> None:
        self._owner, self._turn, self._run, self._probe_run = owner, turn, 0, 0

    def _pass(self, duration_s: float) -> None:
        self.cpu_s += duration_s * self._speed.at(self._begin_s + self.cpu_s)


def former_timing(machine: Machine, *, rounds: int) -> tuple[FloatArray, float]:
    """Latencies and that of the reference network, in s, as this project timed them before paired timing.

    The 25% quantile over all rounds of four runs after four untimed ones; rounds are dropped in which the reference
    network ran at another speed, and measured once more if too few are left. NaN where the former timer gave up.
    """
    runners = [machine.reference, *machine.networks]
    for run in runners:
        run()
    durations = np.empty((0, len(runners), _FORMER_TIMED))
    for _ in range(2):
        attempt = np.empty((rounds, len(runners), _FORMER_TIMED))
        for turn in attempt:
            for run, timed in zip(runners, turn, strict=True):
                for _ in range(_FORMER_COLD):
                    run()
                timed[:] = [machine.timer(run) for _ in range(_FORMER_TIMED)]
        durations = np.concatenate([durations, attempt])
        speeds = np.median(durations[:, 0], axis=1)
        slower = speeds / np.quantile(speeds, _FORMER_FAST, method="lower")
        steady = np.maximum(slower, 1 / slower) <= _FORMER_DRIFT
        if 2 * np.count_nonzero(steady) >= rounds:
            reference_s, *latencies_s = np.quantile(durations[steady], _FORMER_QUANTILE, axis=(0, 2))
            return np.array(latencies_s), float(reference_s)
    return np.full(len(machine.networks), np.nan), float("nan")
