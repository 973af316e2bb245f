"""Networks found at equal CPU time by a supernet, by short trainings, at random and by MACs.

    OMP_NUM_THREADS=1 python tests/benchmarks/equal_time.py --root ../shared/data/cifar10_mini [--cpu-s 300] [--seeds 0]

Each arm chooses ``--finalists`` networks of a space under one limit, the median predicted latency of 300 random
networks, and all of them are trained equally and long:

- ``supernet``: ``estimator=supernet`` on all train images, about ``--supernet-share`` of the CPU time
  for the supernet, four anchors of two epochs, then as many candidates as there is time to score; the best by estimate.
- ``default``: a search with ``estimator=proxy``, as ``python -m nas.search`` trained candidates before there were other
  estimators: 2,000 images of 12 px, 2 epochs, batches of 16; the best by accuracy.
- ``random``: random networks under the limit, no search.
- ``macs``: of 1,000 random networks under the limit those with the most multiply-adds, no search.

Both searches are TPE's, maximise accuracy under the limit (MnasNet's reward with exponents of 0), begin with random
networks, none of them published, and end with the trial amid which their CPU time is over; reading the images, survey,
sampler and storage count. Predictions are those of this machine's calibration below ``--runs``, which is made at first.

A seed is one search, and a new draw of ``random`` and ``macs``. Standard errors are those of means over seeds, of the
means of the finalists of each; of a difference they are pooled over both arms, and "all spaces" is the mean over the
spaces. What is the same for all, the images and the seed of a network's final training, is not in them.

Every search and every final training is stored below ``--runs``, and the same command goes on where it was. Started
twice, the processes share the work; the one that ends first prints what there is. The last line is one JSON object.
Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import math
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import islice, product
from pathlib import Path
from statistics import fmean, median, variance
from typing import Any, Final

from rich.console import Console

from nas.core.errors import NasError
from nas.core.files import write_text_atomically
from nas.core.tables import print_table
from nas.data.images import ImageData, load_images
from nas.data.sources import DataSettings
from nas.data.summary import ImageSummary
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.latency.predictors.base import LatencyPredictor
from nas.latency.settings import LatencySettings
from nas.latency.store import calibration_path, device_of, load_or_calibrate
from nas.methods.search.context import search_pricer
from nas.methods.search.session import SearchSession, prepare_search
from nas.methods.search.trials.finalists import spread_front
from nas.search import make_plan
from nas.study.candidates import Candidate, Pricer
from nas.study.storage.optuna_private import storage_of
from nas.study.storage.ownership import exclusive_ownership
from nas.study.trial_attributes import trial_records
from nas.study.trial_loop import Idle, TrialTask, run_trial
from nas.study.trial_record import TrialRecord, outcome_counts_text, trained_networks
from nas.training.results import EpochResult, TrainingError

ARMS: Final = ("supernet", "default", "random", "macs")
SPACES: Final = ("mixnet", "mobilenet_v3")
LIMIT_NETWORKS: Final = 300
MACS_NETWORKS: Final = 1000
RANKED: Final = 8  # networks stored of each arm, so that more finalists may be trained later
# CPU-seconds of one network per step over 4,000 images at the settings below, measured; of another space as mixnet.
PASS_CPU_S: Final = {"mixnet": 17.0, "mobilenet_v3": 9.3}
PROXY: Final = (
    "proxy=default", "proxy.resolution_px=16", "proxy.min_map_px=2", "proxy.batch_size=64", "proxy.lr=0.02",
)  # fmt: skip
SEARCHES: Final[Mapping[str, Sequence[str]]] = {
    "supernet": (
        "estimator=supernet", "estimator.anchors=4", "estimator.finalists=0", "estimator.checks=0",
        "estimator.supernet.statistics_images=256", "estimator.supernet.lr=0.02", "proxy.epochs=2", "data.subset=null",
        *PROXY,
    ),
    "default": (
        "estimator=proxy", "proxy=default", "proxy.resolution_px=12", "proxy.min_map_px=auto", "proxy.epochs=2",
        "proxy.batch_size=16", "proxy.lr=0.01", "data.subset=2000",
    ),
}  # fmt: skip
FINAL: Final = (*PROXY, "data.subset=null")
COLUMNS: Final = (
    "space", "arm", "accuracy", "validation loss", "M MACs", "ms", "search CPU-s", "candidates", "final CPU-s",
)  # fmt: skip
Piece = dict[str, Any]


def spent_cpu_s() -> float:
    """CPU-seconds of this process and its children so far."""
    return sum(os.times()[:4])


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock the making of the file at ``path``; yields whether this process has the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Arguments of the command, and what all arms of a space share."""

    args: argparse.Namespace

    @cached_property
    def predictor(self) -> LatencyPredictor:
        """Predictor of this machine, calibrated at first."""
        with claimed(self._calibration, wait=True):
            return load_or_calibrate(LatencySettings(), self.args.runs)

    @property
    def _calibration(self) -> Path:
        return calibration_path(device_of(LatencySettings()), self.args.runs)

    def plan(self, space: str, words: Sequence[str], folder: Path | None = None) -> Any:
        """Plan of a search of ``space`` on the images."""
        data = ("data=imagefolder", f"data.root={self.args.root}")
        latency = f"latency.calibration={self._calibration}"
        runs = f"runs_dir={folder or self.args.runs / 'unused'}"
        return make_plan([f"space={space}", *data, latency, runs, "sampler=tpe", *words])

    def limit_ms(self, space: str) -> float:
        """Limit on the latency of the networks of ``space``."""
        facts = {"space": space, "quantile": 0.5, "networks": LIMIT_NETWORKS, "device": str(self.predictor.device)}

        def measure() -> Piece:
            rng, pricer = random.Random(f"limit {space}"), self.pricer(space, ())
            drawn = [pricer.price(pricer.space.sample(rng)) for _ in range(LIMIT_NETWORKS)]
            return {"latency_ms": round(median(one.latency.latency_ms for one in drawn), 4)}

        found = self.piece(f"limit-{space}", facts, measure, wait=True)
        return float(found["latency_ms"])  # type: ignore[index]  # it has waited

    def pricer(self, space: str, words: Sequence[str]) -> Pricer:
        """Pricer of ``space`` under the limits in ``words``."""
        plan = self.plan(space, words)
        return search_pricer(plan, self.predictor, ImageSummary.of(images(plan.data, plan.proxy.resolution_px)))

    def piece(
        self, name: str, facts: Mapping[str, Any], make: Callable[[], Piece], *, wait: bool = False
    ) -> Piece | None:
        """Stored result of ``make``, which ``facts`` settle; None while another process makes it."""
        facts = {**facts, "images": self.args.root.name}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
        path = self.args.runs / "pieces" / f"{name}-{digest}.json"
        with claimed(path, wait=wait) as is_ours:
            if not path.exists():
                if not is_ours:
                    return None
                write_text_atomically(path, json.dumps({"facts": facts, **make()}, indent=1) + "\n")
                print(f"{name}: done", file=sys.stderr)
        found: Piece = json.loads(path.read_text(encoding="utf-8"))
        return found

    def chosen(self, space: str, seed: int, arm: str) -> Piece | None:
        """Networks that ``arm`` chooses, the best first, and what that cost."""
        limit_ms = self.limit_ms(space)
        words = [f"constraint.latency_ms={limit_ms}"]
        facts = {"space": space, "seed": seed, "arm": arm, "limit_ms": limit_ms}
        if arm not in SEARCHES:
            return self.piece(f"{space}-{seed}-{arm}", facts, lambda: drawn(self.pricer(space, words), arm, seed))
        words += [f"study.seed={seed}", *self._search_words(space, arm, limit_ms)]
        facts |= {"cpu_s": self.args.cpu_s, "words": words}
        folder = self.args.runs / "searches" / f"{space}-{seed}-{arm}"
        return self.piece(
            f"{space}-{seed}-{arm}", facts, lambda: searched(self.plan(space, words, folder), self.args.cpu_s)
        )

    def _search_words(self, space: str, arm: str, limit_ms: float) -> list[str]:
        words = [*SEARCHES[arm], "study.n_trials=100000", "study.max_screened=2000", "study.seed_published=false"]
        words += ["objective=mnasnet", f"objective.target_ms={limit_ms}", "objective.alpha=0", "objective.beta=0"]
        if arm == "supernet":
            args = self.args
            pass_cpu_s = args.supernet_networks * PASS_CPU_S.get(space, PASS_CPU_S["mixnet"])
            epochs = args.supernet_epochs or max(1, round(args.supernet_share * args.cpu_s / pass_cpu_s))
            words += [f"estimator.supernet.epochs={epochs}", f"estimator.supernet.networks={args.supernet_networks}"]
        return words

    def trained(self, space: str, network: Mapping[str, Any]) -> Piece | None:
        """Accuracy and loss of a chosen network after its final training."""
        words = [*FINAL, f"proxy.epochs={self.args.final_epochs}", f"proxy.width_multiplier={self.args.final_width}"]
        facts = {"space": space, "arch_id": network["arch_id"], "words": words}
        return self.piece(
            f"{space}-final-{network['arch_id']}",
            facts,
            lambda: final_training(self.plan(space, words), network["genotype"]),
        )

    def arm(self, space: str, seed: int, arm: str) -> Piece | None:
        """One arm with one seed, its finalists trained; None while another process is at work on it."""
        found = self.chosen(space, seed, arm)
        if found is None:
            return None
        finals = [self.trained(space, network) for network in found["networks"][: self.args.finalists]]
        return None if None in finals else {"space": space, "seed": seed, "arm": arm, **found, "finals": finals}


