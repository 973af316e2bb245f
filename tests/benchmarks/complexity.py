"""Cost of ``complexity(spec)`` against building and counting timm's module.

Run from the root: ``python tests/benchmarks/complexity.py``. CPU time of this process on one thread; the ways take
turns, so that a busy machine slows all of them alike. ``cold``: every block is seen for the first time; ``warm``: the
block costs are cached, as in a search, whose candidates share most blocks. ``from_strings`` adds parsing and checking
the spec. ``meta`` and ``cpu``: timm's module, built and counted on that device with torch's flop counter and hooks.

``detectors``, ``segmenters``: 1,000 different ones, random MixNets of a search with the heads attached, each made and
counted once with empty caches (``cold``), then counted again (``warm``); 320 and 256 px. With ``--dense`` these
alone, which need no torch.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.heads import detector, segmenter
from nas.arch.ops import block, dense_head, network, segments
from nas.arch.spec import ArchSpec
from search_spaces.mixnet import MixNetSpace

NAMES = ("mobilenetv2_100", "mobilenetv3_large_100", "mnasnet_100", "mixnet_s", "efficientnet_b0", "efficientnet_b4")
MIXNET = Path(__file__).parents[2] / "conf" / "space" / "mixnet.yaml"
DENSE = 1000
ROUNDS = 3
WARM_CALLS = 200


def cpu_ms(call: Callable[[], object], calls: int = 1) -> float:
    """Mean CPU time of a call in ms."""
    start = time.process_time_ns()
    for _ in range(calls):
        call()
    return (time.process_time_ns() - start) / calls / 1e6


def forget() -> None:
    for cached in (
        block.block_segments,
        segments.depthwise_segment,
        segments.pointwise_segment,
        segments.squeeze_excite_segment,
        network._stem,
        network._head,
        network._dense_head,
        dense_head.dense_head_segments,
    ):
        cached.cache_clear()


def from_strings(spec: ArchSpec) -> None:
    given = {field.name: getattr(spec, field.name) for field in fields(spec)}
    del given["stages"]
    complexity(ArchSpec.from_strings(given.pop("name"), spec.strings, **given))


def with_timm(spec: ArchSpec, device: str) -> tuple[int, int, int]:
    """Parameters, multiply-adds and activations of the network, as one would count them without a spec."""
    import timm
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    outputs = []
    with torch.device(device), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model = timm.create_model(spec.name).eval()
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.numel()))
        model(torch.zeros(1, 3, spec.resolution_px, spec.resolution_px))
    return sum(tensor.numel() for tensor in model.parameters()), counter.get_total_flops() // 2, sum(outputs)


def measure(spec: ArchSpec) -> dict[str, float]:
    """Median CPU time in ms of each way over interleaved rounds."""
    samples: dict[str, list[float]] = {"cold": [], "warm": [], "from_strings": [], "meta": [], "cpu": []}
    for _ in range(ROUNDS):
        forget()
        samples["cold"].append(cpu_ms(lambda: complexity(spec)))
        samples["warm"].append(cpu_ms(lambda: complexity(spec), WARM_CALLS))
        samples["from_strings"].append(cpu_ms(lambda: from_strings(spec), 10))
        samples["meta"].append(cpu_ms(lambda: with_timm(spec, "meta")))
        samples["cpu"].append(cpu_ms(lambda: with_timm(spec, "cpu")))
    return {way: round(statistics.median(values), 4) for way, values in samples.items()}


def dense_ms() -> dict[str, dict[str, float]]:
    """CPU time in ms of each of ``DENSE`` different detectors, and of as many segmenters."""
    config: dict[str, Any] = yaml.safe_load(MIXNET.read_text(encoding="utf-8"))
    space = MixNetSpace(**{key: value for key, value in config.items() if not key.startswith("_")})
    rng = random.Random(1)
    archs = [space.decode(space.sample(rng)) for _ in range(DENSE)]
    made = {
        "detectors": lambda arch: detector(arch, 80, resolution_px=320),
        "segmenters": lambda arch: segmenter(arch, 19, resolution_px=256),
    }
    times: dict[str, dict[str, float]] = {}
    for name, attach in made.items():
        cold, warm, slowest = [], [], []
        for _ in range(ROUNDS):
            forget()
            each = []
            for arch in archs:
                start = time.process_time_ns()
                complexity(attach(arch))
                each.append((time.process_time_ns() - start) / 1e6)
            specs = [attach(arch) for arch in archs]
            assert len({complexity(spec).params for spec in specs}) > DENSE / 2
            cold.append(statistics.fmean(each))
            slowest.append(statistics.quantiles(each, n=100)[-1])
            warm.append(cpu_ms(lambda: [complexity(spec) for spec in specs]) / DENSE)  # noqa: B023
        times[name] = {
            "cold": round(statistics.median(cold), 4),
            "cold, 99th percentile": round(statistics.median(slowest), 4),
            "warm": round(statistics.median(warm), 4),
        }
        print(f"{name:12s}" + "".join(f"  {way} {value:.3f} ms" for way, value in times[name].items()))
    return times


def main() -> None:
    dense = dense_ms()
    if "--dense" in sys.argv:
        print(json.dumps({"dense_cpu_ms": dense}))
        return
    import torch

    torch.set_num_threads(1)
    with_timm(zoo.get(NAMES[0]), "cpu")  # first calls load and compile
    times = {}
    print(f"{'CPU time in ms':24s}" + "".join(f"{way:>14s}" for way in ("cold", "warm", "from_strings", "meta", "cpu")))
    for name in NAMES:
        spec = zoo.get(name)
        cost = complexity(spec)
        assert (cost.params, cost.macs, cost.activations) == with_timm(spec, "meta")
        times[name] = measure(spec)
        print(f"{name:24s}" + "".join(f"{value:14.3f}" for value in times[name].values()))
    ratios = {
        f"{theirs}_over_{ours}": round(statistics.median(row[theirs] / row[ours] for row in times.values()))
        for theirs in ("meta", "cpu")
        for ours in ("cold", "warm", "from_strings")
    }
    print("median over networks, times faster:", ratios)
    print(json.dumps({"cpu_ms": times, "times_faster": ratios, "dense_cpu_ms": dense}))


if __name__ == "__main__":
    main()
