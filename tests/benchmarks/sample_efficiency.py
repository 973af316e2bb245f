"""Networks that samplers train until they have the best, on tables of trained networks.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/sample_efficiency.py [--arms tpe guided] [--seeds 20]
        [--modes mean noisy batches pareto] [--table macro] [--permuted] [--results FILE.jsonl]

A search is the real one (nas/methods/search/ask_tell.py) on a study in memory; its trainings are read from NAS-Bench-
Macro (nas_bench_macro.py), the second table (second_table.py) or the learning curves (tabulated.py). What is counted is
distinct networks: a candidate whose network was trained before is told what that gave, as in every study. The
first five networks are random and the same for all arms of a seed, except for ``guided``, which draws its own three.
Modes:

    mean      one objective; a training gives the mean accuracy of the trainings in the table
    noisy     it gives one of them, drawn by network and seed; searches are judged on the mean
    batches   as mean, but eight networks are asked for before any is told
    pareto    two objectives, mean accuracy and MACs, of which the hypervolume missed is reported. Its reference point
              is the smallest accuracy and the largest MACs of the table; for NAS-Bench-Macro also 80% accuracy

``evolution`` is regularised evolution (Real et al. 2019, arXiv:1802.01548, algorithm 1). Medians are given with
bootstrap standard errors, means with theirs. ``--permuted`` searches NAS-Bench-Macro a second time, with layers and
operations under other names and in another order, and says for how many seeds the networks are the same.
``--results`` keeps the searches in a file, from which the same command goes on. Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.trial import TrialState

from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.latency.predictors.macs import MacsPredictor
from nas.methods.search.ask_tell import SearchAskTell
from nas.methods.search.settings import MAX_TRIALS, SAMPLER_NAMES, SamplerSettings, StudySettings
from nas.study.candidates import Pricer
from nas.study.constraints import Constraints
from nas.study.objective import ObjectiveSettings
from nas.study.trial_loop import TrialTask
from search_spaces.space import Genotype
from tests.benchmarks.nas_bench_macro import CLASSES
from tests.benchmarks.regularized_evolution import evolve
from tests.benchmarks.search_figures import Search, line, summary
from tests.benchmarks.tabulated_searches import MS_PER_GMAC, Table, curves, macro, second
from tests.paths import SHARED_DATA
from tests.study.fakes import new_study

ACCURACY: Final = ObjectiveSettings(kind="mnasnet", target_ms=1.0, alpha=0.0, beta=0.0)  # the accuracy alone
PARETO: Final = ObjectiveSettings()
MOST: Final = 300  # networks after which the best counts as not found
TABLES: Final[Mapping[str, Callable[[Path], Table]]] = {
    "macro": macro,
    "second": lambda shared: second(),
    "curves": lambda shared: curves(),
}
_LONGEST_WAIT: Final = 200  # asks without a training, in a batch

Propose = Callable[[optuna.Study, Any, random.Random], Genotype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A sampler by name; or ``propose``, whose candidates are queued.

    ``startup``: of the sampler's settings; ``queued``: random networks that are queued first, 0 of a sampler that draws
    its own. ``most``: networks of a search.
    """

    sampler: str = "random"
    startup: int = 5
    queued: int = 5
    propose: Propose | None = None
    most: int = MOST

    @property
    def is_here(self) -> bool:
        """Whether this version has the sampler."""
        return self.sampler in SAMPLER_NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """What a training gives, how many run at a time, and what is searched for."""

    noisy: bool = False
    batch: int = 1
    objective: ObjectiveSettings = ACCURACY


ARMS: Final = {
    "random": Arm(),
    "tpe": Arm(sampler="tpe"),
    "nsga2": Arm(sampler="nsga2"),
    "gp": Arm(sampler="gp", most=150),  # its asks take seconds
    "evolution": Arm(propose=evolve),
    "guided": Arm(sampler="guided", startup=3, queued=0),
}
MODES: Final = {
    "mean": Mode(),
    "noisy": Mode(noisy=True),
    "batches": Mode(batch=8),
    "pareto": Mode(objective=PARETO),
}


def new_search(table: Table, mode: Mode, arm: Arm, seed: int) -> SearchAskTell:
    """A search whose first networks are queued, as in every study."""
    study = new_study(objective=mode.objective)
    sampler = SamplerSettings(name=arm.sampler, startup=arm.startup)
    for genotype in table.first_genotypes(arm.queued, seed):
        study.enqueue_trial(dict(genotype))
    pricer = Pricer(
        space=table.space,
        predictor=MacsPredictor(MS_PER_GMAC),
        constraints=Constraints(),
        classes=CLASSES,
        in_channels=3,
    )
    settings = StudySettings(n_trials=MAX_TRIALS, seed=seed)
    return SearchAskTell(
        study=study, pricer=pricer, objective=mode.objective, sampler=sampler, settings=settings, epochs=1
    )