@cache
def images(settings: DataSettings, side_px: int) -> ImageData:
    """Images of ``settings`` at ``side_px``, read once."""
    return load_images(replace(settings, resolution_px=side_px))


def described(candidate: Candidate) -> Piece:
    """What is stored of a chosen network."""
    return {
        "arch_id": candidate.arch.arch_id,
        "macs_m": round(candidate.measures["macs_m"], 3),
        "latency_ms": round(candidate.measures["latency_ms"], 4),
        "genotype": dict(candidate.genotype),
    }


def feasible(pricer: Pricer, rng: random.Random) -> Iterator[Candidate]:
    """Random networks within the limits, each once."""
    seen: set[str] = set()
    while True:
        candidate = pricer.price(pricer.space.sample(rng))
        if pricer.worst(candidate) <= 0 and candidate.arch.arch_id not in seen:
            seen.add(candidate.arch.arch_id)
            yield candidate


def drawn(pricer: Pricer, arm: str, seed: int) -> Piece:
    """Networks chosen without a search: at random, or by MACs."""
    start = spent_cpu_s()
    count = MACS_NETWORKS if arm == "macs" else RANKED
    found = list(islice(feasible(pricer, random.Random(f"{arm} {seed}")), count))
    if arm == "macs":
        found.sort(key=lambda candidate: -candidate.cost.macs)
    networks = [described(candidate) for candidate in found[:RANKED]]
    return {"networks": networks, "cpu_s": round(spent_cpu_s() - start, 2), "candidates": f"{count} counted"}


