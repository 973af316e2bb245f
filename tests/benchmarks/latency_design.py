"""Error and cost of two designs of latency measurement on a simulated machine that changes its speed.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/latency_design.py [--seeds 120]

The former design (25% quantile of runs 4 to 7 of a turn, rounds dropped by a reference network) and paired timing, the
project's own `time_in_turns`, measure the same 12 networks of known latency on the same simulated machine
(`tests/latency/replayed_machine.py`). Its noise is that of recorded turns of these networks, its speed one of

- recorded: as it moved while the noise was recorded, on a quiet machine and beside another program
  (`tests/reference/speed_trace.csv`; one machine, which moves little);
- SYNTHETIC, with the noise of either recording: changes by 20 to 30% every 0.3 to 5 s, seeded, not recorded anywhere.

Errors are RMS over networks and seeds of log(measured / true), in percent; the true latency is the median of warm runs
(4 to 7 of a turn) at the typical speed:

- repeat: what differs between measurements, relative to the other networks of the same measurement;
- relative: the same with what every measurement has in common, such as runs timed before caches are warm;
- scaled: latencies in units of the design's reference (probe or reference network) in the same measurement, by which
  measurements of several calls are compared; but for one factor, the same for all measurements, the unit;
- raw: in ms as measured, at whatever speed the machine had.

Standard errors are by bootstrap over seeds. Costs are simulated CPU seconds, so that all figures are the same on every
machine. Then variants of paired timing at the cost of the default. The last line is one JSON object. 45 CPU-seconds.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from unittest import mock

import numpy as np

from nas.latency.arrays import FloatArray
from nas.latency.measure import paired_timing, timer
from tests.latency.replayed_machine import Machine, Recording, Run, SpeedTrace, former_timing, recorded, synthetic_speed
from tests.latency.synthetic_device import KERNEL_DEVICE

FORMER_ROUNDS = (2, 5, 10, 20, 40, 80)
PAIRED_ROUNDS = (1, 2, 3, 5, 10, 20, 32, 48)
FORMER_DEFAULT = 10
ERRORS = ("repeat", "relative", "scaled")
RESAMPLES = 100
SYNTHETIC_SEED = 15
STEADY = SpeedTrace(starts_s=[0.0], factors=[1.0], length_s=1.0)


PROBES: dict[str, Callable[[Machine], Run]] = {
    "as it is": lambda machine: machine.probe,
    "mobilenetv3_small_100": lambda machine: machine.reference_as_probe,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A variant of paired timing; by default the one that ships."""

    name: str = "as it is"
    probe: str = "as it is"  # one of PROBES
    cold: int = paired_timing.COLD_RUNS
    probe_cold: int = paired_timing.PROBE_COLD_RUNS
    runs: int = timer.RUNS
    combined: str = "faster"
    quantile: float = paired_timing.QUANTILE
    is_extended: bool = False  # more rounds where the standard errors are large, as `measure_many` does

    def measure(self, machine: Machine, rounds: int) -> tuple[FloatArray, float]:
        """Latencies and the duration of the probe in s, by `time_in_turns`."""
        probe = PROBES[self.probe](machine)
        combine = paired_timing._faster if self.combined == "faster" else lambda before, after: (before + after) / 2
        changed = {
            "COLD_RUNS": self.cold,
            "PROBE_COLD_RUNS": self.probe_cold,
            "_faster": combine,
            "QUANTILE": self.quantile,
        }
        with mock.patch.multiple(paired_timing, **changed), mock.patch.object(timer, "speed_probe", lambda _: probe):
            if self.is_extended:
                times = timer.time_runners(
                    machine.networks, KERNEL_DEVICE, rounds=rounds, runs=self.runs, timer=machine.timer
                )
            else:
                times = paired_timing.time_in_turns(
                    machine.networks, probe, rounds=rounds, runs=self.runs, timer=machine.timer
                )
            return times.ratios() * times.probe_s, times.probe_s

    def round_s(self, recording: Recording) -> float:
        """Cost of a round without noise at the typical speed."""
        machine = Machine(recording.silent(), STEADY, np.random.default_rng(0))
        self.measure(machine, 1)
        return machine.cpu_s


