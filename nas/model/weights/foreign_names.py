"""Names of EfficientNet-PyTorch's tensors, mapped to those of timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, quoted

Value = TypeVar("Value")

_STEM: Final = "_conv_stem.weight"
_BLOCKS: Final = "_blocks"
_EXPANSION: Final = "_expand_conv"
# Modules outside the blocks.
_NETWORK: Final[Mapping[str, str]] = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_SQUEEZE_EXCITE: Final[Mapping[str, str]] = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
# Modules of a block with an expansion (timm's ir), and of one without (timm's ds): both number their norms from where
# the expansion would be, timm those that there are.
_INVERTED: Final[Mapping[str, str]] = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **_SQUEEZE_EXCITE,
}
_SEPARABLE: Final[Mapping[str, str]] = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
    **_SQUEEZE_EXCITE,
}


def is_efficientnet_pytorch(names: Mapping[str, object]) -> bool:
    """Whether ``names`` are those of a network of EfficientNet-PyTorch."""
    return _STEM in names


def from_efficientnet_pytorch(state: Mapping[str, Value], arch: ArchSpec) -> dict[str, Value]:
    """Rename the tensors of EfficientNet-PyTorch's EfficientNet to those of timm's.

    That package numbers blocks through the network, timm within each stage: the stages are those of ``arch``. Every
    name is mapped by a table; none is guessed from the order or the shapes. Such networks have TensorFlow's padding and
    epsilon, as timm's ``tf_`` variants.

    Raises: NasError for a name that the tables lack, and where ``arch`` has another number of blocks.
    """
    places = [placed.path for placed in arch.placed_blocks()]
    numbers = {name.split(".")[1] for name in state if name.startswith(f"{_BLOCKS}.")}
    if numbers != set(map(str, range(len(places)))):
        raise NasError(f"has {len(numbers)} blocks, {arch.name} has {len(places)}")
    return {_timm_name(name, state, places): value for name, value in state.items()}


def _timm_name(name: str, state: Mapping[str, object], places: list[str]) -> str:
    parts = name.split(".")
    prefix, table = "", _NETWORK
    if parts[0] == _BLOCKS:
        expands = f"{_BLOCKS}.{parts[1]}.{_EXPANSION}.weight" in state
        prefix, table = f"{places[int(parts[1])]}.", _INVERTED if expands else _SEPARABLE
        parts = parts[2:]
    module, _, tensor = ".".join(parts).partition(".")
    if module not in table:
        raise NasError(f"has a tensor {quoted(name)}, which EfficientNet-PyTorch's networks do not have")
    return f"{prefix}{table[module]}.{tensor}"
