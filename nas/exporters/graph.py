"""Inference graph of a spec: operations with folded weights, for exporters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.arch.ops.network import Op, network_ops, output_ops
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.metadata import input_metadata
from nas.exporters.processing import Processing
from nas.exporters.rewriting.forms import Forms
from nas.exporters.rewriting.network import rewritten_ops
from nas.exporters.rewriting.segments import Derivation
from nas.exporters.rewriting.weights import WeightArray, derived_parameters, weight_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceGraph:
    """Operations of a network with folded weights; loads no torch.

    ``ops``: in execution order; "" among the inputs of the first is the batch of images. ``outputs``: paths of those
    whose tensors are the network's outputs, in order: one of a classifier, its logits (N, classes), and of a
    segmenter, (N, classes, H, W); the maps of the heads of a detector. ``batch``: images of a batch.
    ``resolution_px``: side of an image in px. ``metadata``: class names and normalisation as JSON text by name.
    ``processing``: what a file has before and after the operations, in formats that can (``Format.has_processing``).
    """

    spec: ArchSpec
    ops: tuple[Op, ...]
    outputs: tuple[str, ...]
    batch: int
    resolution_px: int
    metadata: Mapping[str, str]
    weights: _Weights | _Random
    derivations: Mapping[str, Derivation]
    processing: Processing | None = None

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of a batch of images, (N, C, H, W)."""
        return (self.batch, self.spec.in_channels, self.resolution_px, self.resolution_px)

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the outputs, (N, C) of a linear layer, otherwise (N, C, H, W)."""
        return tuple(self._shape(op) for op in self.output_operations)

    @property
    def output_operations(self) -> tuple[Op, ...]:
        """Operations whose tensors are the outputs, in their order."""
        by_path = {op.path: op for op in self.ops}
        return tuple(by_path[path] for path in self.outputs)

    def _shape(self, op: Op) -> tuple[int, ...]:
        side = () if op.kind == "linear" else (op.out_px, op.out_px)
        return (self.batch, op.out_channels, *side)

    @property
    def state(self) -> Mapping[str, npt.NDArray[Any]] | None:
        """Weights by timm's state-dict names, with nothing folded; None if random."""
        return self.weights.arrays if isinstance(self.weights, _Weights) else None

    def parameters(self, op: Op) -> tuple[WeightArray, WeightArray]:
        """Return weight and bias of ``op``, float32, norm and layer scale folded in.

        Shapes: ``weight_shape(op)`` and (out_channels,). A ``norm`` has a factor and a shift per channel.

        Raises: NasError if a weight is missing or its shape differs from the spec's.
        """
        derivation = self.derivations.get(op.path)
        if derivation is None:
            return self.weights.folded(op)
        return derived_parameters(op, derivation, self.weights.folded, self.spec.padding)


def inference_graph(
    spec: ArchSpec,
    *,
    weights: Mapping[str, npt.NDArray[Any]] | None = None,
    batch: int = 1,
    seed: int = 0,
    resolution_px: int | None = None,
    provenance: Mapping[str, Any] | None = None,
    forms: Forms | None = None,
) -> InferenceGraph:
    """Build the inference graph of ``spec``.

    ``weights``: arrays by timm's state-dict names. None draws random weights from ``seed``, scaled so that activations
    neither vanish nor overflow (sufficient for latency measurements). ``resolution_px``: side of the images in px
    (None: the spec's). ``provenance``: of the spec file; its class names and normalisation become metadata. ``forms``:
    of its blocks, in order (None: plain ones).

    Raises: NasError if class names do not fit the spec.
    """
    px = resolution_px or spec.resolution_px
    metadata, ops = input_metadata(spec, provenance), tuple(network_ops(spec, px))
    values: _Weights | _Random = _Random(seed, ops)
    if weights is not None:
        values = _Weights(weights, spec.norm.eps, _norm_starts(ops))
    derivations: Mapping[str, Derivation] = {}
    if forms is not None:
        ops, derivations = rewritten_ops(spec, forms, px)
    return InferenceGraph(
        spec=spec,
        ops=ops,
        outputs=output_ops(spec),
        batch=batch,
        resolution_px=px,
        metadata=metadata,
        weights=values,
        derivations=derivations,
    )


def _norm_starts(ops: Sequence[Op]) -> dict[str, int]:
    """First channel of its norm that each operation takes, by path."""
    starts, used = {}, dict.fromkeys((op.norm for op in ops), 0)
    for op in ops:
        starts[op.path] = used[op.norm]
        used[op.norm] += op.out_channels
    return starts


class _Weights:
    """Weights of a state dict with batch norms folded into the preceding convolutions.

    ``norm_starts``: the first channel of its norm that each operation takes, by path; not 0 in groups of a MixConv.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], eps: float, norm_starts: Mapping[str, int]) -> None:
        self.arrays, self._eps, self._norm_starts = arrays, eps, norm_starts

    def folded(self, op: Op) -> tuple[WeightArray, WeightArray]:
        """Return folded weight and bias of ``op``, float32.

        Shapes: ``weight_shape(op)`` and (out_channels,).
        """
        weight = np.ones(op.out_channels) if op.kind == "norm" else self._get(f"{op.path}.weight", weight_shape(op))
        bias = self._get(f"{op.path}.bias", (op.out_channels,)) if op.bias else np.zeros(op.out_channels)
        if op.norm:
            start = self._norm_starts[op.path]
            stop = start + op.out_channels
            gamma, beta, mean, variance = (
                self._get(f"{op.norm}.{name}")[start:stop] for name in ("weight", "bias", "running_mean", "running_var")
            )
            scale = gamma / np.sqrt(variance + self._eps)
            weight, bias = _scaled(weight, scale), beta + (bias - mean) * scale
        if op.scale:
            gamma = self._get(f"{op.scale}.gamma", (op.out_channels,))
            weight, bias = _scaled(weight, gamma), bias * gamma
        return weight.astype(np.float32), bias.astype(np.float32)

    def _get(self, name: str, shape: tuple[int, ...] | None = None) -> npt.NDArray[np.float64]:
        if name not in self.arrays:
            raise NasError(f"weights: {name!r} is missing; pass the state dict of the spec's own network.")
        array = np.asarray(self.arrays[name], dtype=np.float64)
        if shape is not None and array.shape != shape:
            raise NasError(f"weights: {name!r} has shape {array.shape}, the spec needs {shape}.")
        return array


def _scaled(weight: npt.NDArray[Any], factors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Multiply ``weight`` (C, ...) by ``factors`` (C,) per output channel."""
    return np.asarray(weight * factors.reshape(-1, *[1] * (weight.ndim - 1)))


class _Random:
    """Seeded random weights that preserve activation variance, and small biases.

    Weights follow He et al., arXiv:1502.01852.
    """

    def __init__(self, seed: int, ops: Sequence[Op]) -> None:
        self._seeds = {op.path: (seed, index) for index, op in enumerate(ops)}

    def folded(self, op: Op) -> tuple[WeightArray, WeightArray]:
        """Draw weight and bias of ``op``, float32.

        Shapes: ``weight_shape(op)`` and (out_channels,).
        """
        shape, rng = weight_shape(op), np.random.default_rng(self._seeds[op.path])
        fan_in = int(np.prod(shape[1:]))
        # Uniform draws take a third of the time of normal ones, and a large network has millions of weights.
        bound = np.float32((6 / fan_in) ** 0.5)
        weight = (rng.random(shape, dtype=np.float32) * 2 - 1) * bound
        return weight, (rng.random(op.out_channels, dtype=np.float32) - np.float32(0.5)) * np.float32(0.1)
