"""Learning curves of every network of a small space, tabulated by epoch.

    OMP_NUM_THREADS=1 python tests/benchmarks/learning_curves.py [--root ../shared/data/cifar10_mini] [--runs runs]

Writes tests/reference/learning_curves.json, which tests/benchmarks/pruners.py replays searches on; 19
CPU-minutes, and the same command goes on with what is missing. The space is small enough to be trained as a whole, so
that any sampler can search it: 96 networks from a quarter to one and a half times the width, with 2,000 images of 16 px
and no reduction, for 9 epochs and a cosine schedule of that length. Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulated import TABLE

from nas.arch.complexity import complexity
from nas.core.files import write_text_atomically
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.estimators.proxy.settings import ProxySettings
from nas.latency.settings import LatencySettings
from nas.latency.store import load_or_calibrate
from nas.training.results import EpochResult
from search_spaces.blockwise import BlockwiseSpace

SEED = 0
SPACE: dict[str, Any] = {
    "name": "curves",
    "resolution_px": 32,
    "width": [0.25, 0.5, 1.0, 1.5],
    "activation": "swish",
    "stem": {"channels": 16, "stride": 1},
    "head": {"kind": "conv_pool", "channels": 128},
    "stages": [
        {"stride": 1, "channels": 16, "type": "ds", "kernel": 3},
        {"stride": 2, "channels": 32, "blocks": [{"kernel": 3, "expansion": 3}, {"groups": [1, 3], "expansion": 3}]},
        {"stride": 2, "channels": 64, "kernel": 3, "repeats": [1, 2, 3], "expansion": [2, 6], "se_ratio": [0, 0.25]},
    ],
}
PROXY = ProxySettings(epochs=9, width_multiplier=1.0, resolution_px=16, min_map_px="auto", batch_size=64, lr=0.01)


def train_curve(space: BlockwiseSpace, evaluator: ProxyEvaluator, genotype: Mapping[str, Any]) -> dict[str, Any]:
    """Train one network; its accuracy in [0, 1] and CPU-seconds epoch by epoch."""
    arch = space.decode(genotype, classes=evaluator.data.classes, in_channels=evaluator.data.channels)
    epochs: list[EpochResult] = []
    evaluator.evaluate(arch, on_epoch=epochs.append)
    cost = complexity(arch)
    return {
        "genotype": dict(genotype),
        "arch_id": arch.arch_id,
        "macs_m": round(cost.macs / 1e6, 4),
        "params_m": round(cost.params / 1e6, 5),
        "accuracy": [round(epoch.accuracy, 4) for epoch in epochs],
        "cpu_s": [round(epoch.cpu_s, 2) for epoch in epochs],
    }


def write(found: Mapping[str, Any], networks: list[dict[str, Any]]) -> None:
    """Write the table, one fact or one network per line."""
    facts = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in found.items())
    lines = ",\n".join(f"  {json.dumps(network)}" for network in networks)
    write_text_atomically(TABLE, f'{{\n{facts} "networks": [\n{lines}\n ]\n}}\n')


def main() -> None:
    """Train what the table lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", default="../shared/data/cifar10_mini", help="folder with train/ and val/")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the calibration of this machine stands")
    args = parser.parse_args()
    predictor = load_or_calibrate(LatencySettings(), args.runs)
    images = DataSettings(name="imagefolder", root=args.root, resolution_px=PROXY.resolution_px, subset=2000)
    space = BlockwiseSpace(**SPACE)
    evaluator = ProxyEvaluator(data=load_images(images), settings=PROXY, largest_kernel=space.largest_kernel, seed=SEED)
    found = {
        "what": "Accuracy and CPU-seconds of each epoch of every network of a small space, measured by this project.",
        "command": "python tests/benchmarks/learning_curves.py",
        "data": "4,000 / 1,000 images of CIFAR-10, of which 2,000 train",
        "date": datetime.date.today().isoformat(),
        "device": str(predictor.device),
        "seed": SEED,
        "space": SPACE,
        "proxy": asdict(PROXY),
    }
    networks = json.loads(TABLE.read_text(encoding="utf-8"))["networks"] if TABLE.is_file() else []
    known = [network["genotype"] for network in networks]
    for values in itertools.product(*space.parameters.values()):
        genotype = dict(zip(space.parameters, values, strict=True))
        if genotype in known:
            continue
        network = train_curve(space, evaluator, genotype)
        arch = space.decode(genotype, classes=evaluator.data.classes, in_channels=evaluator.data.channels)
        networks.append(network | {"latency_ms": round(predictor.predict(arch).latency_ms, 5)})
        write(found, networks)
        print(f"{len(networks)}/{space.size} {network['arch_id']} {network['accuracy']}", flush=True)


if __name__ == "__main__":
    main()
