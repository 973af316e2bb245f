"""Shared weights of a supernet: one tensor per slot, and their file."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically
from nas.estimators.supernet.file_header import IDENTITY_KEY, read_supernet_file
from nas.estimators.supernet.layout import BoundOp, is_dense_head, is_transform
from nas.estimators.supernet.network import NormStatistics, take_slice

_HEAD_STD: Final = 0.03


def initial_weights(
    shapes: Mapping[str, tuple[int, ...]], seed: int, zero_scales: Collection[str] = ()
) -> dict[str, Tensor]:
    """Draw shared weights as timm initialises its mobile networks, by slot.

    Convolutions: normal with variance 2 / fan-out (He et al., arXiv:1502.01852); linear layers: uniform within
    1 / sqrt(classes). Convolutions of the heads of detectors and segmenters: normal with deviation 0.03, as in
    torchvision's SSDLite. Scales are 1, those of ``zero_scales`` 0; offsets and biases are 0, kernel transforms the
    identity: others are drawn as without them. A function of its arguments alone.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for slot, shape in sorted(shapes.items()):
        if len(shape) == 4:
            fan_out = shape[2] * shape[3] * (1 if shape[1] == 1 else shape[0])
            deviation = _HEAD_STD if is_dense_head(slot) else math.sqrt(2 / fan_out)
            weights[slot] = torch.randn(shape, generator=generator) * deviation
        elif is_transform(slot):
            weights[slot] = torch.eye(shape[0])
        elif len(shape) == 2:
            weights[slot] = (torch.rand(shape, generator=generator) * 2 - 1) / math.sqrt(shape[0])
        else:
            is_one = slot.endswith(".weight") and slot not in zero_scales
            weights[slot] = torch.ones(shape) if is_one else torch.zeros(shape)
    return weights


def standalone_state(
    bound: Iterable[BoundOp], shared: Mapping[str, Tensor], statistics: NormStatistics
) -> dict[str, Tensor]:
    """Copy a network's slices into the state dict of its stand-alone timm module.

    ``statistics``: of its batch norms, as estimated for this network.
    """
    state = {}
    for item in bound:
        for name, part in item.tensors.items():
            state[name] = take_slice(shared, part).detach().clone(memory_format=torch.contiguous_format)
        if item.norm:
            mean, variance = statistics[item.norm]
            state[f"{item.norm}.running_mean"], state[f"{item.norm}.running_var"] = mean.clone(), variance.clone()
            state[f"{item.norm}.num_batches_tracked"] = torch.tensor(1)
    return state


def save_shared_weights(path: Path, shared: Mapping[str, Tensor], identity: Mapping[str, Any]) -> None:
    """Write shared weights to ``path`` as safetensors, with their ``identity``.

    Raises: NasError if the file cannot be written.
    """
    tensors = {slot: tensor.detach().cpu().contiguous() for slot, tensor in shared.items()}
    write_bytes_atomically(path, save(tensors, metadata={IDENTITY_KEY: json.dumps(identity)}))


def load_shared_weights(
    path: Path, shapes: Mapping[str, tuple[int, ...]], identity: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Load the shared weights that ``save_shared_weights`` wrote.

    Raises: NasError for an unreadable file, and for a supernet of another ``identity``.
    """
    header = read_supernet_file(path)
    stored = header.identity
    wanted = json.loads(json.dumps(identity))
    differing = [name for name in (*wanted, *stored) if wanted.get(name) != stored.get(name)]
    if differing:
        name = differing[0]
        raise NasError(
            f"supernet {str(path)!r}: was trained with another {name}: {stored.get(name)!r}, now {wanted.get(name)!r}. "
            "Choose another study.name, or delete the file to train a supernet anew."
        )
    if header.shapes != dict(shapes):
        raise NasError(f"supernet {str(path)!r}: its tensors are not those of this space; delete the file.")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise NasError(f"supernet {str(path)!r}: is not a readable file of a supernet ({error}); delete it.") from None
    return tensors
