"""Samplers with 1 to 1,000 simulated workers on tabulated networks.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/simulation.py [--trials 400] [--seeds 4]

The rules are those of a real study, in memory; what is simulated stands in tests/methods/search/simulation.py, and the
networks are those of NAS-Bench-Macro (nas_bench_macro.py), each with one of its three trainings drawn per
seed. Latency is in proportion to multiply-adds. Made up are the times and the learning curves: a median network takes
ten minutes, one of them whatever the size, with a lognormal spread of 20%; one training in twenty takes five times as
long; a worker dies every ten hours and is replaced, and its trial begins anew. The nine epochs rise to the tabulated
accuracy as 1 - exp(-r t), r lognormal around 5 with a spread of 30%: curves cross and never fall.

The answer of a search is its Pareto front, held against that of all 3,969 networks, both at the mean accuracy of three
trainings: "missed" is the share of the hypervolume (latency, and accuracy above 80%) that the answer lacks. Seven
CPU-minutes. Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import json
import math
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from nas.analysis.history import ReferencePoint, hypervolume
from nas.arch.spec import ArchSpec
from nas.latency.predictors.macs import MacsPredictor
from nas.methods.search.ask_tell import SearchAskTell
from nas.methods.search.pruners import make_pruner
from nas.methods.search.settings import PrunerSettings, SamplerSettings, StudySettings
from nas.study.candidates import Pricer
from nas.study.constraints import Constraints
from nas.study.objective import ObjectiveSettings
from nas.study.trial_record import TrialRecord, pareto_front
from tests.benchmarks.nas_bench_macro import FILE, MacroTable
from tests.methods.search.simulation import Cluster, Simulation, Training
from tests.paths import SHARED_DATA
from tests.study.fakes import new_study

WORKERS = (1, 4, 16, 64, 128, 256, 1_000)
EPOCHS = 9
MEDIAN_S = 600.0
FIXED_SHARE = 0.1
LEAST_ACCURACY = 0.8
MS_PER_GMAC = 100.0
DEATHS_PER_HOUR = 0.1
GOOD = 0.04
HEADER = (
    "sampler, pruner, workers; missed after 50, 100, 200 networks and in the end; hours in all, until 4% are missed, "
    "of training;\nmissed after 10, 20, 40 hours of training; deaths, CPU-s"
)
AT = (50, 100, 200)  # networks
FOR = (10, 20, 40)  # hours
LOOK_EVERY = 10
OBJECTIVE = ObjectiveSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One search: hours on the clock, of training at all workers, and until it missed no more than ``GOOD``.

    ``missed``: share of the true front after so many networks trained to the end, and at the end of the search;
    ``missed_for``: after so many hours of training.
    ``cpu_s``: of the study's own code, that is of all its workers.
    """

    hours: float
    trained_hours: float
    hours_to_good: float | None
    missed: dict[int, float]
    missed_for: dict[int, float]
    deaths: int
    cpu_s: float


