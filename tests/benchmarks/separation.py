"""Whether a data set separates networks: the variance between networks against that between seeds.

    OMP_NUM_THREADS=1 python tests/benchmarks/separation.py --data digits mnist_5k [--networks 8] [proxy.epochs=3 ...]

Trains the proxies of random networks of `mixnet`, each with several seeds, and prints the share of the variance that is
the networks' own, the intraclass correlation ICC(1), with its exact interval of 95% from the F distribution (Shrout and
Fleiss 1979), for accuracy and for validation loss. An ICC of 0 means that networks differ no more than trainings of one
network do. Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nas.arch.spec import ArchSpec
from nas.data.images import ImageData, load_images
from nas.estimators.proxy.evaluator import ProxyEvaluator, TaskData
from nas.search import make_plan
from nas.training.results import EpochResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """The variance of one figure over networks and seeds, divided.

    ``between`` and ``within`` are standard deviations: of the networks' expected figures (0 where the estimate of
    their variance is negative), and of one training about these. ``icc`` is the share of ``between``.
    """

    mean: float
    between: float
    within: float
    icc: float
    icc_low: float
    icc_high: float


def separation(values: NDArray[np.float64]) -> Separation:
    """Analyse ``values`` (networks, seeds): one-way analysis of variance with networks as random factor."""
    networks, seeds = values.shape
    of_networks = seeds * values.mean(1).var(ddof=1)
    of_seeds = values.var(1, ddof=1).mean()
    freedom = networks - 1, networks * (seeds - 1)
    ratios = [of_networks / of_seeds / divisor for divisor in (1.0, *stats.f.ppf([0.975, 0.025], *freedom))]
    icc, icc_low, icc_high = ((ratio - 1) / (ratio + seeds - 1) for ratio in ratios)
    return Separation(
        mean=float(values.mean()),
        between=float(max(0.0, (of_networks - of_seeds) / seeds) ** 0.5),
        within=float(of_seeds**0.5),
        icc=float(icc),
        icc_low=float(icc_low),
        icc_high=float(icc_high),
    )


def draw_networks(space: Any, data: TaskData, count: int) -> list[ArchSpec]:
    """Draw ``count`` random networks, the same for every data set of as many classes and channels."""
    rng = random.Random(0)
    return [space.decode(space.sample(rng), classes=data.classes, in_channels=data.channels) for _ in range(count)]


def measure(data: ImageData, plan: Any, networks: int, seeds: int) -> dict[str, Any]:
    """Train ``networks`` networks with ``seeds`` seeds each on ``data``; the figures of the data set."""
    evaluator = ProxyEvaluator(data=data, settings=plan.proxy, largest_kernel=plan.largest_kernel, seed=0)
    accuracy, loss, cpu_s = np.zeros((3, networks, seeds))
    for row, arch in enumerate(draw_networks(plan.space, data, networks)):
        for repeat in range(seeds):
            epochs: list[EpochResult] = []
            cpu_s[row, repeat] = evaluator.evaluate(arch, repeat=repeat, on_epoch=epochs.append).cpu_s
            accuracy[row, repeat], loss[row, repeat] = epochs[-1].accuracy, epochs[-1].val_loss
    return {
        "train": len(data.train_labels),
        "val": len(data.val_labels),
        "accuracy": asdict(separation(accuracy)),
        "loss": asdict(separation(loss)),
        "cpu_s": float(cpu_s.mean()),
        "accuracies": accuracy.round(4).tolist(),
        "losses": loss.round(4).tolist(),
    }


def main() -> None:
    """Print one line per data set, then all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", nargs="+", default=["digits"], help="names of conf/data/")
    parser.add_argument("--networks", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("overrides", nargs="*", help="settings of nas.search, such as proxy.epochs=3")
    args = parser.parse_args()
    found = {}
    for name in args.data:
        plan = make_plan(["space=mixnet", f"data={name}", *args.overrides])
        found[name] = measure(load_images(plan.data), plan, args.networks, args.seeds)
        print(line(name, found[name]), flush=True)
    print(json.dumps(found))


def line(name: str, figures: dict[str, Any]) -> str:
    """Summarise the figures of a data set."""
    parts = [f"{name:12} {figures['cpu_s']:5.1f} CPU-s"]
    for key in ("accuracy", "loss"):
        one = figures[key]
        parts.append(
            f"{key} {one['mean']:.4f}, between networks {one['between']:.4f}, seeds {one['within']:.4f}, "
            f"ICC {one['icc']:.2f} ({one['icc_low']:.2f} to {one['icc_high']:.2f})"
        )
    return "; ".join(parts)


if __name__ == "__main__":
    main()
