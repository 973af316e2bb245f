"""Whether proxies and supernets of detectors and segmenters order networks, against longer trainings.

    OMP_NUM_THREADS=1 python tests/benchmarks/dense_estimators.py --task segmentation [--networks 24]
        [--truth-epochs 12] [--supernet epochs=20,batch_size=64 --supernet epochs=60,batch_size=16] [--runs FOLDER]
        [proxy.epochs=3 ...]

Data: ../shared/data/bccd or camvid160. Random networks of ``mobilenet_v3_small`` get the head of the task. Truth: the
mean score of their proxies after ``--truth-epochs`` with two seeds. Estimators: the proxy as a search trains it, with a
third seed; minus the validation loss with the weights of each supernet; NASWOT; multiply-adds, parameters. For each
Kendall's tau-b with the truth and its bootstrap error over networks, and its difference to that of multiply-adds with
the error on the same networks; also tau between the two trainings of the truth. What ``--runs`` holds already is not
computed again. The last line is one JSON object.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from nas.analysis.rank_agreement import bootstrap, bootstrap_tau, pairwise_tau
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.search import make_plan
from nas.study.session import load_evaluator
from tests.benchmarks.estimator_scores import Floats, stored_rows
from tests.benchmarks.estimator_tables import Candidate
from tests.benchmarks.separation import draw_networks

ROOT: Final = Path(__file__).resolve().parents[2]
DATA: Final = ROOT.parent / "shared" / "data"
WORDS: Final = {
    "detection": ("data.repair=true", f"data.root={DATA / 'bccd'}"),
    "segmentation": ("data.void=11", f"data.root={DATA / 'camvid160'}"),
}
SPACE: Final = "mobilenet_v3_small"
TRUTHS: Final = ("truth 1", "truth 2")  # long trainings with different seeds


@dataclass
class TrainedProxies:
    """Scores by training proxies with the seed of ``repeat``."""

    evaluator: ProxyEvaluator
    repeat: int
    cpu_s: float = 0.0

    def prepare(self) -> None:
        """Nothing is done once for all networks."""

    def scores(self, candidate: Candidate) -> Mapping[str, float]:
        """Score of the trained proxy of a network."""
        return {"score": self.evaluator.evaluate(candidate.arch, repeat=self.repeat).accuracy}

    def cpu_s_of(self, candidate: Candidate) -> float:
        """All is measured."""
        return 0.0


@dataclass
class Untrained:
    """Scores by the ``scorer`` of a search."""

    scorer: Any
    cpu_s: float = 0.0

    def prepare(self) -> None:
        """Train the supernet."""
        start = time.process_time()
        self.scorer.prepare()
        self.cpu_s = time.process_time() - start

    def scores(self, candidate: Candidate) -> Mapping[str, float]:
        """Scores of a network by name."""
        found: Mapping[str, float] = self.scorer.scores(candidate.arch)
        return found

    def cpu_s_of(self, candidate: Candidate) -> float:
        """All is measured."""
        return 0.0


class Column(NamedTuple):
    """Scores of the networks by one estimator, (N,), and CPU-seconds: of each network, and once for all."""

    scores: Floats
    cpu_s: float
    preparation_cpu_s: float


def columns(args: argparse.Namespace) -> Iterator[tuple[str, Column]]:
    """Yield name and column of each long training, then of each estimator."""
    words = [
        f"space={SPACE}",
        f"objective.task={args.task}",
        *WORDS[args.task],
        f"runs_dir={args.runs}",
        *args.settings,
    ]
    console = Console(stderr=True)
    plan = make_plan([*words, "estimator=proxy"])
    evaluator = load_evaluator(plan, console, keep_weights=False)
    archs = [
        plan.head.network(trunk, plan.task, trunk.classes)
        for trunk in draw_networks(plan.space, evaluator.data, args.networks)
    ]
    candidates = [Candidate(arch.arch_id, arch, ()) for arch in archs]

    def stored(name: str, estimator: Any, **facts: Any) -> Iterator[tuple[str, Column]]:
        rows = stored_rows(estimator, candidates, Path(args.runs) / f"{args.task}-{name.replace(' ', '')}", facts)
        cpu_s = float(np.mean([row["cpu_s"] for row in rows]))
        for key in rows[0]["scores"]:
            column = Column(np.array([row["scores"][key] for row in rows]), cpu_s, estimator.cpu_s)
            yield name if len(rows[0]["scores"]) == 1 else f"{name}, {key}", column

    trained = plan.identity("")
    longer = replace(evaluator, settings=replace(plan.proxy, epochs=args.truth_epochs))
    for repeat, name in enumerate(TRUTHS):
        yield from stored(name, TrainedProxies(longer, repeat), epochs=args.truth_epochs, **trained)
    yield from stored("proxy", TrainedProxies(evaluator, len(TRUTHS)), **trained)
    for number, options in enumerate(args.supernet):
        given = [f"estimator.supernet.{option}" for option in options.split(",")]
        name = f"supernet-{options.replace(',', '-').replace('=', '')}"
        zero_cost = "estimator.zero_cost=[]" if number else "estimator.zero_cost=[naswot]"
        plan = make_plan([*words, "estimator=supernet", *given, zero_cost, f"study.name={args.task}-{name}"])
        scoring = load_evaluator(plan, console, keep_weights=False, estimator=plan.estimator, space=plan.space)
        yield from stored(name, Untrained(scoring.scorer), **plan.identity(""))
    for name, count in (("parameters", "params"), ("multiply-adds", "macs")):
        yield name, Column(np.array([one.counts[count] for one in candidates], dtype=float), 0.0, 0.0)


def judged(found: Mapping[str, Floats]) -> list[dict[str, Any]]:
    """Tau of each estimator with the truth, and its difference to that of multiply-adds, with errors."""
    truth, macs = np.mean([found[name] for name in TRUTHS], axis=0), found["multiply-adds"]
    rows = []
    for name, values in found.items():
        if name in TRUTHS:
            continue

        def difference(drawn: Any, values: Any = values) -> float:
            return pairwise_tau(values[drawn], truth[drawn]) - pairwise_tau(macs[drawn], truth[drawn])

        own, more = bootstrap_tau(values, truth), bootstrap(difference, len(truth))
        figures = {"tau": own.value, "error": own.std_error, "more": more.value, "more_error": more.std_error}
        rows.append({"estimator": name, **{key: round(value, 3) for key, value in figures.items()}})
    return rows


def main() -> None:
    """Compute what is missing, print a line per estimator, then all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--task", choices=sorted(WORDS), default="segmentation")
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--truth-epochs", type=int, default=12)
    parser.add_argument("--supernet", action="append", default=[], help="settings, such as epochs=60,batch_size=16")
    parser.add_argument("--runs", default="runs/dense_estimators")
    parser.add_argument("settings", nargs="*", help="settings of nas.search, such as proxy.epochs=3")
    args = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is not there: this benchmark needs its images.")
    found = dict(columns(args))
    scores = {name: column.scores for name, column in found.items()}
    figures = judged(scores)
    first, second = (scores[name] for name in TRUTHS)
    between = bootstrap_tau(first, second)
    print(
        f"truth: {first.mean():.3f} on average, {first.min():.3f} to {first.max():.3f}; tau of its trainings {between}"
    )
    for row in figures:
        column = found[row["estimator"]]
        print(
            f"{row['estimator']:44} tau {row['tau']:.2f} +- {row['error']:.2f}, more than multiply-adds by "
            f"{row['more']:+.2f} +- {row['more_error']:.2f}; {column.cpu_s:.1f} CPU-s per network, "
            f"{column.preparation_cpu_s:.0f} once"
        )
    facts = {"task": args.task, "networks": args.networks, "epochs": args.truth_epochs}
    print(json.dumps({**facts, "between_trainings": [between.value, between.std_error], "figures": figures}))


if __name__ == "__main__":
    main()