VARIANTS = (
    Paired(),
    Paired(name="more rounds where errors are large", is_extended=True),
    Paired(name="second run of the probe timed", probe_cold=1),
    Paired(name="mean of the probes before and after", combined="mean"),
    Paired(name="median of the ratios", quantile=0.5),
    Paired(name="lower tenth of the ratios", quantile=0.1),
    Paired(name="mobilenetv3_small_100 as the probe", probe="mobilenetv3_small_100"),
    *(
        Paired(name=f"{cold} untimed, {runs} timed", cold=cold, runs=runs)
        for cold, runs in ((1, 2), (1, 7), (2, 1), (2, 2), (2, 4), (3, 1), (3, 4), (4, 2), (4, 4))
    ),
    *(
        Paired(name=f"{cold} untimed, {runs} timed, second of the probe", cold=cold, runs=runs, probe_cold=1)
        for cold, runs in ((1, 2), (2, 2), (4, 4))
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A simulated machine: whose noise, and at which speed."""

    name: str
    recording: Recording
    speed: SpeedTrace

    def machine(self, seed: int) -> Machine:
        """The machine at a random moment."""
        return Machine(self.recording, self.speed, np.random.default_rng(seed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What one design measured with one budget: errors of the logarithm, shape (seeds, networks)."""

    rounds: int
    cpu_s: float
    gave_up: int
    scaled: FloatArray = field(repr=False)
    raw: FloatArray = field(repr=False)

    def error(self, kind: str, rows: FloatArray | None = None) -> float:
        """RMS error in percent, of the measurements ``rows`` (default: all)."""
        errors = self.raw if kind == "raw" else self.scaled
        errors = errors if rows is None else errors[rows]
        if kind in {"repeat", "relative"}:
            errors = errors - errors.mean(axis=1, keepdims=True)
        if kind == "repeat":
            return float(100 * np.sqrt(errors.var(axis=0, ddof=1).mean()))
        return float(100 * np.sqrt(np.mean(errors**2)))

    def resampled(self, kind: str, rng: np.random.Generator) -> float:
        """``error`` of as many measurements drawn with replacement."""
        return self.error(kind, rng.integers(len(self.scaled), size=len(self.scaled)))

    def figures(self) -> dict[str, tuple[float, float]]:
        """Every kind of error with its standard error."""
        rng = np.random.default_rng(0)
        return {
            kind: (self.error(kind), float(np.std([self.resampled(kind, rng) for _ in range(RESAMPLES)])))
            for kind in (*ERRORS, "raw")
        }


def replay(trace: Trace, variant: Paired | None, rounds: int, seeds: int) -> Replay:
    """Measure with ``variant`` (None: the former design) on ``seeds`` machines."""
    design = partial(former_timing, rounds=rounds) if variant is None else partial(variant.measure, rounds=rounds)
    costs, raw, scales = [], [], []
    for seed in range(seeds):
        machine = trace.machine(seed)
        latencies_s, reference_s = design(machine)
        costs.append(machine.cpu_s)
        raw.append(np.log(latencies_s / trace.recording.latencies_s))
        scales.append(np.log(reference_s))
    usable = ~np.isnan(scales)
    measured, scale = np.array(raw)[usable], np.array(scales)[usable]
    scaled = measured - scale[:, None]
    return Replay(
        rounds=rounds,
        cpu_s=float(np.mean(costs)),
        gave_up=int(np.count_nonzero(~usable)),
        scaled=scaled - scaled.mean(),
        raw=measured,
    )


def cost_at(error: float, costs: Sequence[float], errors: Sequence[float]) -> float:
    """Cost of an error, by log-linear interpolation; 0 or infinite where it is outside of what was tried."""
    falling = np.minimum.accumulate(errors)
    if error >= falling[0]:
        return 0.0
    if error < falling[-1]:
        return float("inf")
    return float(np.exp(np.interp(-np.log(error), -np.log(falling), np.log(costs))))


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRatio:
    """Cost of paired timing over that of the former design for the same error.

    ``at``: whose default has this error. ``least`` and ``most``: bounds where the error is outside of what was tried.
    """

    trace: str
    kind: str
    at: str
    error: float
    ratio: float | None
    standard_error: float | None
    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        value = f"{self.ratio:.2f} ± {self.standard_error:.2f}" if self.ratio is not None else ""
        value = f"below {self.most:.2f}" if self.most is not None else value
        value = f"above {self.least:.2f}" if self.least is not None else value
        return f"{self.trace:16} {self.kind:9} {self.error:5.2f}% ({self.at}): {value}"


def cost_ratio(trace: str, kind: str, former: Sequence[Replay], paired: Sequence[Replay], at: str) -> CostRatio:
    """Compare the costs at the error that the default of ``at`` ("former" or "paired") has."""
    own, other = (former, paired) if at == "former" else (paired, former)
    default = next(one for one in own if one.rounds == (FORMER_DEFAULT if at == "former" else timer.ROUNDS))
    costs = [one.cpu_s for one in other]

    def cost(error: Callable[[Replay], float]) -> float:
        return cost_at(error(default), costs, [error(one) for one in other])

    def as_ratio(other_s: float) -> float:
        return other_s / default.cpu_s if at == "former" else default.cpu_s / other_s

    found = partial(CostRatio, trace=trace, kind=kind, at=f"of the {at} default", error=default.error(kind))
    middle = cost(lambda one: one.error(kind))
    if middle in {0.0, float("inf")}:
        bound = as_ratio(costs[0] if middle == 0.0 else costs[-1])
        side = "most" if (middle == 0.0) == (at == "former") else "least"
        return found(ratio=None, standard_error=None, **{side: bound})
    rng = np.random.default_rng(0)
    drawn = [cost(lambda one: one.resampled(kind, rng)) for _ in range(RESAMPLES)]
    ratios = [as_ratio(max(one, costs[0]) if one < costs[-1] else costs[-1]) for one in drawn]
    return found(ratio=as_ratio(middle), standard_error=float(np.std(ratios)))


def line(name: str, one: Replay, figures: dict[str, tuple[float, float]]) -> str:
    """Budget, cost and errors of one design."""
    errors = "".join(f"  {value:6.2f} ± {error:4.2f}" for value, error in figures.values())
    gave_up = f"  gave up {one.gave_up} times" if one.gave_up else ""
    return f"  {name:40} {one.rounds:3} rounds {one.cpu_s:6.2f} CPU-s{errors}{gave_up}"


def summary(one: Replay, figures: dict[str, tuple[float, float]]) -> dict[str, object]:
    """The figures of `line` for a program to read: errors in percent with their standard errors."""
    errors = {kind: [round(value, 3), round(error, 3)] for kind, (value, error) in figures.items()}
    return {"rounds": one.rounds, "cpu_s": round(one.cpu_s, 2), "gave_up": one.gave_up, "errors": errors}


def budgets(trace: Trace, seeds: int) -> Iterator[dict[str, object]]:
    """Both designs with growing budgets, printed; then the ratios of their costs."""
    found: dict[str, list[Replay]] = {"former": [], "paired": []}
    for name, variant, rounds in (("former", None, FORMER_ROUNDS), ("paired", Paired(), PAIRED_ROUNDS)):
        for budget in rounds:
            one = replay(trace, variant, budget, seeds)
            found[name].append(one)
            figures = one.figures()
            print(line(name, one, figures), flush=True)
            yield {"trace": trace.name, "design": name, **summary(one, figures)}
    for kind in ERRORS:
        for at in ("former", "paired"):
            ratio = cost_ratio(trace.name, kind, found["former"], found["paired"], at)
            print(f"  cost, paired over former: {ratio}")
            yield asdict(ratio)


def variants(trace: Trace, seeds: int) -> Iterator[dict[str, object]]:
    """Variants of paired timing at the cost of the default, printed."""
    for variant in VARIANTS:
        price = 1.0 if variant.is_extended else variant.round_s(trace.recording) / Paired().round_s(trace.recording)
        rounds = max(1, round(timer.ROUNDS / price))
        one = replay(trace, variant, rounds, seeds)
        figures = one.figures()
        print(line(variant.name, one, figures), flush=True)
        yield {"trace": trace.name, "variant": variant.name, **summary(one, figures)}


def traces() -> Iterator[Trace]:
    """The machines that are simulated."""
    synthetic = synthetic_speed(SYNTHETIC_SEED)
    for name in ("quiet", "busy"):
        yield Trace(name=f"recorded, {name}", recording=recorded(name), speed=recorded(name).speed)
    for name in ("quiet", "busy"):
        yield Trace(name=f"SYNTHETIC, {name}", recording=recorded(name), speed=synthetic)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=120, help="measurements by each design with each budget")
    args = parser.parse_args()
    found: list[dict[str, object]] = []
    for trace in traces():
        print(f"{trace.name}{'':46}{'repeat':>30}{'relative':>15}{'scaled':>15}{'raw':>15}")
        found.extend(budgets(trace, args.seeds))
        found.extend(variants(trace, args.seeds))
    print(json.dumps({"replays": found}))


if __name__ == "__main__":
    main()