def trained(search: SearchAskTell, table: Table, mode: Mode, arm: Arm) -> Iterator[str]:
    """Networks in the order in which they are trained, by arch id; it ends where there is no new one."""
    while batch := ask_batch(search, arm, mode.batch):
        for task in batch:
            accuracy = table.training(task.arch.arch_id, search.settings.seed if mode.noisy else None)
            search.tell(task, Evaluation(accuracy=accuracy, cpu_s=0.0, duration_s=0.0))
            yield task.arch.arch_id


def ask_batch(search: SearchAskTell, arm: Arm, size: int) -> list[TrialTask]:
    """Trainings asked for before any is told; fewer where there is no new network."""
    tasks: list[TrialTask] = []
    for _ in range(_LONGEST_WAIT):
        if len(tasks) == size:
            break
        waiting = search.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if arm.propose and not waiting:
            rng = random.Random(f"{search.settings.seed} {len(search.study.get_trials(deepcopy=False))}")
            search.study.enqueue_trial(dict(arm.propose(search.study, search.pricer.space, rng)))
        try:
            found = search.ask()
        except NasError:  # the space is exhausted
            break
        if isinstance(found, TrialTask):
            tasks.append(found)
    return tasks


def run(table: Table, *, mode: str, arm: str, seed: int) -> Search:
    """Search until everything that is reported is known."""
    start_s, networks = time.process_time(), []
    search = new_search(table, MODES[mode], ARMS[arm], seed)
    for arch_id in trained(search, table, MODES[mode], ARMS[arm]):
        networks.append(arch_id)
        is_found = mode == "pareto" or table.order[0] in networks
        if len(networks) >= ARMS[arm].most or (is_found and len(networks) >= max(table.at)):
            break
    return Search(
        table=table.name,
        mode=mode,
        arm=arm,
        seed=seed,
        trials=len(search.study.get_trials(deepcopy=False)),
        cpu_s=round(time.process_time() - start_s, 2),
        arch_ids=tuple(networks),
    )


def read_searches(path: Path | None) -> list[Search]:
    """Searches of an earlier run."""
    if path is None or not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Search(**{**line, "arch_ids": tuple(line["arch_ids"])}) for line in lines]


def search_all(table: Table, args: argparse.Namespace) -> Iterator[list[Search]]:
    """Searches by mode and arm; those of an earlier run from its file."""
    known = {(one.table, one.mode, one.arm, one.seed): one for one in read_searches(args.results)}
    for mode, arm in itertools.product(args.modes, args.arms):
        found = []
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            one = known.get((table.name, mode, arm, seed))
            if one is None:
                one = run(table, mode=mode, arm=arm, seed=seed)
                if args.results:
                    with args.results.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps(asdict(one)) + "\n")
            found.append(one)
        yield found


def compare_permuted(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Whether searches of NAS-Bench-Macro train the same networks under other names, by arm."""
    named, permuted = macro(args.shared), macro(args.shared, permuted=0)
    found = []
    for arm in args.arms:
        pairs = [
            [run(table, mode="mean", arm=arm, seed=seed).arch_ids for table in (named, permuted)]
            for seed in range(args.first_seed, args.first_seed + args.seeds)
        ]
        same = sum(one == other for one, other in pairs)
        common = statistics.median(common_length(one, other) for one, other in pairs)
        print(f"{arm:9} the same networks in {same} of {args.seeds} seeds; in common at the beginning: {common:g}")
        found.append({"arm": arm, "seeds": args.seeds, "same": same, "common": common})
    return found


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Entries at the beginning in which both agree."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def parse() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=[name for name, arm in ARMS.items() if arm.is_here])
    parser.add_argument("--modes", nargs="*", choices=MODES, default=list(MODES))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--table", choices=TABLES, default="macro")
    parser.add_argument("--permuted", action="store_true", help="compare searches under other names")
    parser.add_argument("--shared", type=Path, default=SHARED_DATA, help="folder with nas_bench_macro/")
    parser.add_argument("--results", type=Path, help="JSON lines, one per search; read and written")
    return parser.parse_args()


def main() -> None:
    """Print a line as soon as it is known, and everything as JSON at the end."""
    args = parse()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if args.permuted:
        print(json.dumps({"permuted": compare_permuted(args)}))
        return
    table, found = TABLES[args.table](args.shared), []
    for searches in search_all(table, args):
        mode, arm = MODES[searches[0].mode], ARMS[searches[0].arm]
        is_front = mode.objective is PARETO
        found.append(summary(table, searches, is_front=is_front, is_noisy=mode.noisy, most=arm.most))
        print(line(found[-1]), flush=True)
    print(json.dumps({"table": args.table, "found": found}))


if __name__ == "__main__":
    main()
