"""Read the weights of a network from a file, in timm's names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from timm.models import clean_state_dict, load_state_dict
from torch import Tensor

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.formatting import first_names
from nas.model.weights.files import SAFETENSORS, WEIGHT_SUFFIXES
from nas.model.weights.foreign_names import from_efficientnet_pytorch, is_efficientnet_pytorch

_STEM: Final = "conv_stem.weight"
_COUNTER: Final = "num_batches_tracked"
_NESTED: Final = ("model_state_dict", "net", "weights")  # beside those that timm knows


def read_weights(path: str | Path, arch: ArchSpec | None = None) -> dict[str, Tensor]:
    """Read a state dict in timm's names, on the CPU, as float32.

    ``path``: safetensors, or a state dict of torch (``.pth``, ``.pt``, ``.bin``, ``.pth.tar``), of which nothing but
    tensors and plain containers is loaded (``weights_only=True``). Within a checkpoint it is found where timm looks
    for it, averaged weights first. Prefixes of wrappers (``module.``, ``_orig_mod.``, ``model.``) are removed.
    ``arch``: the network of the weights; it is needed for names of EfficientNet-PyTorch, whose blocks belong to no
    stage.

    Raises: NasError in one line for a file that cannot be read, that holds no state dict, or values that are not
    finite.
    """
    path = Path(path)
    what = f"weights {str(path)!r}"
    if path.suffix not in WEIGHT_SUFFIXES:
        raise NasError(f"{what}: must be a file that ends in {', '.join(WEIGHT_SUFFIXES)}.")
    state = _unprefixed(_load(path, what))
    foreign = is_efficientnet_pytorch(state)
    if foreign and arch is None:
        raise NasError(
            f"{what}: has names of EfficientNet-PyTorch; say which network it is of, such as arch=timm/NAME."
        )
    if foreign and arch is not None:
        try:
            state = from_efficientnet_pytorch(state, arch)
        except NasError as error:
            raise NasError(f"{what}: {error}; choose the network that the weights are of.") from None
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise NasError(f"{what}: {name!r} holds values that are not finite; use an earlier checkpoint.")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def read_metadata(path: Path) -> dict[str, Any]:
    """Metadata of a safetensors file, JSON values decoded; empty for other files.

    Raises: NasError for an unreadable file.
    """
    if path.suffix != SAFETENSORS:
        return {}
    try:
        with safe_open(str(path), framework="pt") as file:
            stored = file.metadata() or {}
    except Exception as error:  # safetensors raises errors of several types
        raise _unreadable(f"weights {str(path)!r}", error) from None
    return {name: _decoded(text) for name, text in stored.items()}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _load(path: Path, what: str) -> Mapping[str, Tensor]:
    """Return the state dict of a file. Raises: NasError."""
    try:
        loaded: Any = load_state_dict(str(path), weights_only=True)
        key = next((key for key in _NESTED if isinstance(loaded.get(key), Mapping)), None)
        found = clean_state_dict(loaded[key]) if key else loaded
    except FileNotFoundError:
        raise NasError(f"{what}: no such file.") from None
    except Exception as error:  # arbitrary content raises errors of many types
        raise _unreadable(what, error) from None
    others = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    if others or not found:
        names = f"{first_names(others, most=3)}, which are not tensors" if others else "nothing"
        raise NasError(f"{what}: holds {names}; save a state dict: torch.save(model.state_dict(), FILE).")
    return dict(found)


def _unreadable(what: str, error: Exception) -> NasError:
    if "Unsupported globals" in str(error):  # timm's word for what torch refuses
        return NasError(
            f"{what}: holds Python objects, which are never loaded because they can run code; save the state dict "
            "alone: torch.save(model.state_dict(), FILE)."
        )
    reason = "neither safetensors nor a file of torch" if "weights_only" in str(error) else first_line(error)
    return NasError(f"{what}: not a readable file of weights ({reason}).")


def first_line(error: Exception) -> str:
    """First line of an error of a library, without the full stop."""
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _unprefixed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove a prefix that all names share, such as a framework's ``model.``."""
    stems = [name.removesuffix(_STEM) for name in state if name.endswith(f".{_STEM}")]
    if len(stems) == 1 and all(name.startswith(stems[0]) for name in state):
        return {name.removeprefix(stems[0]): tensor for name, tensor in state.items()}
    return dict(state)


def with_counters(state: Mapping[str, Tensor], initial: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the batch counters that old state dicts lack, zeros as in ``initial``."""
    missing = {name: tensor for name, tensor in initial.items() if name.endswith(_COUNTER) and name not in state}
    return {**state, **{name: torch.zeros_like(tensor) for name, tensor in missing.items()}}
