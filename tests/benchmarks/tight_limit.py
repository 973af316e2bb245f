"""Searches under a limit that 1 in 500 sampled candidates meets, at equal CPU time.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/tight_limit.py [--arms guided tpe nsga2] [--seeds 5]

The space is the published ``mixnet`` (1.1e26 points), latency is multiply-adds times 30 ms/G. The limit is the 1/500
quantile of ``--sampled`` random candidates. Every arm has its settings of ``conf/sampler``, begins with a survey and
the feasible candidates that it finds, no published network, and ends when its CPU time is over: that of survey,
sampler, decoding, prices and Optuna's storage in memory, measured, and ``--train-s`` for each trained network, about
what the default proxy takes. Rejected candidates never end a search here, and random search does not end in useful
time. With a database an infeasible trial costs more (overhead.py), which is to the good of arms that ask for many.

Trainings are made up, because an arm of one seed would take a quarter of an hour: ``Oracle``, another one for each
seed. A part of it is additive in the choices, as models of samplers may assume; as large a part is not, and half as
much is of each network alone.

The figure is the hypervolume of the trained front, against the limit and the least accuracy of the feasible candidates
of the sample, as a share of that of all arms' fronts together. The first arm wins a seed if its own is larger than
every other's. Ratios are of the first arm to each other, geometric means with their standard error over the seeds. The
last line is one JSON object. 40 CPU-seconds for tpe and nsga2. Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any, Final

import optuna

from nas.analysis.history import ReferencePoint, hypervolume
from nas.arch.blocks import BlockSpec
from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.latency.predictors.macs import MacsPredictor
from nas.methods.search.ask_tell import SearchAskTell
from nas.methods.search.trials.initial_trials import queue_initial_trials
from nas.search import make_plan
from nas.study.candidates import Candidate, Pricer, survey
from nas.study.trial_attributes import trial_records
from nas.study.trial_loop import TrialTask
from nas.study.trial_record import Outcome
from tests.study.fakes import new_study

ARMS: Final = ("guided", "tpe", "nsga2")  # names of conf/sampler
SHARE: Final = 1 / 500
WORDS: Final = (
    "space=mixnet", "latency=macs", "estimator=proxy", "study.seed_published=false", "study.n_trials=100000",
    "study.max_screened=1000000",
)  # fmt: skip
FIELDS: Final = (
    "kernels", "partition", "expansion", "expand_kernels", "project_kernels", "se_ratio", "activation",
)  # fmt: skip


class Oracle:
    """Made-up accuracy of a network: the same for the same network and ``seed``.

    .75, and .04 for each doubling of 100 M multiply-adds; .01 times a sum of effects of the choices of each block, of
    variance 1; .01 times one of the choices of each two neighbouring blocks; .005 times a draw of the network's own.
    All effects are standard normal draws.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._effects: dict[str, float] = {}

    def accuracy(self, arch: ArchSpec) -> float:
        """Accuracy in [0, 1]."""
        blocks = [block for stage in arch.stages for block in stage.blocks for _ in range(block.repeats)]
        own = [self._effect(place, *one) for place, block in enumerate(blocks) for one in _choices(block)]
        pairs = [
            self._effect(place, *one, *other)
            for place, (first, second) in enumerate(itertools.pairwise(blocks))
            for one, other in zip(_choices(first), _choices(second), strict=True)
        ]
        capacity = math.log2(complexity(arch).macs / 100e6)
        effects = sum(sum(terms) / math.sqrt(len(terms)) for terms in (own, pairs))
        return 0.75 + 0.04 * capacity + 0.01 * effects + 0.005 * self._effect(arch.arch_id)

    def _effect(self, *key: object) -> float:
        text = f"{self._seed} {key}"
        if text not in self._effects:
            self._effects[text] = random.Random(text).gauss(0.0, 1.0)
        return self._effects[text]


