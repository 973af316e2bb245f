"""Savings and cost of early stopping, replayed on tabulated learning curves.

    python tests/benchmarks/pruners.py [--seeds 20] [--samplers shuffled tpe nsga2]

Runs the search's own code on tests/reference/learning_curves.json (96 networks, all trained, 9 epochs each; see
learning_curves.py beside this file), with one worker and no clock; 70 CPU-seconds. ``shuffled`` goes through the whole
table in an order of its own for each seed, the others ask for 48 trainings. Quality is the share of the hypervolume
(accuracy x ln(ms), above the table's worst) that the networks trained to the end have of the whole table's front, or
their best reward as a share of the table's. The last line is one JSON object.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from tabulated import Curves, TabulatedEvaluator, TabulatedPredictor

from nas.core.errors import NasError
from nas.methods.search.ask_tell import SearchAskTell
from nas.methods.search.pruners import make_pruner
from nas.methods.search.settings import PRUNER_NAMES, PrunerSettings, SamplerSettings, StudySettings
from nas.study.candidates import Pricer
from nas.study.constraints import Constraints
from nas.study.objective import ObjectiveSettings
from nas.study.storage.opening import open_study
from nas.study.trial_loop import Idle, TrialTask, run_trial
from nas.study.trial_record import Outcome, TrialRecord, pareto_front

ASKED = 48  # trainings of a search whose sampler chooses
BUDGETS = (108, 216)  # epochs: 12 and 24 whole trainings


@dataclass(frozen=True)
class Moment:
    """A search after one more training: what it has cost, and the quality of what it has, from 0 to 1."""

    trials: int
    epochs: int
    cpu_s: float
    quality: float


def hypervolume(rows: Sequence[TrialRecord], worst: TrialRecord) -> float:
    """Area that the front of ``rows`` dominates, in accuracy x ln(ms), down to accuracy and latency of ``worst``."""
    area, floor = 0.0, worst.accuracy or 0.0
    for row in pareto_front(rows):
        gain = (row.accuracy or 0.0) - floor
        if gain > 0:
            area += gain * math.log((worst.latency_ms or 0.0) / (row.latency_ms or 1.0))
            floor = row.accuracy or 0.0
    return area


@dataclass(frozen=True)
class Goal:
    """An objective on the table, and how good what was trained is beside training everything."""

    objective: ObjectiveSettings
    curves: Curves

    def quality(self, rows: Sequence[TrialRecord]) -> float:
        """Share of the hypervolume of the whole table's front, or of its best reward."""
        return self._score(rows) / self._score(self.curves.rows)

    def _score(self, rows: Sequence[TrialRecord]) -> float:
        trained = [row for row in rows if row.outcome is Outcome.TRAINED]
        if self.objective.kind == "mnasnet":
            return max((self.objective.reward_of(row) for row in trained), default=0.0)
        everything = self.curves.rows
        worst_accuracy = min(row.accuracy or 0.0 for row in everything)
        slowest_ms = max(row.latency_ms or 0.0 for row in everything)
        worst = TrialRecord(number=-1, outcome=Outcome.TRAINED, accuracy=worst_accuracy, latency_ms=slowest_ms)
        return hypervolume(trained, worst)


def replay(goal: Goal, sampler: str, pruner: PrunerSettings, seed: int) -> list[Moment]:
    """One search; ``shuffled`` goes through the whole table in an order that depends on the seed."""
    curves, evaluator = goal.curves, TabulatedEvaluator(goal.curves)
    study = open_study(optuna.storages.InMemoryStorage(), f"seed {seed}", goal.objective, {})
    if sampler == "shuffled":
        genotypes = [one["genotype"] for one in curves.networks.values()]
        random.Random(seed).shuffle(genotypes)
        for genotype in genotypes:
            study.enqueue_trial(genotype)
    limits = Constraints()
    pricer = Pricer(
        space=curves.space, predictor=TabulatedPredictor(curves), constraints=limits, classes=10, in_channels=3
    )
    search = SearchAskTell(
        study=study,
        pricer=pricer,
        objective=goal.objective,
        sampler=SamplerSettings(name="random" if sampler == "shuffled" else sampler, startup=10, population=12),
        settings=StudySettings(
            n_trials=len(curves.networks) if sampler == "shuffled" else ASKED,
            seed=seed,
            max_screened=100_000,  # repeats cost nothing here
        ),
        epochs=curves.epochs,
        pruner=make_pruner(pruner, goal.objective, epochs=curves.epochs),
    )
    rows: list[TrialRecord] = []
    moments: list[Moment] = []
    while (found := search.ask()) is not Idle.OVER:
        if isinstance(found, TrialTask):
            rows.append(run_trial(search, found, evaluator))
            moments.append(Moment(len(rows), evaluator.epochs, evaluator.cpu_s, goal.quality(rows)))
    return moments


