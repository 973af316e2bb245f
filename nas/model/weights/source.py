"""Weights to begin with: a file, a spec with weights beside it, timm's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import timm
import torch
from torch import Tensor

from nas.arch.files import load_spec_file
from nas.arch.inputs import input_facts
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.files import file_sha256
from nas.model.build import build
from nas.model.timm_import.network import timm_arch
from nas.model.weights.files import PRETRAINED, SPEC_SUFFIXES, TIMM_PREFIX, spec_beside, weights_beside
from nas.model.weights.layers import class_predictions
from nas.model.weights.pretrained import pretrained_state
from nas.model.weights.read import read_metadata, read_weights, with_counters

_STEM: Final = "conv_stem.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceWeights:
    """Weights of a network, with what is known of its images.

    ``arch``: the network. ``state``: its complete state dict, in timm's names. ``class_names``: in label order, empty
    if unknown. ``mean``, ``std``: of the images per channel, for pixels scaled to [0, 1], empty if unknown.
    ``crop_pct``, ``interpolation``: how timm prepares images for validation, where the weights are timm's. ``origin``:
    plain data for a provenance, with the hash of the file.
    """

    arch: ArchSpec
    state: Mapping[str, Tensor]
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    crop_pct: float | None = None
    interpolation: str | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)


def source_weights(arch: ArchSpec, weights: str | Path, folder: Path) -> SourceWeights:
    """Read ``weights``, which may be of another network than ``arch``.

    ``pretrained``: timm's of the network that ``arch``, or its trunk, is named after. ``timm/NAME``: of another of
    timm's networks. A file of weights: of the network of the spec beside it (``FILE.yaml``), else of ``arch``.
    ``SPEC.yaml``: the file of weights beside it. ``folder``: where timm's weights are looked for first.

    Raises: NasError in one line for weights that are missing, unreadable, or not of their network.
    """
    text = str(weights)
    if text == PRETRAINED:
        # A detector or segmenter is named after the network that it was made of.
        name = arch.name if timm.is_model(arch.name) else arch.name.removesuffix(f"_{arch.head.kind}")
        if not timm.is_model(name):
            raise NasError(
                f"weights pretrained: timm has no network {name!r}; weights=timm/NAME carries those of a similar "
                "one over, weights=FILE reads a file of yours."
            )
        return _published(name, text, folder)
    if text.startswith(TIMM_PREFIX):
        return _published(text.removeprefix(TIMM_PREFIX), text, folder)
    path = Path(text).expanduser()
    if path.suffix in SPEC_SUFFIXES:
        return _of_file(weights_beside(path), path, arch, text)
    return _of_file(path, spec_beside(path), arch, text)


def _published(name: str, text: str, folder: Path) -> SourceWeights:
    found = pretrained_state(name, folder)
    facts = {"network": found.name} | ({"license": found.license} if found.license else {})
    arch = _with_sizes_of(timm_arch(name.partition(".")[0]), found.state)
    return SourceWeights(
        arch=arch,
        state=_checked(found.state, arch, found.file, f"timm's {name} has"),
        class_names=found.class_names,
        mean=found.mean,
        std=found.std,
        crop_pct=found.crop_pct,
        interpolation=found.interpolation,
        origin={"weights": text, **facts, **_file_facts(found.file)},
    )


def _of_file(path: Path, spec: Path | None, arch: ArchSpec, text: str) -> SourceWeights:
    """Read a file of weights. ``spec``: of its network, None for that of ``arch``."""
    file = load_spec_file(spec) if spec else None
    network = file.arch if file else arch
    state = read_weights(path, network)
    if file is None:
        network = _with_sizes_of(network, state)
    whose = f"{spec.name} beside it has" if spec else f"{arch.name} has"
    state = _checked(state, network, path, whose)
    facts = input_facts(network, read_metadata(path)) | input_facts(network, file.provenance if file else None)
    statistics = facts.get("normalisation", {"mean": (), "std": ()})
    return SourceWeights(
        arch=network,
        state=state,
        class_names=tuple(facts.get("class_names", ())),
        mean=tuple(statistics["mean"]),
        std=tuple(statistics["std"]),
        origin={"weights": text, "network": network.name, **_file_facts(path)},
    )


def _with_sizes_of(arch: ArchSpec, state: Mapping[str, Tensor]) -> ArchSpec:
    """Return ``arch`` with the input channels and classes of the tensors."""
    path, boxes = next(iter(class_predictions(arch).items()))
    stem, predictions = state.get(_STEM), state.get(f"{path}.weight")
    channels = arch.in_channels if stem is None or stem.ndim != 4 else stem.shape[1]
    background = 1 if arch.task == "detection" else 0
    classes = arch.classes if predictions is None else len(predictions) // boxes - background
    return replace(arch, in_channels=channels, classes=max(1, classes))


def _file_facts(path: Path) -> dict[str, str]:
    return {"file": str(path), "sha256": file_sha256(path)}


def _checked(state: Mapping[str, Tensor], arch: ArchSpec, path: Path, whose: str) -> dict[str, Tensor]:
    """Return ``state`` with all tensors of ``arch``, in the module's order.

    Raises: NasError naming the first tensors that do not fit, and what to do.
    """
    with torch.device("meta"):
        expected = build(arch).state_dict()
    state = with_counters(state, expected)
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    stored = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = list(dict.fromkeys(name for name in (*shapes, *stored) if shapes.get(name) != stored.get(name)))
    if wrong:
        differences = ", ".join(
            f"{name} {_shape(stored.get(name))} where {whose} {_shape(shapes.get(name))}" for name in wrong[:2]
        )
        raise NasError(
            f"weights {str(path)!r}: {len(wrong)} of {len(shapes)} tensors do not fit: {differences}; choose "
            f"the network that they are of, or put its spec beside them as {path.with_suffix('.yaml').name}: what fits "
            "is then carried over."
        )
    return {name: state[name] for name in shapes}


def _shape(shape: tuple[int, ...] | None) -> str:
    return "no such tensor" if shape is None else "x".join(map(str, shape)) or "a number"
