"""Files of a search's winners: specs, Python source, proxy and its weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch

from nas.analysis.latency_agreement import latency_pair
from nas.arch.complexity import complexity
from nas.arch.files import dump_scaled_spec, dump_spec, parse_spec
from nas.arch.heads.task_scores import TASK_SCORES
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically, write_text_atomically
from nas.estimators.proxy.evaluator import TaskData
from nas.estimators.proxy.reduce import Proxy
from nas.exporters.standalone import load_weights, standalone_source
from nas.methods.search.context import SearchContext
from nas.methods.search.report_data import existing_winners
from nas.model.build import build
from nas.reporting.class_accuracy import class_name
from nas.reporting.search_report import Winner
from nas.study.trial_record import TrialRecord

LOGITS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnerSource:
    """Inputs of a winner's files besides its row.

    ``data``: the images its proxy was trained on. ``weights_dir`` and ``fine_tuned_dir`` contain the weights of trained
    and of fine-tuned proxies by network id (None: none are fine-tuned).
    """

    context: SearchContext
    data: TaskData
    weights_dir: Path
    fine_tuned_dir: Path | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def write_winners(rows: Sequence[TrialRecord], folder: Path, source: WinnerSource) -> list[Winner]:
    """Write the files of each winner into ``folder``, which is replaced as a whole.

    ``winner_1.yaml``: the network in MixNet's style. ``winner_1.efficientnet.yaml``: block arguments and coefficients.
    ``winner_1.py``: builds it with timm alone. These two of classifiers only. ``winner_1.proxy.yaml``,
    ``winner_1.proxy.safetensors``: the trained proxy and its weights. ``winner_1.finetuned.safetensors``: weights of
    the same proxy, trained on from inherited ones, where there are any. Raises: NasError where they cannot be written.
    """
    staging = folder.with_name(f".{folder.name}.new")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        for index, row in enumerate(rows, start=1):
            _write_winner(f"winner_{index}", row, staging, source)
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    except OSError as error:
        raise NasError(
            f"cannot write {str(folder)!r}: {error.strerror}; fix that, then run the command again."
        ) from None
    return existing_winners(rows, folder, source.context)


def probe_input(arch: ArchSpec) -> torch.Tensor:
    """Fixed input (1, in_channels, px, px), float32: a ramp from -1 to 1.

    Its logits are stated in the winner's files, so that any runtime can be compared with them.
    """
    shape = (1, arch.in_channels, arch.resolution_px, arch.resolution_px)
    return torch.linspace(-1, 1, arch.in_channels * arch.resolution_px**2).reshape(shape)


def _write_winner(stem: str, row: TrialRecord, folder: Path, source: WinnerSource) -> None:
    arch = replace(source.context.pricer.decode(row.genotype), name=stem)
    proxy = source.context.proxy_of(arch)
    weights = {
        kind: path
        for kind, parent in (("proxy", source.weights_dir), ("finetuned", row.fine_tuning and source.fine_tuned_dir))
        if parent and (path := parent / f"{row.arch_id}.safetensors").is_file()
    }
    logits = {kind: _proxy_logits(proxy.spec, path) for kind, path in weights.items()}
    texts = _spec_texts(stem, row, arch, source)
    texts[f"{stem}.proxy.yaml"] = _proxy_text(f"{stem}_proxy", row, proxy, logits, source)
    for name, text in texts.items():
        write_text_atomically(folder / name, text)
    for kind, path in weights.items():
        write_bytes_atomically(folder / f"{stem}.{kind}.safetensors", path.read_bytes())


def _spec_texts(stem: str, row: TrialRecord, arch: ArchSpec, source: WinnerSource) -> dict[str, str]:
    """Texts of the files that describe the network itself, by name."""
    pricer = source.context.pricer
    provenance = _provenance(row, arch, source)
    texts = {f"{stem}.yaml": dump_spec(arch, provenance)}
    if arch.task != "classification":  # coefficients scale a classifier
        return texts
    base, scaling = pricer.space.decode_base(row.genotype, classes=pricer.classes, in_channels=pricer.in_channels)
    scaled = dump_scaled_spec(replace(base, name=stem), scaling, provenance)
    if parse_spec(scaled).arch.arch_id != arch.arch_id:
        raise NasError(f"winner {row.arch_id}: its coefficients do not reproduce the network; please report this.")
    return {
        **texts,
        f"{stem}.efficientnet.yaml": scaled,
        f"{stem}.py": standalone_source(arch, source.provenance),
    }


def _proxy_text(
    name: str, row: TrialRecord, proxy: Proxy, logits: Mapping[str, Sequence[float]], source: WinnerSource
) -> str:
    """Spec file of the trained proxy, with the logits that its weights must give."""
    rounded = {kind: [round(value, 6) for value in values] for kind, values in logits.items()}
    cost = complexity(proxy.spec)
    facts = {
        "proxy_of": row.arch_id,
        "realises": proxy.realised_note,
        **{name.removeprefix("proxy_"): value for name, value in _accuracy(row, source).items()},
        "params": cost.params,
        "macs": cost.macs,
        "logits_of_ramp": rounded.get("proxy", []),
        **({"finetuned_logits_of_ramp": rounded["finetuned"]} if "finetuned" in rounded else {}),
    }
    return dump_spec(replace(proxy.spec, name=name), {**source.provenance, "trial": row.number, **facts})


def _accuracy(row: TrialRecord, source: WinnerSource) -> dict[str, Any]:
    """Accuracy of the proxy with its standard error, in all and by class; estimates."""
    facts: dict[str, Any] = {} if row.accuracy is None else {"proxy_accuracy": round(row.accuracy, 6)}
    if row.standard_error is not None:
        facts["proxy_standard_error"] = row.standard_error
    if row.val_loss is not None:
        facts["proxy_val_loss"] = row.val_loss
    if row.fine_tuning is not None:
        facts["proxy_fine_tuned"] = asdict(row.fine_tuning)
    if row.estimated_accuracy is not None:
        facts |= {"estimated_accuracy": row.estimated_accuracy, "estimate_error": row.estimate_error}
    if row.majority_accuracy is not None:
        facts["majority_accuracy"] = row.majority_accuracy
    if row.task != "classification":
        facts = {
            "score": TASK_SCORES[row.task].metric,
            **facts,
            **{f"proxy_{name}": value for name, value in row.metrics.items()},
        }
    if row.class_accuracies:
        names = source.data.class_names
        accuracies = {
            class_name(names, index): None if value is None else round(value, 4)
            for index, value in enumerate(row.class_accuracies)
        }
        facts["proxy_accuracy_by_class"] = accuracies
    return facts


def _proxy_logits(proxy: ArchSpec, weights: Path) -> tuple[float, ...]:
    model = build(proxy).eval()
    load_weights(model, weights)
    with torch.no_grad():
        outputs = model(probe_input(proxy))
        first = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
        return tuple(
            first.flatten(2)[0, :LOGITS_SHOWN, 0].tolist() if first.ndim > 2 else first[0, :LOGITS_SHOWN].tolist()
        )


def _provenance(row: TrialRecord, arch: ArchSpec, source: WinnerSource) -> dict[str, Any]:
    context = source.context
    latency = {
        "device": str(context.predictor.device),
        **context.latency_facts(row, context.pricer.latency_scale),
    }
    pair = latency_pair(row)
    remarks = pair.remarks(context.pricer.constraints.latency_ms) if pair else []
    return {
        **source.provenance,
        "trial": row.number,
        "arch_id": row.arch_id,
        **({"published": name} if (name := context.pricer.published_name(row.genotype)) else {}),
        **_accuracy(row, source),
        **asdict(complexity(arch)),
        "latency": latency | ({"remarks": remarks} if remarks else {}),
        "genotype": dict(row.genotype),
    }