def quality_at(moments: Sequence[Moment], epochs: int) -> float:
    """Quality of the last moment that had cost at most so many epochs."""
    return max((moment.quality for moment in moments if moment.epochs <= epochs), default=0.0)


def summary(runs: Sequence[Sequence[Moment]], unstopped: Sequence[Sequence[Moment]], epochs: int) -> dict[str, Any]:
    """Means over seeds: what all trials cost, what they found, and what had been found by less.

    ``epochs`` and ``cpu_s``: as shares of training each trial to its end. ``quality`` with its standard error;
    ``same_cost``: the quality of the search of the same seed without stopping after as many epochs.
    """
    ends = [run[-1] for run in runs]
    at_end = [end.quality for end in ends]
    found = {
        "epochs": statistics.mean(end.epochs / end.trials for end in ends) / epochs,
        "cpu_s": statistics.mean(end.cpu_s / whole[-1].cpu_s for end, whole in zip(ends, unstopped, strict=True)),
        "quality": statistics.mean(at_end),
        "error": statistics.stdev(at_end) / math.sqrt(len(runs)),
        "same_cost": statistics.mean(quality_at(whole, end.epochs) for end, whole in zip(ends, unstopped, strict=True)),
        **{f"at_{budget}": statistics.mean(quality_at(run, budget) for run in runs) for budget in BUDGETS},
    }
    return {name: round(value, 4) for name, value in found.items()}


def goals(curves: Curves) -> dict[str, Goal]:
    """The two kinds of objective; the reward aims at the middle of the table's latencies."""
    target_ms = statistics.median(row.latency_ms or 0.0 for row in curves.rows)
    return {
        "pareto": Goal(ObjectiveSettings(), curves),
        "mnasnet": Goal(ObjectiveSettings(kind="mnasnet", target_ms=target_ms), curves),
    }


def fitting(goal: Goal) -> list[PrunerSettings]:
    """The rules that fit the goal, as configured by default."""
    found = []
    for name in PRUNER_NAMES:
        settings = PrunerSettings(name=name)
        try:
            settings.check_fits(goal.objective, goal.curves.epochs)
        except NasError:
            continue
        found.append(settings)
    return found


def main() -> None:
    """Print one table, and all figures as JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--samplers", nargs="+", default=["shuffled", "tpe", "nsga2"])
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves = Curves.read()
    figures: dict[str, Any] = {}
    columns = ("epochs", "cpu_s", "quality", "error", "same_cost", *(f"at_{budget}" for budget in BUDGETS))
    print(f"{'':26}" + "".join(f"{column:>10}" for column in columns))
    for kind, goal in goals(curves).items():
        for sampler in args.samplers:
            unstopped: list[list[Moment]] = []
            for pruner in fitting(goal):
                runs = [replay(goal, sampler, pruner, seed) for seed in range(args.seeds)]
                unstopped = unstopped or runs  # "none" comes first
                name = f"{kind} {sampler} {pruner.name}"
                figures[name] = found = summary(runs, unstopped, curves.epochs)
                print(f"{name:26}" + "".join(f"{found[column]:10.3f}" for column in columns), flush=True)
    print(json.dumps({"networks": len(curves.networks), "epochs": curves.epochs, "seeds": args.seeds, **figures}))


if __name__ == "__main__":
    main()
