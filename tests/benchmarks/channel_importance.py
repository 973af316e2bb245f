"""Accuracy that a trained network keeps when channels are removed, by criterion; time of a carry.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/channel_importance.py [--network mobilenetv2_100] [--seeds 3]

A quarter-width proxy of the network is trained on mnist_5k at 16 px for four epochs. Its weights are carried to
narrower networks, by each criterion, and scored on the validation images without further training: as they are, and
with the statistics of all batch norms estimated anew on 512 training images, as the first steps of a training do. The
random criterion is drawn three times per seed. Errors are standard errors over seeds (of one seed none is known).

The time of a carry is that of the whole network (``--network``, full width) to networks that differ in the hidden
channels of one stage or in its outputs, beside that of copying its state dict, in turns.

Takes about 20 CPU-seconds per seed, and 5 for the times. Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from nas.arch import zoo
from nas.arch.blocks import BlockSpec
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import ArchSpec, StageSpec
from nas.data.images import ImageData, load_images
from nas.data.sources import DataSettings
from nas.estimators.proxy.reduce import reduce_arch
from nas.estimators.proxy.settings import ProxySettings
from nas.model.build import build
from nas.model.initialization import zero_init_residual
from nas.model.weights import CoupledChannels, Importance, carry_weights, filter_norm, weighted_input_norm
from nas.training.trainer import train

PROXY: Final = ProxySettings()
RANDOM_DRAWS: Final = 3
ESTIMATION_IMAGES: Final = 512


def norm_scale(channels: CoupledChannels, state: Mapping[str, Tensor]) -> Tensor:
    """Batch norm weights of the layers that compute a channel (Network Slimming, arXiv:1708.06519)."""
    total = torch.zeros(channels.size)
    for role in channels.producers:
        if role.layer.norm and role.layer.groups and not role.layer.gates:
            squares = state[f"{role.layer.norm}.weight"].square()
            total = total + squares / squares.mean()
    return total if total.any() else filter_norm(channels, state)


def random_importance(seed: int) -> Importance:
    generator = torch.Generator().manual_seed(seed)
    return lambda channels, state: torch.rand(channels.size, generator=generator)


CRITERIA: Final[dict[str, list[Importance]]] = {
    "random": [random_importance(draw) for draw in range(RANDOM_DRAWS)],
    "filter_norm": [filter_norm],
    "norm_scale": [norm_scale],
    "weighted_input_norm": [weighted_input_norm],
}


def with_blocks(spec: ArchSpec, change: Callable[[BlockSpec], BlockSpec]) -> ArchSpec:
    stages = [StageSpec(tuple(change(block) for block in stage.blocks)) for stage in spec.stages]
    return replace(spec, stages=tuple(stages))


def fewer_hidden(block: BlockSpec) -> BlockSpec:
    return replace(block, expansion=block.expansion * 2 / 3) if block.has_expansion and block.expansion > 1 else block


def cuts(spec: ArchSpec) -> dict[str, ArchSpec]:
    """Narrower networks."""
    return {"hidden x 2/3": with_blocks(spec, fewer_hidden), "all x 0.8": scale(spec, Scaling(width=0.8, divisor=2))}


def trained(name: str, data: ImageData, seed: int) -> tuple[ArchSpec, nn.Module]:
    spec = reduce_arch(zoo.get(name), PROXY, classes=data.classes, largest_kernel=5, in_channels=data.channels).spec
    torch.manual_seed(seed)
    model = build(spec)
    zero_init_residual(model)
    train(model, data, PROXY, seed=seed)
    return spec, model


class Scorer:
    """Scores networks on the validation images of ``data``."""

    def __init__(self, data: ImageData) -> None:
        mean, deviation = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (data.mean, data.std))
        chosen = torch.randperm(len(data.train_images), generator=torch.Generator().manual_seed(0))[:ESTIMATION_IMAGES]
        self.images, self.some = (
            (images.float() / 255 - mean) / deviation for images in (data.val_images, data.train_images[chosen])
        )
        self.labels = data.val_labels

    def accuracy(self, model: nn.Module) -> float:
        model.eval()
        with torch.inference_mode():
            return float((model(self.images).argmax(1) == self.labels).float().mean())

    def estimate_norms(self, model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # the mean over all batches
        model.train()
        with torch.no_grad():
            model(self.some)


def scores(name: str, seed: int, data: ImageData, scorer: Scorer) -> Iterator[tuple[str, str, float, float]]:
    """(cut, criterion, accuracy as carried, accuracy with norms estimated anew)."""
    spec, model = trained(name, data, seed)
    accuracy = scorer.accuracy(model)
    yield "none", "all kept", accuracy, accuracy
    for cut, target in cuts(spec).items():
        for criterion, draws in CRITERIA.items():
            found = []
            for importance in draws:
                network = build(target)
                carried = carry_weights(spec, model.state_dict(), target, network.state_dict(), importance=importance)
                network.load_state_dict(carried.state)
                before = scorer.accuracy(network)
                scorer.estimate_norms(network)
                found.append((before, scorer.accuracy(network)))
            yield cut, criterion, *(statistics.fmean(values) for values in zip(*found, strict=True))


def times_ms(name: str) -> dict[str, float]:
    """Median and maximum CPU time of a carry, and of a copy of the state dict."""
    spec = zoo.get(name)
    state = build(spec).state_dict()
    targets = []
    for index in range(len(spec.stages)):
        for change in (fewer_hidden, lambda block: replace(block, channels=max(8, block.channels * 7 // 64 * 8))):
            changed = with_blocks(replace(spec, stages=spec.stages[index : index + 1]), change).stages
            target = replace(spec, stages=(*spec.stages[:index], *changed, *spec.stages[index + 1 :]))
            targets += [target] if target.arch_id != spec.arch_id else []
    gc.collect()
    gc.disable()
    carries, copies = [], []
    for target in targets:
        start = time.thread_time()
        carry_weights(spec, state, target, None)
        middle = time.thread_time()
        _ = {key: value.clone() for key, value in state.items()}
        carries.append(1000 * (middle - start))
        copies.append(1000 * (time.thread_time() - middle))
    gc.enable()
    found = {"carry": statistics.median(carries), "slowest carry": max(carries), "copy": statistics.median(copies)}
    return found | {"ratio": statistics.median(carry / copy for carry, copy in zip(carries, copies, strict=True))}


def rounded(values: list[float]) -> list[float]:
    return [round(value, 4) for value in values]


def with_error(values: list[float]) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.3f}" + (f" +- {statistics.stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mobilenetv2_100")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load_images(DataSettings(name="mnist_5k")).resized(PROXY.resolution_px)
    scorer = Scorer(data)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seed in range(arguments.seeds):
        for cut, criterion, before, after in scores(arguments.network, seed, data, scorer):
            found.setdefault((cut, criterion), []).append((before, after))
    result: dict[str, Any] = {"network": arguments.network, "seeds": arguments.seeds, "accuracy": {}}
    for (cut, criterion), values in found.items():
        before, after = (list(column) for column in zip(*values, strict=True))
        print(f"{cut:14}{criterion:22}{with_error(before):18}{with_error(after)}")
        result["accuracy"][f"{cut}, {criterion}"] = {"carried": rounded(before), "norms estimated": rounded(after)}
    result["ms"] = {key: round(value, 2) for key, value in times_ms(arguments.network).items()}
    print(", ".join(f"{key} {value:.1f}" for key, value in result["ms"].items()))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