def searched(plan: Any, budget_cpu_s: float) -> Piece:
    """Networks chosen by a search of ``budget_cpu_s`` CPU-seconds; what an earlier run left unfinished starts anew."""
    shutil.rmtree(plan.runs_dir, ignore_errors=True)
    start, console = spent_cpu_s(), Console(stderr=True, quiet=True)
    session = prepare_search(plan, console)
    with exclusive_ownership(plan.folder, console) as acquire:
        study = session.start(None, console, acquire)
        before = spent_cpu_s()
        session.prepare_scorer(study, console)
        supernet_cpu_s = spent_cpu_s() - before
        run_until(session, study, start + budget_cpu_s)
        rows = trial_records(study)
    storage_of(study).close()
    cpu_s = spent_cpu_s() - start
    best = best_rows(session, rows)
    return {
        "networks": [
            {**described(session.pricer.price(row.genotype)), "expected_accuracy": row.ranked_accuracy} for row in best
        ],
        "cpu_s": round(cpu_s, 2),
        "supernet_cpu_s": round(supernet_cpu_s, 2),
        "candidates": outcome_counts_text(rows),
    }


def run_until(session: SearchSession, study: Any, end_cpu_s: float) -> None:
    """Run trials until ``end_cpu_s`` is spent."""
    tasks = session.ask_tell(study)
    while spent_cpu_s() < end_cpu_s and (found := tasks.ask()) is not Idle.OVER:
        if isinstance(found, TrialTask):
            run_trial(tasks, found, session.evaluator)
    tasks.release()


