"""The winners of a study: which candidates they are, and the files that each of them is handed over as."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch

from nas.arch.complexity import complexity
from nas.arch.errors import NasError
from nas.arch.files import dumps, dumps_scaled, loads, write_text_atomically
from nas.arch.spec import ArchSpec
from nas.latency.predictor import LatencyPredictor
from nas.model.build import build
from nas.model.export import load_weights, standalone_source
from nas.proxy.reduce import Proxy
from nas.study.agreement import pair_of
from nas.study.candidates import Pricer
from nas.study.evaluate import ProxyEvaluator
from nas.study.objective import ObjectiveSettings
from nas.study.report import Winner
from nas.study.rows import Outcome, TrialRow, pareto_front

LOGITS_SHOWN: Final = 5
_CAPTIONS: Final = ("spec (block strings)", "spec (coefficients)", "Python, timm alone", "trained proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the files of a winner are made from, besides its row."""

    pricer: Pricer
    evaluator: ProxyEvaluator
    predictor: LatencyPredictor
    weights_dir: Path
    provenance: Mapping[str, Any] = field(default_factory=dict)


def choose(rows: Sequence[TrialRow], objective: ObjectiveSettings) -> list[TrialRow]:
    """The Pareto front, fastest first; for a single reward, the candidate with the highest."""
    if objective.kind == "pareto":
        return pareto_front(rows)
    trained = [row for row in rows if row.outcome is Outcome.TRAINED]
    return [max(trained, key=objective.reward_of)] if trained else []


def write_winners(rows: Sequence[TrialRow], folder: Path, source: Source) -> list[Winner]:
    """Write the files of each winner into ``folder``, which is replaced as a whole.

    ``winner_1.yaml``: the network in MixNet's style. ``winner_1.efficientnet.yaml``: block arguments and coefficients.
    ``winner_1.py``: builds it with timm alone. ``winner_1.proxy.yaml``, ``winner_1.proxy.safetensors``: the proxy that
    was trained, and its weights.
    """
    staging = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    winners = [_write_one(index, row, staging, source) for index, row in enumerate(rows, start=1)]
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)
    return winners


def probe_input(arch: ArchSpec) -> torch.Tensor:
    """A fixed input (1, in_channels, px, px), a ramp from -1 to 1, whose logits anybody can compare."""
    shape = (1, arch.in_channels, arch.resolution_px, arch.resolution_px)
    return torch.linspace(-1, 1, arch.in_channels * arch.resolution_px**2).reshape(shape)


def _write_one(index: int, row: TrialRow, folder: Path, source: Source) -> Winner:
    stem = f"winner_{index}"
    arch = replace(source.pricer.decode(row.genotype), name=stem)
    proxy = source.evaluator.proxy(arch)
    weights = source.weights_dir / f"{row.arch_id}.safetensors"
    logits = _proxy_logits(proxy.spec, weights) if weights.is_file() else ()
    texts = _spec_texts(stem, row, arch, source)
    texts[f"{stem}.proxy.yaml"] = _proxy_text(f"{stem}_proxy", row, proxy, logits, source)
    for name, text in texts.items():
        write_text_atomically(folder / name, text)
    files = dict(zip(_CAPTIONS, (f"winners/{name}" for name in texts), strict=True))
    if logits:
        shutil.copyfile(weights, folder / f"{stem}.proxy.safetensors")
        files["proxy weights"] = f"winners/{stem}.proxy.safetensors"
    return Winner(
        label=f"W{index}",
        arch=arch,
        row=row,
        latency_by_path=dict(source.predictor.layer_ms(arch)),
        proxy_note=proxy.realised_note,
        files=files,
        proxy=proxy.spec,
        sample_logits=logits,
    )


def _spec_texts(stem: str, row: TrialRow, arch: ArchSpec, source: Source) -> dict[str, str]:
    """The files that describe the network itself, by name."""
    pricer = source.pricer
    base, scaling = pricer.space.decode_base(row.genotype, classes=pricer.classes, in_channels=pricer.in_channels)
    provenance = _provenance(row, arch, source)
    scaled = dumps_scaled(replace(base, name=stem), scaling, provenance)
    if loads(scaled).arch.arch_id != arch.arch_id:
        raise NasError(f"winner {row.arch_id}: its coefficients do not give the network again; please report this.")
    return {
        f"{stem}.yaml": dumps(arch, provenance),
        f"{stem}.efficientnet.yaml": scaled,
        f"{stem}.py": standalone_source(arch),
    }


def _proxy_text(name: str, row: TrialRow, proxy: Proxy, logits: Sequence[float], source: Source) -> str:
    """The spec file of the network that was trained, with what its weights must give."""
    cost = complexity(proxy.spec)
    facts = {
        "proxy_of": row.arch_id,
        "realises": proxy.realised_note,
        "accuracy": round(row.accuracy or 0.0, 6),
        "normalisation": {"mean": list(source.evaluator.data.mean), "std": list(source.evaluator.data.std)},
        "params": cost.params,
        "macs": cost.macs,
        "logits_of_ramp": [round(value, 6) for value in logits],
    }
    return dumps(replace(proxy.spec, name=name), {**source.provenance, "trial": row.number, **facts})


def _proxy_logits(proxy: ArchSpec, weights: Path) -> tuple[float, ...]:
    model = build(proxy).eval()
    load_weights(model, weights)
    with torch.no_grad():
        return tuple(model(probe_input(proxy))[0, :LOGITS_SHOWN].tolist())


def _provenance(row: TrialRow, arch: ArchSpec, source: Source) -> dict[str, Any]:
    latency: dict[str, Any] = {
        "device": str(source.predictor.device),
        "predicted_ms": round(row.predicted_ms or 0.0, 4),
    }
    if row.latency_low_ms is not None and row.latency_high_ms is not None:
        latency["predicted_90_percent_ms"] = [round(row.latency_low_ms, 4), round(row.latency_high_ms, 4)]
    if row.measured_ms is not None:
        latency |= {
            "measured_ms": round(row.measured_ms, 4),
            "measured_spread_ms": round(row.measured_spread_ms or 0.0, 4),
        }
    pair = pair_of(row)
    remarks = pair.remarks(source.pricer.constraints.latency_ms) if pair else []
    return {
        **source.provenance,
        "trial": row.number,
        "arch_id": row.arch_id,
        "proxy_accuracy": round(row.accuracy or 0.0, 6),
        **asdict(complexity(arch)),
        "latency": latency | ({"remarks": remarks} if remarks else {}),
        "genotype": dict(row.genotype),
    }
