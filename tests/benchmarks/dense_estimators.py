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
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from nas.analysis.rank_agreement import bootstrap, bootstrap_tau, pairwise_tau
from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.search import make_plan
from nas.study.session import load_evaluator

ROOT: Final = Path(__file__).resolve().parents[2]
DATA: Final = ROOT.parent / "shared" / "data"
WORDS: Final = {
    "detection": ("data.repair=true", f"data.root={DATA / 'bccd'}"),
    "segmentation": ("data.void=11", f"data.root={DATA / 'camvid160'}"),
}
SPACE: Final = "mobilenet_v3_small"
SEED: Final = 0  # of the networks that are drawn
TRUTHS: Final = ("truth 1", "truth 2")  # long trainings with different seeds


class Scores:
    """Scores of networks by one estimator, stored as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self._found: dict[str, dict[str, float]] = {row["arch_id"]: row for row in map(json.loads, lines)}

    def of(self, arch: ArchSpec, compute: Callable[[ArchSpec], Mapping[str, float]]) -> Mapping[str, float]:
        """Scores of ``arch``, with the CPU-seconds that they took as ``cpu_s``."""
        if arch.arch_id not in self._found:
            start = time.process_time()
            row = {"arch_id": arch.arch_id, **compute(arch), "cpu_s": time.process_time() - start}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self._found[arch.arch_id] = row
        return self._found[arch.arch_id]


def draw(plan: Any, evaluator: ProxyEvaluator, count: int) -> list[ArchSpec]:
    """Draw ``count`` different networks with the head of the task."""
    rng, found = random.Random(SEED), {}
    classes = evaluator.data.classes
    while len(found) < count:
        trunk = plan.space.decode(plan.space.sample(rng), classes=classes, in_channels=3)
        arch = plan.head.network(trunk, plan.task, classes)
        found[arch.arch_id] = arch
    return list(found.values())


def trained_score(evaluator: ProxyEvaluator, repeat: int, arch: ArchSpec) -> Mapping[str, float]:
    """Score of the trained proxy of ``arch``."""
    return {"score": evaluator.evaluate(arch, repeat=repeat).accuracy}


def columns(args: argparse.Namespace) -> Iterator[tuple[str, list[Mapping[str, float]]]]:
    """Yield name and scores of each long training, then of each estimator, by network."""
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
    archs = draw(plan, evaluator, args.networks)

    def stored(name: str, compute: Callable[[ArchSpec], Mapping[str, float]]) -> list[Mapping[str, float]]:
        scores, rows = Scores(Path(args.runs) / f"{args.task}-{name.replace(' ', '')}.jsonl"), []
        for number, arch in enumerate(archs, 1):
            rows.append(scores.of(arch, compute))
            print(f"\r{name}: {number} of {len(archs)}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        return rows

    longer = replace(evaluator, settings=replace(plan.proxy, epochs=args.truth_epochs))
    for repeat, name in enumerate(TRUTHS):
        trained = partial(trained_score, longer, repeat)
        yield name, stored(f"{name}-{args.truth_epochs}", trained)
    yield "proxy", stored("proxy", partial(trained_score, evaluator, len(TRUTHS)))
    for number, options in enumerate(args.supernet):
        given = [f"estimator.supernet.{option}" for option in options.split(",")]
        name = f"supernet-{options.replace(',', '-').replace('=', '')}"
        zero_cost = "estimator.zero_cost=[]" if number else "estimator.zero_cost=[naswot]"
        plan = make_plan([*words, "estimator=supernet", *given, zero_cost, f"study.name={args.task}-{name}"])
        scoring = load_evaluator(plan, console, keep_weights=False, estimator=plan.estimator, space=plan.space)
        scorer: Any = scoring.scorer
        start = time.process_time()
        scorer.prepare()
        print(f"{name}: {time.process_time() - start:.0f} CPU-s of training", file=sys.stderr)
        rows = stored(name, scoring.scores)
        for key in scorer.names:
            yield f"{name}, {key}", [{"score": row[key], "cpu_s": row["cpu_s"]} for row in rows]
    costs = [complexity(arch) for arch in archs]
    yield "parameters", [{"score": cost.params, "cpu_s": 0.0} for cost in costs]
    yield "multiply-adds", [{"score": cost.macs, "cpu_s": 0.0} for cost in costs]


def judged(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tau of each estimator with the truth, and its difference to that of multiply-adds, with errors."""
    truth, macs = np.mean([found[name] for name in TRUTHS], axis=0), found["multiply-adds"]
    rows = []
    for name, values in found.items():
        if name in TRUTHS:
            continue

        def tau(drawn: Any, values: Any = values) -> float:
            return pairwise_tau(values[drawn], truth[drawn])

        def difference(drawn: Any, values: Any = values) -> float:
            return tau(drawn, values) - pairwise_tau(macs[drawn], truth[drawn])

        own, more = (bootstrap(statistic, len(truth)) for statistic in (tau, difference))
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
    rows = dict(columns(args))
    scores = {name: np.array([row["score"] for row in of]) for name, of in rows.items()}
    figures = judged(scores)
    first, second = (scores[name] for name in TRUTHS)
    between = bootstrap_tau(first, second)
    print(
        f"truth: {first.mean():.3f} on average, {first.min():.3f} to {first.max():.3f}; tau of its trainings {between}"
    )
    for row in figures:
        cpu_s = float(np.mean([one["cpu_s"] for one in rows[row["estimator"]]]))
        print(
            f"{row['estimator']:44} tau {row['tau']:.2f} +- {row['error']:.2f}, more than multiply-adds by "
            f"{row['more']:+.2f} +- {row['more_error']:.2f}; {cpu_s:.1f} CPU-s per network"
        )
    facts = {"task": args.task, "networks": args.networks, "epochs": args.truth_epochs}
    print(json.dumps({**facts, "between_trainings": [between.value, between.std_error], "figures": figures}))


if __name__ == "__main__":
    main()
