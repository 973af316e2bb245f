"""Training steps and scoring of this project against its former loop and a plain timm loop, in turns.

Run from the project's root: OMP_NUM_THREADS=1 python tests/benchmarks/training_speed.py [--rounds 40]

Networks: mixnet_s at 32 px as timm builds it (total stride 32), and the proxy that a search makes of it by default
(quarter width, smaller strides). A step is forward, backward and AdamW on 64 images that lie in memory; scoring is a
forward pass of 256 images. All sides run in this process and alternate step by step, because the speed of a shared
machine changes within seconds; a ratio is the median over rounds of the ratios within a round, with its quartiles. CPU
time of one thread. Settings of the process help all sides: freed memory is retained for timm's loop too, which has no
loader and no decoding here. ``proxy.py`` compares whole loops, each in a process of its own.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Final
from unittest import mock

import torch
from timm.optim import create_optimizer_v2
from torch.nn import functional

from nas.training import runtime

sys.path.insert(0, str(Path(__file__).parent))
from proxy import BATCH, SIDE_PX, make_network

SCORED: Final = 256  # images
SIDES: Final = {
    "ours": "nas.training as it ships",
    "former": "the loop before it had fast layers and the fused update",
    "timm": "plain timm: default layout, in-place activations, AdamW as timm creates it",
}
NETWORKS: Final = ("mixnet_s", "proxy-mixnet_s")


def make_side(side: str, network: str, stack: ExitStack) -> dict[str, Callable[[], Any]]:
    """Return a training step and a scoring of ``network`` as ``side`` does them; ``stack`` ends its settings."""
    device = torch.device("cpu")
    model = make_network(network, 10)
    layout = torch.contiguous_format if side == "timm" else torch.channels_last
    model = model.to(memory_format=layout).train()  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(SCORED, 3, SIDE_PX, SIDE_PX, generator=generator).contiguous(memory_format=layout)
    batch = images[:BATCH]
    labels = torch.randint(0, 10, (BATCH,), generator=generator)
    fused = runtime.fused_update("adamw", device) if side == "ours" else {}
    optimizer = create_optimizer_v2(model, opt="adamw", lr=0.01, weight_decay=0.05, **fused)
    if side == "former":
        with mock.patch.object(runtime, "fast_layers", lambda model: nullcontext()):
            stack.enter_context(runtime.fast_training(model, device, 1))
    elif side == "ours":
        stack.enter_context(runtime.fast_training(model, device, 1))

    def train() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(batch), labels, label_smoothing=0.1).backward()
        optimizer.step()

    def score() -> None:
        with torch.inference_mode():
            model(images)

    def prepared(action: Callable[[], None], training: bool) -> Callable[[], None]:
        def run() -> None:
            if model.training != training:
                model.train(training)
            action()

        return run

    return {"training": prepared(train, True), "scoring": prepared(score, False)}


def seconds(action: Callable[[], Any]) -> float:
    """CPU-seconds of one call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def compare(network: str, rounds: int) -> dict[str, dict[str, list[float]]]:
    """CPU-seconds per action and side, one value per round, of ``rounds`` rounds after two to warm up."""
    with ExitStack() as stack:
        actions = {side: make_side(side, network, stack) for side in SIDES}
        found: dict[str, dict[str, list[float]]] = {
            action: {side: [] for side in SIDES} for action in ("training", "scoring")
        }
        for action, times in found.items():
            for number in range(rounds + 2):
                for side in SIDES:
                    spent = seconds(actions[side][action])
                    if number >= 2:
                        times[side].append(spent)
    return found


def figures(times: dict[str, list[float]], images: int) -> dict[str, Any]:
    """Images per CPU-second by side, and ratios of ours to the others with their quartiles."""
    ratios = {
        other: statistics.quantiles([b / a for a, b in zip(times["ours"], times[other], strict=True)], n=4)
        for other in SIDES
        if other != "ours"
    }
    return {
        "images_per_cpu_s": {side: round(images / statistics.median(values), 1) for side, values in times.items()},
        "ratio": {other: round(values[1], 3) for other, values in ratios.items()},
        "quartiles": {other: [round(values[0], 3), round(values[2], 3)] for other, values in ratios.items()},
    }


def main() -> None:
    """Compare all sides on all networks and print ratios, then all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="timm networks, or proxy-NAME")
    args = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {"rounds": args.rounds, "batch_size": BATCH, "torch": torch.__version__}
    for network in args.networks:
        found = compare(network, args.rounds)
        report[network] = {
            "training": figures(found["training"], BATCH),
            "scoring": figures(found["scoring"], SCORED),
        }
        for action, result in report[network].items():
            for other, ratio in result["ratio"].items():
                low, high = result["quartiles"][other]
                rates = result["images_per_cpu_s"]
                print(
                    f"{network} {action}: {rates['ours']} images/CPU-s, {ratio:.2f} ({low:.2f} to {high:.2f}) "
                    f"x {other} ({rates[other]}): {SIDES[other]}",
                    flush=True,
                )
    print(json.dumps(report))


if __name__ == "__main__":
    main()