class World:
    """The table with what is made up around it."""

    def __init__(self) -> None:
        self.table = MacroTable(SHARED_DATA / FILE)
        self.entries = self.table.by_arch
        self.middle = statistics.median(entry.macs for entry in self.entries.values())
        self.reference = ReferencePoint(LEAST_ACCURACY, max(map(self.latency_ms, self.entries)))
        self.whole = self.hypervolume(self.entries)

    def latency_ms(self, arch_id: str) -> float:
        """What the predictor says of it, too."""
        return self.entries[arch_id].macs * 1e-9 * MS_PER_GMAC

    def hypervolume(self, arch_ids: Iterable[str]) -> float:
        """Of the networks at their mean accuracy."""
        return hypervolume([(self.entries[name].accuracy, self.latency_ms(name)) for name in arch_ids], self.reference)

    def training(self, arch: ArchSpec, *, seed: int) -> Training:
        """The same for the same network and seed, whoever trains it."""
        entry, rng = self.entries[arch.arch_id], random.Random(f"{arch.arch_id} {seed}")
        final, rate = rng.choice(entry.accuracies), 5 * rng.lognormvariate(0, 0.3)
        rises = [math.expm1(-rate * epoch / EPOCHS) / math.expm1(-rate) for epoch in range(1, EPOCHS + 1)]
        size = FIXED_SHARE + (1 - FIXED_SHARE) * entry.macs / self.middle
        return Training(tuple(0.1 + (final - 0.1) * rise for rise in rises), MEDIAN_S * size / EPOCHS)

    def run(self, *, workers: int, sampler: str, pruner: str, trials: int, seed: int) -> Run:
        """Search once."""
        study, start = new_study(), time.process_time()
        pricer = Pricer(
            space=self.table.space,
            predictor=MacsPredictor(MS_PER_GMAC),
            constraints=Constraints(),
            classes=10,
            in_channels=3,
        )
        rule = make_pruner(PrunerSettings(name=pruner), OBJECTIVE, epochs=EPOCHS)

        def search(worker: str) -> SearchAskTell:
            return SearchAskTell(
                study=study,
                pricer=pricer,
                objective=OBJECTIVE,
                sampler=SamplerSettings(name=sampler),
                settings=StudySettings(n_trials=trials, seed=seed, max_screened=10**6),
                epochs=EPOCHS,
                pruner=rule,
                worker=worker,
            )

        cluster = Cluster(workers=workers, deaths_per_hour=DEATHS_PER_HOUR, seed=seed)
        simulation = Simulation(cluster=cluster, search=search, training=lambda arch: self.training(arch, seed=seed))
        simulation.run()
        return self.judged(simulation, time.process_time() - start)

    def judged(self, simulation: Simulation, cpu_s: float) -> Run:
        """What came out, and when."""
        rows = [one.row for one in simulation.found]
        spent = [one.busy_s / 3600 for one in simulation.found]
        missed = {count: self.missed(rows[:count]) for count in range(LOOK_EVERY, len(rows) + LOOK_EVERY, LOOK_EVERY)}
        good = next((min(count, len(rows)) for count, share in missed.items() if share <= GOOD), None)
        return Run(
            hours=simulation.now_s / 3600,
            trained_hours=simulation.busy_s / 3600,
            hours_to_good=simulation.found[good - 1].at_s / 3600 if good else None,
            missed={count: share for count, share in missed.items() if count in AT} | {len(rows): self.missed(rows)},
            missed_for={hours: self.missed(rows[: bisect.bisect(spent, hours)]) for hours in FOR if hours <= spent[-1]},
            deaths=simulation.deaths,
            cpu_s=cpu_s,
        )

    def missed(self, rows: Sequence[TrialRecord]) -> float:
        """Share of the hypervolume that the front of ``rows`` lacks; it is chosen by the accuracies they came to."""
        return 1 - self.hypervolume(row.arch_id for row in pareto_front(rows)) / self.whole


def mean(values: Iterable[float | None]) -> float | None:
    """Their mean; None where one is missing."""
    known = list(values)
    return None if None in known or not known else statistics.fmean(value for value in known if value is not None)


def shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Means over the seeds, with the standard error of what is missed at the end."""
    last = [list(run.missed.values())[-1] for run in runs]
    return {
        "missed": statistics.fmean(last),
        "missed_se": statistics.stdev(last) / math.sqrt(len(last)) if len(last) > 1 else None,
        "missed_at": {count: mean(run.missed.get(count) for run in runs) for count in AT},
        "missed_for": {hours: mean(run.missed_for.get(hours) for run in runs) for hours in FOR},
        "hours": mean(run.hours for run in runs),
        "trained_hours": mean(run.trained_hours for run in runs),
        "hours_to_good": mean(run.hours_to_good for run in runs),
        "deaths": mean(run.deaths for run in runs),
        "cpu_s": mean(run.cpu_s for run in runs),
    }


def main() -> None:
    """Print a line as soon as it is known, and everything as JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--samplers", nargs="*", default=["random", "tpe", "nsga2"])
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    parser.add_argument("--pruners", nargs="*", default=["asha", "mo_asha"], help="tried beside none")
    parser.add_argument("--pruned", type=int, nargs="*", default=[1, 64], help="workers to try them with")
    args = parser.parse_args()
    cases = [("none", workers) for workers in args.workers] + list(itertools.product(args.pruners, args.pruned))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    world, found = World(), []
    print(HEADER)
    for sampler, (pruner, workers) in itertools.product(args.samplers, cases):
        runs = [
            world.run(workers=workers, sampler=sampler, pruner=pruner, trials=args.trials, seed=seed)
            for seed in range(args.seeds)
        ]
        one = summary(runs)
        found.append({"sampler": sampler, "pruner": pruner, "workers": workers, **one})
        early, budget = (
            " ".join(f"{shown(share, '.1%'):>6}" for share in one[name].values())
            for name in ("missed_at", "missed_for")
        )
        print(
            f"{sampler:6} {pruner:7} {workers:5} {early} {one['missed']:6.1%} +-{shown(one['missed_se'], '.1%'):>5} "
            f"{one['hours']:7.1f} {shown(one['hours_to_good'], '.1f'):>6} {one['trained_hours']:6.0f} {budget} "
            f"{one['deaths']:4.0f} {one['cpu_s']:5.0f}",
            flush=True,
        )
    print(json.dumps({"trials": args.trials, "seeds": args.seeds, "found": found}))


if __name__ == "__main__":
    main()
