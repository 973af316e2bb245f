"""Initial weights of a training: random, read, or those of another network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.arch.spec import ArchSpec
from nas.core.formatting import first_names
from nas.model.build import build
from nas.model.weights.carry import carry_weights
from nas.model.weights.classes import channel_statistics, classifier_rows, fitted_weights
from nas.model.weights.layers import CLASSIFIER, class_predictions
from nas.model.weights.report import CarriedWeights
from nas.model.weights.source import SourceWeights, source_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialWeights:
    """The weights that a training begins with, and where they came from.

    ``state``: complete state dict of the network. ``carried``: what of it came from where; None for random weights.
    ``mean``, ``std``: of the images that the weights expect, per channel of the network, for pixels scaled to [0, 1];
    empty if unknown. ``crop_pct``, ``interpolation``: how timm prepares images for validation, where the weights are
    timm's. ``origin``: plain data for a provenance; empty for random weights. ``remarks``: what a user should know, one
    sentence each.
    """

    state: Mapping[str, Tensor]
    carried: CarriedWeights | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    crop_pct: float | None = None
    interpolation: str | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def initial_state(
    arch: ArchSpec, weights: str | Path | None, *, seed: int, folder: Path, class_names: Sequence[str] = ()
) -> InitialWeights:
    """Return the weights that a training of ``arch`` begins with.

    ``weights``: None for random ones, drawn with ``seed``; ``pretrained``, ``timm/NAME``, a file or ``SPEC.yaml`` as
    ``source_weights`` reads them. What ``arch`` shares with the network of the weights is carried over
    (``carry_weights``), the rest drawn with ``seed``. The stem is adapted to the input channels as timm does. The
    classifier is carried if the network of the weights knows all ``class_names`` (of the images, in label order), its
    rows in their order; if the names of either are unknown, where the numbers of classes are equal. A new classifier on
    carried weights is zero. A detector or segmenter begins with the stem and stages of any network of the same stages,
    and with the head of one of its kind, whose classes are treated likewise, but drawn where they are new. ``folder``:
    where timm's weights are looked for first.

    Raises: NasError in one line for weights that are missing, unreadable, or not of their network.
    """
    drawn = random_state_dict(arch, seed)
    if weights is None:
        return InitialWeights(state=drawn)
    source = source_weights(arch, weights, folder)
    is_same_kind = source.arch.task == arch.task
    rows = classifier_rows(source, arch.classes, class_names) if is_same_kind else None
    carried = carry_weights(*fitted_weights(source, arch.in_channels, rows), arch, drawn)
    if rows is None:
        carried = _with_new_classes(carried, arch, drawn)
    return InitialWeights(
        state=carried.state,
        carried=carried,
        mean=channel_statistics(source.mean, arch.in_channels),
        std=channel_statistics(source.std, arch.in_channels),
        crop_pct=source.crop_pct,
        interpolation=source.interpolation,
        origin=source.origin,
        remarks=tuple(_remarks(source, arch, class_names, rows, carried)),
    )


def random_state_dict(arch: ArchSpec, seed: int) -> dict[str, Tensor]:
    """Return the state dict of a newly built network, drawn with ``seed``.

    The random state of torch stays as it is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return dict(build(arch).state_dict())


def _with_new_classes(carried: CarriedWeights, arch: ArchSpec, drawn: Mapping[str, Tensor]) -> CarriedWeights:
    """Return ``carried`` with new predictions of classes.

    Those of a detector or segmenter are ``drawn``. A classifier is of zeros, as in Big Transfer (arXiv:1912.11370;
    google-research/big_transfer, ``zero_head=True``). A classifier as timm draws it has logits of several nats on
    trained features, which the first epoch is spent on: one epoch of tf_efficientnet_lite0 on 4,000 CIFAR-10 images at
    64 px ended at an accuracy of 0.24 instead of 0.54.
    """
    state, paths = carried.state, class_predictions(arch)
    names = [name for name in state if name.rpartition(".")[0] in paths]
    is_zero = arch.task == "classification"
    own = {name: torch.zeros_like(state[name]) if is_zero else drawn[name] for name in names}
    anew: dict[str, Any] = {"source_params": 0, "carried_params": 0, "source_channels": None, "source_kernels": ()}
    anew |= {"inputs": (), "outputs": ()}
    layers = [replace(layer, **anew) if layer.path in paths else layer for layer in carried.layers]
    return replace(carried, state={**state, **own}, layers=tuple(layers))


def _remarks(
    source: SourceWeights,
    arch: ArchSpec,
    class_names: Sequence[str],
    rows: list[int] | None,
    carried: CarriedWeights,
) -> list[str]:
    """What a user should know of how the weights were carried."""
    theirs = source.arch
    remarks = [_class_remark(source, arch, class_names, rows)]
    if theirs.in_channels != arch.in_channels:
        how = "summed" if arch.in_channels == 1 else "repeated and scaled"
        remarks.append(f"stem: filters of {theirs.in_channels} channels {how} for {arch.in_channels}, as timm does")
    remarks += [
        f"{name}: {before} in the network of the weights, {after} in this one, which changes what they compute"
        for (name, before), after in zip(_functions(theirs).items(), _functions(arch).values(), strict=True)
        if before != after
    ]
    if carried.changed_shortcuts:
        remarks.append(f"a shortcut in one of the two networks only: {first_names(carried.changed_shortcuts, most=4)}")
    if not source.mean:
        remarks.append("mean and deviation of the images that the weights were trained on are unknown")
    left_out = [path for path in carried.left_out if path != CLASSIFIER]
    if left_out:
        remarks.append(f"left out of {theirs.name}: {first_names(left_out, most=4)}")
    return remarks


def _functions(arch: ArchSpec) -> dict[str, object]:
    """What a network computes besides its layers, by the field of its spec."""
    return {
        "activation": arch.activation,
        "squeeze_excite.gate": arch.canonical()["gate"],
        "norm.eps": arch.norm.eps,
        "padding": arch.padding,
    }


def _class_remark(source: SourceWeights, arch: ArchSpec, class_names: Sequence[str], rows: list[int] | None) -> str:
    what, new = ("classifier", "beginning at zero") if arch.task == "classification" else ("classes", "drawn")
    if source.arch.task != arch.task:
        return f"head: new, {new}; the weights are those of a network for {source.arch.task}"
    known = bool(source.class_names and class_names)
    if rows is None:
        theirs, missing = source.arch.classes, [name for name in class_names if name not in source.class_names]
        why = f"the weights have {theirs} classes, the images {arch.classes}"
        if known and missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            why = f"among the {theirs} classes of the weights is no {missing[0]!r}{more}"
        return f"{what}: new, {new}; {why}"
    if not known:
        return f"{what}: carried; no class names to compare, the order of the classes is taken to be the same"
    same = list(class_names) == list(source.class_names)
    return f"{what}: carried{'' if same else ', its classes put into the order of the images by name'}"
