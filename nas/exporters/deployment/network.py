"""The network that is exported: spec, weights, classes and normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nas.arch.inputs import input_facts
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.deployment.plan import ExportPlan
from nas.exporters.deployment.preprocessing import Preprocessing, preprocessing_of
from nas.exporters.formats import format_of
from nas.model.weights.files import TIMM_PREFIX, weights_folder

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedNetwork:
    """A network with what its users need beside it.

    ``weights``: arrays by timm's state-dict names; None for random ones, drawn for the graph. ``facts``: class names
    and normalisation, where they are known. ``weights_from``: plain data on where the weights came from; empty for
    random ones. ``remarks``: what a user should know, one sentence each.
    """

    arch: ArchSpec
    weights: Mapping[str, npt.NDArray[Any]] | None
    facts: Mapping[str, Any]
    preprocessing: Preprocessing
    weights_from: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in label order; empty if unknown."""
        return tuple(self.facts.get("class_names", ()))


def load_exported_network(plan: ExportPlan) -> ExportedNetwork:
    """Load the network of ``plan`` with its weights.

    Random weights of a format that folds them need no torch. Weights may have other classes or input channels than the
    network was named with, which then are the network's.

    Raises: NasError in one line for weights that are missing, unreadable or of another network, and for class names
    and statistics that do not fit it.
    """
    if plan.weights is None:
        facts = input_facts(plan.arch, plan.origin)
        return _described(plan, plan.arch, _random_weights(plan), facts, plan.origin)
    from nas.model.weights.source import source_weights

    source = source_weights(plan.arch, plan.weights, weights_folder(plan.runs_dir))
    arch = _checked_network(plan, source.arch)
    known = {
        "class_names": list(source.class_names) or None,
        "normalisation": {"mean": list(source.mean), "std": list(source.std)} if source.mean else None,
    }
    facts = {**input_facts(arch, known), **input_facts(arch, plan.origin)}
    prepared = {"crop_pct": source.crop_pct, "interpolation": source.interpolation}
    is_timm = source.crop_pct is not None
    origin = {**plan.origin, "preprocessing": prepared} if is_timm else plan.origin
    return _described(plan, arch, _arrays(source.state), facts, origin, weights_from=source.origin)


def _random_weights(plan: ExportPlan) -> Mapping[str, npt.NDArray[Any]] | None:
    """Random weights by state-dict names; None where they are drawn for the graph."""
    if format_of(plan.format).is_folded:
        return None
    from nas.model.weights.initial import random_state_dict

    return _arrays(random_state_dict(plan.arch, plan.seed))


def _arrays(state: Mapping[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
    return {name: np.asarray(tensor) for name, tensor in state.items()}


def _described(
    plan: ExportPlan,
    arch: ArchSpec,
    weights: Mapping[str, npt.NDArray[Any]] | None,
    facts: Mapping[str, Any],
    origin: Mapping[str, Any],
    weights_from: Mapping[str, Any] | None = None,
) -> ExportedNetwork:
    steps = preprocessing_of(
        origin,
        facts.get("normalisation"),
        plan.data,
        resolution_px=plan.side_px,
        channels=arch.in_channels,
        fit="crop" if arch.task == "classification" else "stretch",
    )
    remarks = []
    if plan.weights is None:
        remarks.append(
            "warning: the weights are random, so that the file is good for measurements of latency alone; "
            "weights= takes trained ones (a spec file with weights beside it, a file, pretrained, timm/NAME)"
        )
    elif "normalisation" not in facts:
        remarks.append(
            "note: the mean and deviation of the images that the weights were trained on are unknown; the files say "
            "those of ImageNet"
        )
    return ExportedNetwork(
        arch=replace(arch, resolution_px=plan.side_px),
        weights=weights,
        facts=facts,
        preprocessing=steps,
        weights_from=weights_from or {},
        remarks=tuple(remarks),
    )


def _checked_network(plan: ExportPlan, of_weights: ArchSpec) -> ArchSpec:
    """The network that is exported: that of ``plan`` with the classes of the weights.

    Raises: NasError if the weights are of another network.
    """
    arch = replace(plan.arch, classes=of_weights.classes, in_channels=of_weights.in_channels)
    if arch.arch_id != replace(of_weights, resolution_px=plan.arch.resolution_px).arch_id:
        choice = plan.weights if str(plan.weights).startswith(TIMM_PREFIX) else "the spec file beside them"
        raise NasError(
            f"weights {plan.weights!r}: are of {of_weights.name}, another network than {plan.arch.name}; choose "
            f"arch={choice}, or nas.train weights=... carries over what fits."
        )
    return arch