def _choices(block: BlockSpec) -> Iterator[tuple[str, Any]]:
    return ((field, getattr(block, field)) for field in FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One arm with one seed: trials by outcome, CPU-s without trainings.

    ``points``: accuracy and ms of the trained networks. ``hypervolume``: in accuracy x ms.
    """

    arm: str
    seed: int
    trained: int
    infeasible: int
    duplicate: int
    own_cpu_s: float
    points: tuple[tuple[float, float], ...]
    hypervolume: float


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Arguments of the command, and the limit that they lead to."""

    args: argparse.Namespace

    def plan(self, arm: str, seed: int, limit_ms: float | None = None) -> Any:
        """Plan of the search of ``arm``. Raises: NasError for a name that no sampler has."""
        limit = () if limit_ms is None else (f"constraint.latency_ms={limit_ms}",)
        return make_plan([*WORDS, f"sampler={arm}", f"study.seed={seed}", *limit])

    @cached_property
    def sample(self) -> list[Candidate]:
        """Random candidates, fastest first."""
        prices, rng = pricer(self.plan("random", 0)), random.Random("tight limit")
        drawn = [prices.price(prices.space.sample(rng)) for _ in range(self.args.sampled)]
        return sorted(drawn, key=lambda one: one.latency.latency_ms)

    @cached_property
    def feasible(self) -> list[Candidate]:
        """The fastest ``SHARE`` of the sample, and at least one."""
        return self.sample[: max(1, round(SHARE * len(self.sample)))]

    @cached_property
    def limit_ms(self) -> float:
        """Latency that only ``feasible`` ones of the sample do not exceed."""
        return math.ceil(1e4 * self.feasible[-1].latency.latency_ms) / 1e4

    def run(self, arm: str, seed: int) -> Run:
        """Search until the CPU time is over."""
        args, oracle, plan = self.args, Oracle(seed), self.plan(arm, seed, self.limit_ms)
        spent, start, trained = 0.0, time.process_time(), 0
        search = begun(plan)
        while spent + (trained + 1) * args.train_s <= args.cpu_s:
            found = search.ask()
            if isinstance(found, TrialTask):
                spent += time.process_time() - start
                done = Evaluation(accuracy=oracle.accuracy(found.arch), cpu_s=args.train_s, duration_s=args.train_s)
                start, trained = time.process_time(), trained + 1
                search.tell(found, done)
            spent, start = spent + time.process_time() - start, time.process_time()
        rows = trial_records(search.study)
        outcomes = Counter(row.outcome for row in rows)
        found_points = tuple(
            (row.accuracy or 0.0, row.latency_ms or 0.0) for row in rows if row.outcome is Outcome.TRAINED
        )
        return Run(
            arm=arm,
            seed=seed,
            trained=outcomes[Outcome.TRAINED],
            infeasible=outcomes[Outcome.INFEASIBLE],
            duplicate=outcomes[Outcome.DUPLICATE],
            own_cpu_s=round(spent, 2),
            points=found_points,
            hypervolume=hypervolume(found_points, self.reference(oracle)),
        )

    def reference(self, oracle: Oracle) -> ReferencePoint:
        """Least accuracy of the feasible candidates of the sample, and the limit."""
        return ReferencePoint(min(oracle.accuracy(one.arch) for one in self.feasible), self.limit_ms)

    def shares(self, runs: Sequence[Run]) -> dict[str, float]:
        """By arm: hypervolume as a share of that of all ``runs`` of a seed together."""
        points = [point for run in runs for point in run.points]
        whole = hypervolume(points, self.reference(Oracle(runs[0].seed)))
        return {run.arm: run.hypervolume / whole for run in runs}


def pricer(plan: Any) -> Pricer:
    """Prices of the candidates of ``plan``, without images."""
    return Pricer(
        space=plan.space,
        predictor=MacsPredictor(plan.latency.ms_per_gmac),
        constraints=plan.constraints,
        classes=10,
        in_channels=1,
    )


def begun(plan: Any) -> SearchAskTell:
    """Search of ``plan`` whose space is surveyed and whose first trials are queued."""
    prices, study = pricer(plan), new_study(objective=plan.objective)
    queue_initial_trials(study, survey(prices, seed=plan.study.seed), published={}, startup=plan.sampler.startup)
    return SearchAskTell(
        study=study, pricer=prices, objective=plan.objective, sampler=plan.sampler, settings=plan.study, epochs=1
    )


def ratio(first: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Geometric mean of the ratios, and its standard error as a factor less one; of one seed nan."""
    logs = [math.log(one / two) for one, two in zip(first, other, strict=True)]
    error = math.expm1(stdev(logs) / math.sqrt(len(logs))) if len(logs) > 1 else math.nan
    return math.exp(fmean(logs)), error


def main() -> int:
    """Print a line as soon as it is known, and everything as JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--arms", nargs="+", default=ARMS, help="names of conf/sampler; the first is held against all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cpu-s", type=float, default=900.0, help="CPU-seconds of each arm")
    parser.add_argument("--train-s", type=float, default=15.0, help="CPU-seconds that a training counts")
    parser.add_argument("--sampled", type=int, default=20_000, help="candidates that the limit is found by")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    benchmark = Benchmark(args=args)
    try:
        for arm in args.arms:
            benchmark.plan(arm, 0)
    except NasError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"limit {benchmark.limit_ms} ms: {len(benchmark.feasible)} of {args.sampled} sampled candidates meet it")
    found, shares, wins = [], [], 0
    for seed in range(args.seeds):
        runs = [benchmark.run(arm, seed) for arm in args.arms]
        shares.append(benchmark.shares(runs))
        for run in runs:
            print(
                f"seed {seed} {run.arm:7} {run.trained:3} trained {run.infeasible:5} infeasible {run.duplicate:4} "
                f"repeated; {run.own_cpu_s:6.1f} CPU-s of its own; hypervolume {shares[-1][run.arm]:6.1%}",
                flush=True,
            )
        first, *others = shares[-1].values()
        wins += first > max(others, default=0.0)
        found += [{name: value for name, value in asdict(run).items() if name != "points"} for run in runs]
    name, *others = args.arms
    print(f"{name} has the largest hypervolume in {wins} of {args.seeds} seeds")
    ratios = {other: ratio([one[name] for one in shares], [one[other] for one in shares]) for other in others}
    for other, (mean, error) in ratios.items():
        print(f"hypervolume of {name} / {other}: {mean:.3f} +- {error:.1%}")
    facts = {"limit_ms": benchmark.limit_ms, "wins": wins, "seeds": args.seeds, "ratios": ratios}
    print(json.dumps({**facts, "shares": shares, "runs": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
