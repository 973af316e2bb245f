"""Estimators of accuracy against networks whose accuracy after long training is known.

    OMP_NUM_THREADS=1 python tests/benchmarks/estimators.py --estimators counts proxy_default --networks 72 --seed 0
        [--table macro|curves] [--best 24] [--seeds 0 1] [--combine rank:macs+depth linear:macs+params+depth]
        [--combine anchors:naswot+supernet --anchors 8]

Networks are drawn by ``--seed`` from NAS-Bench-Macro or from learning_curves.json. For each score of each estimator:
Kendall's tau-b with the true accuracy, over all pairs and over those whose multiply-adds differ by at most 15%;
Spearman's rho; the share of the true best tenth in the estimated best tenth; tau among networks drawn from the true
best tenth of the whole table; "lost": points of true accuracy lost by taking the best estimate under a budget of
multiply-adds, mean over the quartiles of the sample; each with its bootstrap error over networks. "seeds": tau between
seeds of the estimator. The first rows are chance, and one training in full against the mean of the two others, a
ceiling (there is none of the best tenth, which the same trainings have selected). Estimators, with settings after a
colon: tests/benchmarks/estimator_kinds.py. Combinations: the mean rank, least squares on ranks fitted to half of the
networks (estimator_scores.py), and what a search estimates after its anchors (estimator_anchors.py).

Every score is stored below ``--runs`` as it comes, and the same command goes on where it was. The last line is one JSON
object. Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from nas.analysis.rank_agreement import (
    Bootstrap,
    best_share_found,
    bootstrap,
    budget_regret,
    comparable_pairs,
    pairwise_tau,
    spearman_rho,
)
from nas.core.errors import NasError
from nas.core.tables import print_table
from tests.benchmarks.estimator_anchors import COUNTS, learned_from_anchors
from tests.benchmarks.estimator_kinds import parse_estimator
from tests.benchmarks.estimator_scores import Floats, Signal, combined, scored
from tests.benchmarks.estimator_tables import TABLES, Candidate, Sample

_QUARTILES: Final = (0.25, 0.5, 0.75, 1.0)
_RESAMPLES: Final = 300
_COLUMNS: Final = (
    "estimator",
    "tau",
    "tau, equal MACs",
    "rho",
    "best found",
    "tau, best tenth",
    "lost",
    "seeds",
    "CPU-s",
)

# Of the scores and truth of networks, and their MACs.
Measure = Callable[[Floats, Floats, Floats], float]


class Judge:
    """Statistics of the scores of one sample.

    ``truth`` and the values of every signal are in the order of ``sample.all``.
    """

    def __init__(self, sample: Sample) -> None:
        order = {one.name: row for row, one in enumerate(sample.all)}
        self._rows, self._best = ([order[one.name] for one in part] for part in (sample.candidates, sample.best))
        self._macs = np.array([one.counts["macs"] for one in sample.all], dtype=float)
        budgets = np.quantile(self._macs[self._rows], _QUARTILES).tolist()
        self._measures: dict[str, Measure] = {
            "tau": lambda scores, truth, macs: pairwise_tau(scores, truth),
            "tau, equal MACs": lambda scores, truth, macs: pairwise_tau(scores, truth, comparable_pairs(macs)),
            "rho": lambda scores, truth, macs: spearman_rho(scores, truth),
            "best found": lambda scores, truth, macs: best_share_found(scores, truth),
            "lost": lambda scores, truth, macs: 100 * budget_regret(scores, truth, macs, budgets),
        }

    def row(self, signal: Signal, truths: Sequence[Floats]) -> dict[str, Any]:
        """Mean over seeds of each statistic, with its error over networks.

        ``truths``: what each seed's scores are held against.
        """
        found: dict[str, Any] = {"estimator": signal.label}
        for name, measure in self._measures.items():
            found[name] = self._bootstrap(measure, signal, truths, self._rows)
        found["tau, best tenth"] = self._bootstrap(self._measures["tau"], signal, truths, self._best)
        found["seeds"] = self._between_seeds(signal)
        found["CPU-s"] = signal.cpu_s
        found["tau by seed"] = [
            pairwise_tau(values[self._rows], truth[self._rows])
            for values, truth in zip(signal.values, truths, strict=True)
        ]
        return found

    def _bootstrap(
        self, measure: Measure, signal: Signal, truths: Sequence[Floats], chosen: Sequence[int]
    ) -> Bootstrap | None:
        rows = np.array(chosen, dtype=int)
        if len(rows) < 3:
            return None

        def statistic(drawn: Any) -> float:
            at = rows[drawn]
            return float(
                np.mean([measure(v[at], t[at], self._macs[at]) for v, t in zip(signal.values, truths, strict=True)])
            )

        return bootstrap(statistic, len(rows), resamples=_RESAMPLES)

    def _between_seeds(self, signal: Signal) -> float:
        pairs = itertools.combinations([values[self._rows] for values in signal.values], 2)
        found = [pairwise_tau(first, second) for first, second in pairs]
        return float(np.mean(found)) if found else math.nan


def ceiling(everyone: Sequence[Candidate]) -> tuple[Signal, list[Floats]] | None:
    """One training in full, and the mean of the others that it is held against; None where there is one alone."""
    trainings = np.array([one.accuracies for one in everyone]).T
    if len(trainings) < 2:
        return None
    values = list(trainings)
    others = [np.delete(trainings, index, axis=0).mean(axis=0) for index in range(len(trainings))]
    return Signal(label="one training in full", values=values, cpu_s=math.nan), others


def judged(sample: Sample, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the table: chance, ceiling, estimators, combinations."""
    for text in args.estimators:  # a mistake is found before the first score is computed
        _ = parse_estimator(text, sample, 0, args.runs).identity
    signals = {
        signal.label: signal for text in args.estimators for signal in scored(text, sample, args.seeds, args.runs)
    }
    truth = np.array([one.accuracy for one in sample.all])
    texts = list(args.combine)
    if set(COUNTS) <= set(signals):
        subsets = [names for size in (2, 3) for names in itertools.combinations(COUNTS, size)]
        learned = [f"{rule}:{'+'.join(COUNTS)}" for rule in ("linear", "anchors")]
        texts = [*(f"rank:{'+'.join(names)}" for names in subsets), *learned, *texts]
    combinations = [
        learned_from_anchors(text, signals, sample, args.anchors)
        if text.startswith("anchors:")
        else combined(text, signals, truth[: len(sample.candidates)])
        for text in texts
    ]
    judge = Judge(sample)
    rows = [judge.row(Signal(label="chance", values=[np.zeros(len(truth))], cpu_s=0.0), [truth])]
    top = ceiling(sample.all)
    if top is not None:
        rows.append({**judge.row(*top), "tau, best tenth": None})
    for signal in (*signals.values(), *combinations):
        rows.append(judge.row(signal, [truth] * len(signal.values)))
        if len(signal.values) > 1 and signal.has_mean:
            mean = Signal(
                label=f"{signal.label}, mean of {len(signal.values)} seeds",
                values=[np.mean(signal.values, axis=0)],
                cpu_s=signal.cpu_s * len(signal.values),
            )
            rows.append(judge.row(mean, [truth]))
    return rows