def best_rows(session: SearchSession, rows: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The best of a search: those scored by estimate, then those trained by accuracy."""
    scored = spread_front(rows, session.plan.objective, RANKED)
    trained = sorted(trained_networks(rows), key=lambda row: (-(row.accuracy or 0.0), row.number))
    return [*scored, *trained][:RANKED]


def final_training(plan: Any, genotype: Mapping[str, Any]) -> Piece:
    """Train the network of ``genotype`` alone."""
    data = images(plan.data, plan.proxy.resolution_px)
    evaluator = ProxyEvaluator(data=data, settings=plan.proxy, largest_kernel=plan.largest_kernel, seed=0)
    arch = plan.space.decode(genotype, classes=data.classes, in_channels=data.channels)
    epochs: list[EpochResult] = []
    start = spent_cpu_s()
    try:
        result = evaluator.evaluate(arch, on_epoch=epochs.append)
    except TrainingError as error:
        return {"failed": str(error), "cpu_s": round(spent_cpu_s() - start, 2)}
    return {
        "accuracy": result.accuracy,
        "loss": result.loss,
        "accuracies": [round(one.accuracy, 4) for one in epochs],
        "cpu_s": round(spent_cpu_s() - start, 2),
    }


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its standard error, NaN where one seed alone is known."""

    value: float
    error: float

    @classmethod
    def of_seeds(cls, values: Sequence[float]) -> Estimate:
        """Mean over seeds."""
        error = math.sqrt(variance(values) / len(values)) if len(values) > 1 else math.nan
        return cls(value=fmean(values) if values else math.nan, error=error)

    def __sub__(self, other: Estimate) -> Estimate:
        return Estimate(value=self.value - other.value, error=math.hypot(self.error, other.error))

    @classmethod
    def mean(cls, estimates: Sequence[Estimate]) -> Estimate:
        """Mean of independent estimates."""
        error = math.hypot(*(one.error for one in estimates)) / len(estimates)
        return cls(value=fmean(one.value for one in estimates), error=error)

    def text(self, digits: int, factor: float = 1.0) -> str:
        """The mean with its error, times ``factor``; a dash where it is unknown."""
        if math.isnan(self.value):
            return "-"
        error = "" if math.isnan(self.error) else f" ± {factor * self.error:.{digits}f}"
        return f"{factor * self.value:.{digits}f}{error}"

    @property
    def plain(self) -> list[float | None]:
        """Value and error for JSON, null where unknown."""
        return [None if math.isnan(one) else round(one, 5) for one in (self.value, self.error)]


def over_seeds(pieces: Sequence[Piece], value: Callable[[Piece, Piece], float]) -> Estimate:
    """Mean over seeds of the mean over finalists of ``value``, of a network and its final training."""
    by_seed = []
    for piece in pieces:
        pairs = zip(piece["networks"], piece["finals"], strict=False)
        values = [value(network, final) for network, final in pairs if "failed" not in final]
        by_seed += [fmean(values)] if values else []
    return Estimate.of_seeds(by_seed)


def summaries(pieces: Sequence[Piece]) -> dict[tuple[str, str], dict[str, Estimate]]:
    """Figures of each space and arm."""
    found = {}
    for key in dict.fromkeys((piece["space"], piece["arm"]) for piece in pieces):
        own = [piece for piece in pieces if (piece["space"], piece["arm"]) == key]
        found[key] = {
            "accuracy": over_seeds(own, lambda _, final: final["accuracy"]),
            "loss": over_seeds(own, lambda _, final: final["loss"]),
            "macs_m": over_seeds(own, lambda network, _: network["macs_m"]),
            "latency_ms": over_seeds(own, lambda network, _: network["latency_ms"]),
            "final_cpu_s": over_seeds(own, lambda _, final: final["cpu_s"]),
            "search_cpu_s": Estimate.of_seeds([piece["cpu_s"] for piece in own]),
        }
    return found


def differences(figures: Mapping[tuple[str, str], Mapping[str, Estimate]]) -> dict[str, dict[str, Any]]:
    """Supernet minus each other arm, by space and over all spaces that have both."""
    found: dict[str, dict[str, Any]] = {}
    for other in ARMS[1:]:
        spaces = [space for space, arm in figures if arm == other and (space, ARMS[0]) in figures]
        for name in ("accuracy", "loss"):
            by_space = {space: figures[space, ARMS[0]][name] - figures[space, other][name] for space in spaces}
            if by_space:
                found.setdefault(other, {})[name] = {**by_space, "all spaces": Estimate.mean(list(by_space.values()))}
    return found


def report(pieces: Sequence[Piece], missing: int, args: argparse.Namespace) -> None:
    """Print the table, the differences, and everything as JSON."""
    figures = summaries(pieces)
    rows = []
    for (space, arm), one in figures.items():
        own = [piece for piece in pieces if (piece["space"], piece["arm"]) == (space, arm)]
        cells = [one["accuracy"].text(1, 100), one["loss"].text(3), one["macs_m"].text(0), one["latency_ms"].text(2)]
        cells += [one["search_cpu_s"].text(0), "; ".join(piece["candidates"] for piece in own)]
        rows.append([space, arm, *cells, one["final_cpu_s"].text(0)])
    failed = sum("failed" in final for piece in pieces for final in piece["finals"])
    remarks = [f"{failed} final trainings failed and are left out"] if failed else []
    remarks += [f"{missing} of {missing + len(pieces)} arms are at work in another process"] if missing else []
    print_table(COLUMNS, rows, remarks, left=2)
    found = differences(figures)
    lines = [
        [other, space, by_space["accuracy"][space].text(1, 100), by_space["loss"][space].text(3)]
        for other, by_space in found.items()
        for space in by_space["accuracy"]
    ]
    print_table(("supernet minus", "space", "points of accuracy", "validation loss"), lines, [], left=2)
    plain = {
        other: {name: {space: one.plain for space, one in values.items()} for name, values in by_name.items()}
        for other, by_name in found.items()
    }
    arms = [
        {"space": space, "arm": arm, **{name: one.plain for name, one in values.items()}}
        for (space, arm), values in figures.items()
    ]
    settings = {name: value for name, value in vars(args).items() if name not in ("root", "runs")}
    print(json.dumps({"settings": settings, "arms": arms, "differences": plain, "missing": missing, "pieces": pieces}))


def main() -> int:
    """Search, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, default=Path("../shared/data/cifar10_mini"), help="train/ and val/")
    parser.add_argument("--spaces", nargs="+", default=SPACES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--cpu-s", type=float, default=300.0, help="of each search")
    parser.add_argument("--supernet-share", type=float, default=0.5, help="of it for training the supernet, about")
    parser.add_argument("--supernet-epochs", type=int, help="instead of those that take this share")
    parser.add_argument("--supernet-networks", type=int, default=3, help="of each step of its training")
    parser.add_argument("--finalists", type=int, default=2, help=f"of each arm and seed, at most {RANKED}")
    parser.add_argument("--final-epochs", type=int, default=12)
    parser.add_argument("--final-width", type=float, default=0.25, help="width multiplier of final trainings")
    parser.add_argument("--runs", type=Path, default=Path("runs/equal_time"), help="where all results are stored")
    args = parser.parse_args()
    if not args.root.is_dir():
        print(json.dumps({"skipped": f"there are no images in {args.root}"}))
        return 0
    args.root, args.runs = args.root.resolve(), args.runs.resolve()
    benchmark = Benchmark(args=args)
    try:
        order = [(space, seed, arm) for seed, space, arm in product(args.seeds, args.spaces, args.arms)]
        for _ in range(2):  # again, as what another process has made in the meantime
            found = [benchmark.arm(*one) for one in order]
    except NasError as error:
        print(f"equal_time.py: {error}", file=sys.stderr)
        return 2
    pieces = [piece for piece in found if piece is not None]
    report(pieces, len(found) - len(pieces), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
