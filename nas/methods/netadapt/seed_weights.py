"""Weights of the seed network: of a file or timm's, kept in the study's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors.torch import load, save
from torch import Tensor

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically, write_text_atomically
from nas.core.parsing import MAX_JSON_CHARACTERS, parse_json, read_text
from nas.data.images import ImageData
from nas.methods.netadapt.config import NetAdaptPlan
from nas.methods.netadapt.step_files import StepFiles
from nas.model.weights import initial_state, print_initial_weights, weights_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedWeights:
    """What the seed network begins with.

    ``content``: its weights as the content of a safetensors file, empty for random ones. ``mean``, ``std``: of the
    images that they expect, per channel, empty for those of the images. ``is_trained``: they are all of this network's
    and know the classes of the images; others are trained first. ``origin``: plain data for a provenance.
    """

    content: bytes = field(default=b"", repr=False)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    is_trained: bool = False
    origin: Mapping[str, Any] = field(default_factory=dict)

    def state(self, _arch: ArchSpec) -> Mapping[str, Tensor]:
        """State dict that a training of the seed network begins with."""
        state: Mapping[str, Tensor] = load(self.content)
        return state

    def write(self, files: StepFiles) -> None:
        """Keep them in the study's folder, which then resumes without their file."""
        if self.content:
            facts = {"mean": self.mean, "std": self.std, "is_trained": self.is_trained, "origin": dict(self.origin)}
            write_bytes_atomically(files.given_weights, self.content)
            write_text_atomically(_facts_path(files), json.dumps(facts))


def seed_weights(plan: NetAdaptPlan, seed: ArchSpec, data: ImageData, console: Console) -> SeedWeights:
    """Read the weights of ``seed``: the study's own, else those the plan names.

    Prints what is carried and what is drawn anew. Raises: NasError in one line for weights that are missing,
    unreadable or not of their network.
    """
    if plan.weights is None:
        return SeedWeights()
    kept = _kept(StepFiles(folder=plan.folder))
    if kept is not None:
        return kept
    initial = initial_state(
        seed, plan.weights, seed=plan.study.seed, folder=weights_folder(plan.runs_dir), class_names=data.class_names
    )
    print_initial_weights(initial, console)
    parts = initial.carried.parts if initial.carried else ()
    return SeedWeights(
        content=save({name: tensor.contiguous() for name, tensor in initial.state.items()}),
        mean=initial.mean,
        std=initial.std,
        is_trained=all(part.change == "carried" for part in parts),
        origin=initial.origin,
    )


def _kept(files: StepFiles) -> SeedWeights | None:
    """The weights in the study's folder; None for a new study."""
    try:
        facts = parse_json(read_text(_facts_path(files), max_characters=MAX_JSON_CHARACTERS))
        content = files.seed_weights()
    except (OSError, ValueError, NasError):
        return None
    return SeedWeights(
        content=content,
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        is_trained=facts["is_trained"],
        origin=facts["origin"],
    )


def _facts_path(files: StepFiles) -> Path:
    return files.given_weights.with_suffix(".json")