def cell(value: Any) -> str:
    """A figure with its error, as text; a dash where there is none."""
    if isinstance(value, Bootstrap):
        return "-" if math.isnan(value.value) else str(value)
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.2f}"
    return "-" if value is None else str(value)


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for JSON: (value, error) where there is an error, null where a figure is undefined."""

    def figure(value: Any) -> Any:
        if isinstance(value, Bootstrap):
            return [figure(value.value), figure(value.std_error)]
        if isinstance(value, list):
            return [figure(one) for one in value]
        return (None if math.isnan(value) else round(value, 4)) if isinstance(value, float) else value

    return {name: figure(value) for name, value in row.items()}


def main() -> int:
    """Score, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--estimators", nargs="+", default=["counts"], metavar="NAME[:key=value,...]")
    parser.add_argument(
        "--combine", nargs="+", default=[], metavar="RULE:SIGNAL+SIGNAL", help="rank, linear or anchors"
    )
    parser.add_argument("--anchors", type=int, default=8, help="networks from which anchors:A+B learns, as a search")
    parser.add_argument("--table", choices=TABLES, default="macro")
    parser.add_argument("--networks", type=int, default=72, help="drawn from all of the table")
    parser.add_argument("--best", type=int, default=0, help="drawn from its best tenth")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the estimators")
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"), help="folder of tables and images")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where scores are stored")
    args = parser.parse_args()
    try:
        sample = TABLES[args.table](args.shared, args.networks, args.best, args.seed)
        rows = judged(sample, args)
    except NasError as error:
        print(f"estimators.py: {error}", file=sys.stderr)
        return 2
    print_table(_COLUMNS, [[cell(row[name]) for name in _COLUMNS] for row in rows], [])
    print(
        json.dumps(
            {"table": args.table, "networks": args.networks, "seed": args.seed, "rows": [plain(row) for row in rows]}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
