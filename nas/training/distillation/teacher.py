"""A trained network as the teacher of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nas.core.errors import NasError
from nas.core.formatting import first_names
from nas.model.build import build
from nas.model.weights import SourceWeights, channel_statistics, classifier_rows, fitted_weights, source_weights
from nas.training.distillation.settings import TeacherChoice


class StudentImages(Protocol):
    """Facts on the images of a student; ``BatchSource`` has them."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""

    @property
    def channels(self) -> int:
        """Channels per image."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel by which images are normalised."""

    @property
    def std(self) -> tuple[float, ...]:
        """Deviation per channel by which images are normalised."""


class NetworkTeacher:
    """A network in evaluation mode, whose outputs are computed for every batch.

    ``identity``: of its weights, as JSON data. ``factor`` and ``offset`` per channel turn the student's normalised
    images into the teacher's; None where they are the same.
    """

    def __init__(
        self, model: nn.Module, identity: list[Any], rescaling: tuple[Sequence[float], Sequence[float]] | None = None
    ) -> None:
        self._model = model.eval().requires_grad_(False)
        self._identity = identity
        self._rescaling = None
        if rescaling is not None:
            self._rescaling = [torch.tensor(values).view(1, -1, 1, 1) for values in rescaling]

    def identity(self) -> list[Any]:
        """Return the origin of the weights."""
        return self._identity

    def to(self, device: torch.device, layout: torch.memory_format) -> NetworkTeacher:
        """Move the network to ``device``, its weights in ``layout``; returns itself."""
        self._model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        if self._rescaling is not None:
            self._rescaling = [values.to(device) for values in self._rescaling]
        return self

    @torch.no_grad()
    def targets(self, rows: Tensor, images: Tensor) -> Tensor:
        """Compute the logits of ``images``."""
        if self._rescaling is not None:
            factor, offset = self._rescaling
            images = images * factor + offset
        logits: Tensor = self._model(images).float()
        return logits


def load_teacher(choice: TeacherChoice, images: StudentImages, folder: Path) -> NetworkTeacher:
    """Load the network and weights of ``choice`` as the teacher of a student.

    ``folder``: where timm's weights are looked for first. Classes are found by name, in whatever order, and the teacher
    may know more; where names are unknown, numbers must be equal. The stem is adapted to the channels of the images,
    which are renormalised as the teacher expects them.

    Raises: NasError for other classes, naming both numbers and the first class that the teacher lacks; for weights of
    another network; and as ``source_weights``.
    """
    source = source_weights(choice.arch, choice.weights, folder)
    _check_network(source, choice)
    rows = classifier_rows(source, len(images.class_names), images.class_names)
    if rows is None:
        raise _other_classes(source, images.class_names, choice.name)
    network, state = fitted_weights(source, images.channels, rows)
    model = build(network)
    model.load_state_dict(state)
    identity = [source.origin["sha256"], network.arch_id, rows, source.mean, source.std]
    return NetworkTeacher(model, identity, _rescaling(source, images))


def _check_network(source: SourceWeights, choice: TeacherChoice) -> None:
    """Check that weights are of the network of ``choice``. Raises: NasError."""
    sizes = {field: getattr(source.arch, field) for field in ("classes", "in_channels", "resolution_px")}
    if replace(choice.arch, **sizes).arch_id != source.arch.arch_id:
        raise NasError(
            f"teacher_weights {choice.weights!r}: are of the network {source.arch.name}, the teacher {choice.name!r} "
            "is another one; give that network as the teacher."
        )


def _other_classes(source: SourceWeights, class_names: Sequence[str], name: str) -> NasError:
    theirs, ours = source.arch.classes, len(class_names)
    missing = [one for one in class_names if one not in source.class_names] if source.class_names else []
    lacks = f", among them no {missing[0]!r}" if missing else ""
    known = f" ({first_names(source.class_names, most=3)})" if missing else ""
    return NasError(
        f"teacher {name!r}: has {theirs} classes{known}{lacks}; the images have {ours}: give a network "
        "that was trained on these classes, such as teacher=SPEC.yaml with its weights beside it."
    )


def _rescaling(source: SourceWeights, images: StudentImages) -> tuple[list[float], list[float]] | None:
    """Factor and offset per channel from the student's images to the teacher's.

    None where both are normalised alike, or where it is unknown how the teacher's were.
    """
    mean, std = (channel_statistics(values, images.channels) for values in (source.mean, source.std))
    if not mean or (mean, std) == (images.mean, images.std):
        return None
    factor = [ours / theirs for ours, theirs in zip(images.std, std, strict=True)]
    offset = [(ours - theirs) / one for ours, theirs, one in zip(images.mean, mean, std, strict=True)]
    return factor, offset
