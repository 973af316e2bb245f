"""Trainings of every network of a small space, on which samplers are compared that were developed on another.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/second_table.py [--root ../shared/data/cifar10_mini]

Writes tests/reference/second_table.csv, one line per training, and second_table.json beside it, which says what was
trained and how much trainings of one network differ. An hour of CPU; the same command goes on with what is missing.

384 points are 240 networks: kernels, expansion and channels of one stage, and channels, squeeze-excite and an optional
block of the next, so that no single choice decides and the choices of an absent block change nothing. The networks are
trained without reduction, on 4,000 images of 16 px for 8 epochs; 24 of them twice, with another seed, for the noise.
tests/benchmarks/sample_efficiency.py searches the table. Nothing was tuned on it.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.core.files import write_text_atomically
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.estimators.proxy.settings import ProxySettings
from nas.latency.host import describe
from nas.latency.predictors.macs import MacsPredictor
from nas.latency.settings import LatencySettings
from search_spaces.blockwise import BlockwiseSpace
from search_spaces.space import Genotype
from tests.benchmarks.separation import separation
from tests.paths import REFERENCE, SHARED_DATA

TABLE: Final = REFERENCE / "second_table.csv"
FACTS: Final = TABLE.with_suffix(".json")
SEED: Final = 0
REPEATED: Final = 24  # networks that are trained twice
SPACE: Final[dict[str, Any]] = {
    "name": "second_table",
    "resolution_px": 32,
    "activation": "swish",
    "stem": {"channels": 16, "stride": 1},
    "head": {"kind": "conv_pool", "channels": 64},
    "stages": [
        {"stride": 1, "channels": 16, "type": "ds", "kernel": 3},
        {"stride": 2, "channels": [16, 32], "kernels": ["k3", "k5", "k3.5.7"], "expansion": [1, 4]},
        {
            "stride": 2,
            "channels": [24, 56],
            "se_ratio": [0, 0.25],
            "blocks": [
                {"kernel": 3, "expansion": 2},
                {"repeats": [0, 1], "kernels": ["k3", "k3.5"], "expansion": [2, 6]},
            ],
        },
    ],
}
PROXY: Final = ProxySettings(
    epochs=8, width_multiplier=1.0, resolution_px=16, min_map_px="auto", batch_size=64, lr=0.01
)


def distinct_genotypes(space: BlockwiseSpace) -> list[Genotype]:
    """A genotype of each network of ``space``, the first in order of the choices, shuffled."""
    found: dict[str, Genotype] = {}
    for values in itertools.product(*space.parameters.values()):
        genotype = dict(zip(space.parameters, values, strict=True))
        found.setdefault(space.decode(genotype, classes=10).arch_id, genotype)
    genotypes = list(found.values())
    random.Random(SEED).shuffle(genotypes)
    return genotypes


def trainings(space: BlockwiseSpace) -> Iterator[tuple[Genotype, int]]:
    """What is trained: each network once, and the first of them with a second seed."""
    genotypes = distinct_genotypes(space)
    yield from ((genotype, 0) for genotype in genotypes)
    yield from ((genotype, 1) for genotype in genotypes[:REPEATED])


def read_rows() -> list[dict[str, str]]:
    """Trainings that the table has."""
    if not TABLE.is_file():
        return []
    return list(csv.DictReader(io.StringIO(TABLE.read_text(encoding="utf-8"))))


def write_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table, one training per line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text_atomically(TABLE, text.getvalue())


def train(evaluator: ProxyEvaluator, arch: ArchSpec, genotype: Genotype, repeat: int) -> dict[str, Any]:
    """Line of the table: accuracy in [0, 1], validation loss in nats, costs."""
    evaluation = evaluator.evaluate(arch, repeat=repeat)
    assert evaluation.loss is not None
    cost = complexity(arch)
    latency = MacsPredictor(LatencySettings().ms_per_gmac).predict(arch)
    return {
        **genotype,
        "repeat": repeat,
        "arch_id": arch.arch_id,
        "macs": cost.macs,
        "params": cost.params,
        "latency_ms": round(latency.latency_ms, 6),
        "accuracy": round(evaluation.accuracy or 0.0, 4),
        "val_loss": round(evaluation.loss, 5),
        "cpu_s": round(evaluation.cpu_s, 2),
    }


def noise(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """How far trainings of one network differ, of the networks that were trained twice; empty without any."""
    twice = [row["arch_id"] for row in rows if row["repeat"] == "1"]
    if len(twice) < 2:
        return {}
    found: dict[str, Any] = {"networks": len(twice)}
    for figure in ("accuracy", "val_loss"):
        by_network = {name: [float(row[figure]) for row in rows if row["arch_id"] == name] for name in sorted(twice)}
        separated = asdict(separation(np.array(list(by_network.values()))))
        found[figure] = {name: round(value, 5) for name, value in separated.items()}
    return found


def write_facts(rows: Sequence[Mapping[str, str]], device: str) -> None:
    """Write what the table says, one fact per line."""
    facts = {
        "what": "Accuracy and validation loss of every network of a small space, trained by this project. One line per "
        "training, those of repeat 1 with another seed; accuracy on the 1,000 validation images.",
        "command": "OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/second_table.py",
        "data": "4,000 / 1,000 images of CIFAR-10 (cifar10_mini)",
        "date": datetime.date.today().isoformat(),
        "device": device,
        "seed": SEED,
        "latency_ms": f"{LatencySettings().ms_per_gmac} ms per 10^9 MACs (latency=macs)",
        "space": SPACE,
        "proxy": asdict(PROXY),
        "trainings": len(rows),
        "noise": noise(rows),
    }
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items())
    write_text_atomically(FACTS, f"{{\n{lines}\n}}\n")


def main() -> None:
    """Train what the table lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", default=str(SHARED_DATA / "cifar10_mini"), help="folder with train/ and val/")
    args = parser.parse_args()
    images = load_images(DataSettings(name="imagefolder", root=args.root, resolution_px=PROXY.resolution_px))
    space = BlockwiseSpace(**SPACE)
    evaluator = ProxyEvaluator(data=images, settings=PROXY, largest_kernel=space.largest_kernel, seed=SEED)
    device = str(describe("torch"))
    rows = read_rows()
    known = {(row["arch_id"], int(row["repeat"])) for row in rows}
    wanted = list(trainings(space))
    for genotype, repeat in wanted:
        arch = space.decode(genotype, classes=images.classes, in_channels=images.channels)
        if (arch.arch_id, repeat) in known:
            continue
        row = train(evaluator, arch, genotype, repeat)
        rows.append({name: str(value) for name, value in row.items()})
        write_rows(rows)
        write_facts(rows, device)
        print(f"{len(rows)}/{len(wanted)} {arch.arch_id} {row['accuracy']} {row['cpu_s']} CPU-s", flush=True)


if __name__ == "__main__":
    main()
