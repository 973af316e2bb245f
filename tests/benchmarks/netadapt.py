"""A trained network shrunk to 60% of its latency: NetAdapt against uniform scaling and a structured pruner.

    python tests/benchmarks/netadapt.py --data digits --seeds 0 1 2 --calibration runs/latency/FILE.json

mobilenetv2_100 at a width of ``--width``, with the strides of a proxy, is trained on the images, and brought to the
same latency by

- ``adapted``: nas.netadapt, and trained on;
- ``scaled``: the largest network of ``--rule`` that has it, trained from random weights;
- ``carried``: the same, begun with the weights that it shares with the trained network;
- ``pruned``: Torch-Pruning (group magnitude, multiples of 8), and trained on.

Scaled and pruned networks are the largest whose latency, measured interleaved, is at most that of the adapted network.
After the first training all get the CPU time that the adaptation and ``--epochs`` epochs of training on took. Accuracy
is that of the validation images, which none of them chooses by; latencies are measured once more at the end.

``half``: CPU time until the adaptation ends, against that of training ``scaled`` from random weights to the accuracy
that it ends with (before it is trained on): the least of trainings of 2, 3, 5, 8, 12, 20 and 30 epochs that reaches it.

Needs torch-pruning (1.6.1 was used); without it ``pruned`` is left out, saying so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

import nas
from nas.arch import ArchSpec, save_spec
from nas.arch.complexity import complexity
from nas.arch.scaling.request import ScalingRequest, target_measures
from nas.core.statistics import binomial_error
from nas.data.images import ImageData, load_images
from nas.data.sources import DataSettings
from nas.engines.run import run_study
from nas.estimators.proxy import ProxySettings, proxy_factory
from nas.latency.measure.timer import measure_many
from nas.latency.predictors.base import LatencyPredictor
from nas.latency.store import read_predictor
from nas.methods import NETADAPT
from nas.model.build import build
from nas.model.initialization import zero_init_residual
from nas.model.timm_import.network import from_timm
from nas.model.weights import carry_weights
from nas.netadapt import make_plan
from nas.training import train
from nas.training.evaluation import evaluate
from nas.training.settings import TrainSettings

SHARE = 0.6
LENGTHS = (2, 3, 5, 8, 12, 20, 30)
FOLDERS = {"cifar10_mini": Path(__file__).parents[3] / "shared" / "data" / "cifar10_mini"}

MEASURED: dict[str, Any] = {"backend": "onnxruntime", "precision": "float32", "threads": 1, "batch": 1}

State = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A network after its whole budget: validation accuracy, CPU time since the first training."""

    name: str
    arch: ArchSpec
    accuracy: float
    loss: float
    cpu_s: float


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all contenders share."""

    data: ImageData
    seed_arch: ArchSpec
    predictor: LatencyPredictor
    rule: str
    seed: int
    from_scratch: TrainSettings
    training_on: TrainSettings
    times_scratch: bool

    def latency_ms(self, arch: ArchSpec) -> float:
        """Predicted latency."""
        return self.predictor.predict(arch).latency_ms


def trained(
    arch: ArchSpec, setting: Setting, settings: TrainSettings, state: State | None = None
) -> tuple[nn.Module, float, float, float]:
    """Train a network: the module, its accuracy and loss, and the CPU time in s."""
    start_s = time.process_time()
    torch.manual_seed(setting.seed)
    model = build(arch, dropout=0.0, drop_path=0.0)
    if state is None:
        zero_init_residual(model)
    else:
        model.load_state_dict(state)
    return trained_on(model, arch, setting, settings, start_s)


def trained_on(
    model: nn.Module, arch: ArchSpec, setting: Setting, settings: TrainSettings, start_s: float
) -> tuple[nn.Module, float, float, float]:
    """Train a module on."""
    result = train(model, setting.data.resized(arch.resolution_px), settings, seed=setting.seed)
    return model, result.accuracy, result.loss, time.process_time() - start_s


def within(budget_s: float, arch: ArchSpec, setting: Setting, settings: TrainSettings) -> TrainSettings:
    """``settings`` with as many epochs as ``budget_s`` CPU-s allow, at least one."""
    _, _, _, cpu_s = trained(arch, setting, replace(settings, epochs=1, warmup_epochs=0))
    return replace(settings, epochs=max(1, round(budget_s / cpu_s)))


def adapt(
    setting: Setting, state: State, calibration: Path, overrides: list[str]
) -> tuple[ArchSpec, State, float, float, float]:
    """Run nas.netadapt: network, weights, accuracy, loss, and the CPU time in s."""
    from nas.exporters.standalone import save_weights

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = build(setting.seed_arch)
        model.load_state_dict(state)
        save_spec(setting.seed_arch, folder / "seed.yaml")
        save_weights(model, folder / "seed.safetensors")
        words = [f"arch={folder / 'seed.yaml'}", f"weights={folder / 'seed.safetensors'}", f"target={SHARE}"]
        words += [f"runs_dir={folder / 'runs'}", "study.name=adapted", f"study.seed={setting.seed}"]
        words += [f"latency.calibration={calibration}", *data_words(setting), *overrides]
        plan = make_plan(words)
        start_s = time.process_time()
        run_study(plan, NETADAPT, Console(quiet=True))
        cpu_s = time.process_time() - start_s
        found = folder / "runs" / "adapted"
        arch, weights = nas.load_spec(found / "adapted.yaml"), load_file(found / "adapted.safetensors")
    model = build(arch)
    model.load_state_dict(weights)
    score = evaluate(model, setting.data.resized(arch.resolution_px), setting.training_on)
    return arch, weights, score.accuracy, cpu_s


def data_words(setting: Setting) -> list[str]:
    """Overrides that select the images."""
    name = setting.data.description.name if setting.data.description else "digits"
    if name != "imagefolder":
        return [f"data={name}"]
    return ["data=imagefolder", f"data.root={FOLDERS['cifar10_mini']}"]


def pruned_networks(setting: Setting, state: State) -> dict[str, nn.Module]:
    """The trained network after Torch-Pruning at many ratios, by network id; empty without the package."""
    try:
        import torch_pruning
    except ImportError:
        print("  torch-pruning is not installed: pruned is left out", flush=True)
        return {}
    side_px, found = setting.seed_arch.resolution_px, {}
    example = torch.zeros(1, setting.data.channels, side_px, side_px)
    for ratio in (step / 50 for step in range(1, 46)):
        model = build(setting.seed_arch, dropout=0.0, drop_path=0.0)
        model.load_state_dict(state)
        pruner = torch_pruning.pruner.MagnitudePruner(
            model,
            example,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            global_pruning=True,
            pruning_ratio=ratio,
            max_pruning_ratio=0.9,
            round_to=8,
            ignored_layers=[model.get_submodule("classifier")],
        )
        pruner.step()
        found.setdefault(pruned_arch(model, setting).arch_id, model)
    return found


def pruned_arch(model: nn.Module, setting: Setting) -> ArchSpec:
    """The spec of a pruned module."""
    return replace(from_timm(model.eval()), resolution_px=setting.seed_arch.resolution_px)


def scaled_networks(setting: Setting, limit_ms: float) -> list[ArchSpec]:
    """Networks of the rule around a predicted latency."""
    found = {}
    for factor in (step / 20 for step in range(14, 31)):
        request = ScalingRequest(rule=setting.rule, targets={"target_ms": factor * limit_ms})
        with contextlib.suppress(nas.NasError):
            arch = request.resolve(setting.seed_arch, target_measures(setting.latency_ms)).arch
            found[arch.arch_id] = arch
    return list(found.values())


def largest_within(adapted: ArchSpec, others: list[ArchSpec], setting: Setting) -> ArchSpec | None:
    """Of ``others`` that with the highest measured latency that is at most that of ``adapted``, up to its error."""
    near = [one for one in others if 0.6 < setting.latency_ms(one) / setting.latency_ms(adapted) < 1.6]
    limit, *found = measure_many([adapted, *near], **MEASURED)
    fits = [
        (one.latency_ms, arch)
        for one, arch in zip(found, near, strict=True)
        if one.latency_ms <= limit.latency_ms + max(limit.error_ms, one.error_ms)
    ]
    return max(fits, key=lambda pair: pair[0])[1] if fits else None


def time_to(accuracy: float, arch: ArchSpec, setting: Setting, say: Callable[[str], None]) -> float | None:
    """CPU time in s of the shortest training from random weights that reaches ``accuracy``; None if none does."""
    for epochs in LENGTHS:
        warmup = min(1.0, epochs / 4)
        _, reached, _, cpu_s = trained(
            arch, setting, replace(setting.from_scratch, epochs=epochs, warmup_epochs=warmup)
        )
        say(f"  scratch, {epochs} epochs: {100 * reached:.1f}% in {cpu_s:.1f} CPU-s")
        if reached >= accuracy:
            return cpu_s
    return None


def compare(setting: Setting, calibration: Path, overrides: list[str], say: Callable[[str], None]) -> dict[str, object]:
    """One seed: the outcomes of all contenders, and the time to the accuracy of the adaptation."""
    images = len(setting.data.val_labels)
    model, accuracy, _, cpu_s = trained(setting.seed_arch, setting, setting.from_scratch)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    say(f"seed {setting.seed}: trained network {100 * accuracy:.1f}%, {cpu_s:.1f} CPU-s")
    arch, weights, adapted, adapt_s = adapt(setting, state, calibration, overrides)
    limit_ms = setting.latency_ms(arch)
    share = limit_ms / setting.latency_ms(setting.seed_arch)
    say(f"  adapted to {share:.3f} of the latency: {100 * adapted:.1f}% in {adapt_s:.1f} CPU-s")
    _, reached, reached_loss, on_s = trained(arch, setting, setting.training_on, weights)
    budget_s = adapt_s + on_s
    outcomes = [Outcome(name="adapted", arch=arch, accuracy=reached, loss=reached_loss, cpu_s=budget_s)]
    small = largest_within(arch, scaled_networks(setting, limit_ms), setting)
    if small is None:
        raise SystemExit(f"rule {setting.rule} has no network of this latency")
    carried = carry_weights(setting.seed_arch, state, small, None).state
    contenders = (("scaled", setting.from_scratch, None), ("carried", setting.training_on, carried))
    for name, settings, begin in contenders:
        _, reached, reached_loss, used_s = trained(small, setting, within(budget_s, small, setting, settings), begin)
        outcomes.append(Outcome(name=name, arch=small, accuracy=reached, loss=reached_loss, cpu_s=used_s))
    modules = pruned_networks(setting, state)
    cut_arch = largest_within(arch, [pruned_arch(model, setting) for model in modules.values()], setting)
    if cut_arch is not None:
        settings = within(budget_s, cut_arch, setting, setting.training_on)
        cut = modules[cut_arch.arch_id]
        _, reached, reached_loss, used_s = trained_on(cut, cut_arch, setting, settings, time.process_time())
        outcomes.append(Outcome(name="pruned", arch=cut_arch, accuracy=reached, loss=reached_loss, cpu_s=used_s))
    timed = measure_many([setting.seed_arch, *(one.arch for one in outcomes)], **MEASURED)
    measured = [one.latency_ms for one in timed]
    rows = [
        {
            "name": one.name,
            "accuracy": round(one.accuracy, 4),
            "standard_error": round(binomial_error(one.accuracy, images), 4),
            "loss": round(one.loss, 4),
            "macs_m": round(complexity(one.arch).macs / 1e6, 3),
            "share_measured": round(latency / measured[0], 3),
            "share_predicted": round(setting.latency_ms(one.arch) / setting.latency_ms(setting.seed_arch), 3),
            "cpu_s": round(one.cpu_s, 1),
        }
        for one, latency in zip(outcomes, measured[1:], strict=True)
    ]
    for row in rows:
        say("  " + ", ".join(f"{key} {value}" for key, value in row.items()))
    scratch_s = time_to(adapted, small, setting, say) if setting.times_scratch else None
    return {
        "seed": setting.seed,
        "trained": round(accuracy, 4),
        "rows": rows,
        "adapt_accuracy": round(adapted, 4),
        "adapt_cpu_s": round(adapt_s, 1),
        "scratch_cpu_s": scratch_s and round(scratch_s, 1),
    }


def load_data(name: str, side_px: int) -> ImageData:
    """The images; ends the script, saying so, where they are missing."""
    if name not in FOLDERS:
        return load_images(DataSettings(name=name, resolution_px=side_px))
    if not FOLDERS[name].is_dir():
        raise SystemExit(f"skipped: {FOLDERS[name]} does not exist")
    return load_images(DataSettings(name="imagefolder", root=str(FOLDERS[name]), resolution_px=side_px))


def summary(results: list[dict[str, object]]) -> dict[str, object]:
    """Means over seeds with their standard errors, by contender."""
    found: dict[str, object] = {}
    for name in ("adapted", "scaled", "carried", "pruned"):
        rows = [row for one in results for row in one["rows"] if row["name"] == name]  # type: ignore[attr-defined]
        for key in ("accuracy", "loss", "share_measured", "macs_m", "cpu_s"):
            values = [row[key] for row in rows]
            if values:
                error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
                found[f"{name}.{key}"] = [round(statistics.fmean(values), 4), round(error, 4)]
    ratios = [one["adapt_cpu_s"] / one["scratch_cpu_s"] for one in results if one["scratch_cpu_s"]]  # type: ignore[operator]
    found["half"] = [round(value, 3) for value in ratios]
    found["not_reached"] = sum(one["scratch_cpu_s"] is None for one in results)
    return found


def main() -> None:
    """Run the comparison and print one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", choices=("digits", *FOLDERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--rule", default="compound")
    parser.add_argument("--first", type=int, default=30, help="epochs of the first training")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of training on")
    parser.add_argument("--without-scratch", action="store_true", help="leave the figure half out")
    parser.add_argument("overrides", nargs="*", help="settings of nas.netadapt")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data(options.data, 32)
    proxy = ProxySettings(width_multiplier=options.width, resolution_px=32, divisor=8, min_map_px=2)
    arch = replace(proxy_factory(data, proxy, 3, None)(nas.published("mobilenetv2_100")).spec, name="mobilenetv2")
    from_scratch = TrainSettings(epochs=options.first, lr=0.01, weight_decay=1e-4, warmup_epochs=1, label_smoothing=0.0)
    training_on = replace(from_scratch, epochs=options.epochs, lr=0.003, warmup_epochs=0)
    results = []
    for seed in options.seeds:
        setting = Setting(
            data=data,
            seed_arch=arch,
            predictor=read_predictor(options.calibration),
            rule=options.rule,
            seed=seed,
            from_scratch=from_scratch,
            training_on=training_on,
            times_scratch=not options.without_scratch,
        )
        results.append(compare(setting, options.calibration, options.overrides, partial(print, flush=True)))
    print(
        json.dumps(
            {
                "data": options.data,
                "width": options.width,
                "rule": options.rule,
                "summary": summary(results),
                "seeds": results,
            }
        )
    )


if __name__ == "__main__":
    main()
