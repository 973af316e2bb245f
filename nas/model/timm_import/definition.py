"""timm's own definition of a network, recorded while timm begins to create it.

A module shows channels, but not the ratios that they were rounded from, nor whether a block that is not repeated has a
shortcut when it is.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import timm
import torch
from timm.models import is_model_in_modules

# timm's modules whose networks its EfficientNet builder makes, and what they call them.
TIMM_MODULES: Final = ("efficientnet", "mobilenetv3", "hardcorenas")
# What timm's private functions raise when a version of it names or passes things in another way.
_OTHER_VERSION: Final = (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError)
_REPEATS: Final = re.compile(r"_r(\d+)")
_LOCK: Final = threading.Lock()
# Input channels and ratio at which timm's roundings of squeeze channels differ, and the rounding by what 17 becomes.
_PROBE: Final = (34, 0.5)
_PROBED_ROUNDINGS: Final[Mapping[int, Mapping[str, Any]]] = {
    17: {"divisor": 1},
    16: {"divisor": 8},
    24: {"divisor": 8, "round_limit": 0.95},
}

BlockArguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDefinition:
    """What timm's definition says of one block beyond what its module shows.

    ``string``: index of the block string within its stage, None if unknown. ``skip``, ``expansion``, ``se_ratio``,
    ``base_channels``, ``group_size``: as in ``BlockSpec``.
    """

    string: int | None
    skip: bool
    expansion: float
    se_ratio: float
    base_channels: int | None
    group_size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDefinition:
    """The blocks of a network, stage by stage, as timm defines them.

    ``squeeze_excite``: the fields of ``SqueezeExcite`` that the rounding of its channels follows.
    """

    stages: tuple[tuple[BlockDefinition, ...], ...]
    squeeze_excite: Mapping[str, Any]


@cache
def timm_definition(name: str) -> NetworkDefinition | None:
    """Return the definition of timm's network ``name``.

    None for a name that timm does not know or does not build from block strings, and where this version of timm works
    in another way. Nothing is built: timm is stopped once its builder has been told the blocks.
    """
    if not (timm.is_model(name) and is_model_in_modules(name, TIMM_MODULES)):
        return None
    try:
        with torch.device("meta"), _recording() as strings:
            timm.create_model(name, pretrained=False)
    except _BuilderCalledError as called:
        try:
            return _network_definition(called.builder, called.stages, strings[-1] if strings else [])
        except _OTHER_VERSION:
            return None
    except _OTHER_VERSION:
        return None
    return None


class _BuilderCalledError(Exception):
    """Stops timm when its builder of blocks is called: not an error.

    ``builder``: timm's. ``stages``: the arguments of every block.
    """

    def __init__(self, builder: Any, stages: list[list[BlockArguments]]) -> None:
        super().__init__()
        self.builder = builder
        self.stages = stages


@contextmanager
def _recording() -> Iterator[list[list[list[int]]]]:
    """Replace timm's decoder and builder for this thread.

    The list that it yields is filled by the decoder: the index of the block string of every block, stage by stage.
    """
    strings: list[list[list[int]]] = []
    replacements: dict[str, Callable[[Any], Any]] = {
        "decode_arch_def": partial(_recording_decoder, strings=strings, thread=threading.get_ident()),
        "EfficientNetBuilder": partial(_stopping_builder, thread=threading.get_ident()),
    }
    with _LOCK, ExitStack() as stack:
        for module in _timm_modules():
            for name, replacement in replacements.items():
                original = getattr(module, name, None)
                if original is not None:
                    stack.callback(setattr, module, name, original)
                    setattr(module, name, replacement(original))
        yield strings


def _timm_modules() -> list[ModuleType]:
    """The modules of ``TIMM_MODULES`` that this version of timm has."""
    modules = []
    for name in TIMM_MODULES:
        try:
            modules.append(import_module(f"timm.models.{name}"))
        except ImportError:
            continue
    return modules


def _recording_decoder(decode: Callable[..., Any], *, strings: list[Any], thread: int) -> Callable[..., Any]:
    """Wrap timm's ``decode_arch_def``: calls of ``thread`` fill ``strings``.

    Each adds the index of the block string of every block.
    """

    def recording_decode(arch_def: Sequence[Sequence[str]], *arguments: Any, **options: Any) -> Any:
        if threading.get_ident() == thread:
            # timm scales repeats by several rules: its own code deals out strings that carry their index as channels.
            numbered = [
                [f"cn_r{_repeats(text)}_k1_s1_c{index + 1}" for index, text in enumerate(stage)] for stage in arch_def
            ]
            stages = decode(numbered, *arguments, **options)
            strings.append([[block["out_chs"] - 1 for block in stage] for stage in stages])
        return decode(arch_def, *arguments, **options)

    return recording_decode


def _repeats(text: str) -> int:
    found = _REPEATS.search(text)
    return int(found[1]) if found else 1


def _stopping_builder(builder: type, *, thread: int) -> type:
    """Subclass timm's ``EfficientNetBuilder``: calls of ``thread`` raise.

    The error has the arguments of the blocks.
    """

    class StoppingBuilder(builder):  # type: ignore[misc]
        def __call__(self, in_chs: int, model_block_args: Any) -> Any:
            if threading.get_ident() == thread:
                raise _BuilderCalledError(self, model_block_args)
            return super().__call__(in_chs, model_block_args)

    return StoppingBuilder


def _network_definition(
    builder: Any, stages: Sequence[Sequence[BlockArguments]], strings: Sequence[Sequence[int]]
) -> NetworkDefinition:
    known = [len(stage) for stage in strings] == [len(stage) for stage in stages]
    return NetworkDefinition(
        stages=tuple(
            tuple(
                _block_definition(block, strings[index][position] if known else None, builder.round_chs_fn)
                for position, block in enumerate(stage)
            )
            for index, stage in enumerate(stages)
        ),
        squeeze_excite=_squeeze_excite(builder),
    )


def _block_definition(
    block: BlockArguments, string: int | None, round_channels: Callable[[int], int]
) -> BlockDefinition:
    base = block.get("force_in_chs")
    skip = bool(block["skip"]) if block["block_type"] == "cn" else not block["noskip"]
    return BlockDefinition(
        string=string,
        skip=skip or block["block_type"] == "dsa",  # which never has a shortcut, whatever the definition says
        expansion=float(block.get("exp_ratio", 1.0)),
        se_ratio=float(block.get("se_ratio", 0.0)),
        base_channels=round_channels(base) if base else None,
        group_size=block.get("group_size") or None,
    )


def _squeeze_excite(builder: Any) -> dict[str, Any]:
    with torch.device("meta"):
        channels, ratio = _PROBE
        squeeze = builder.se_layer(channels, rd_ratio=ratio).conv_reduce.out_channels
    return {"relative_to": "expanded" if builder.se_from_exp else "input", **_PROBED_ROUNDINGS[squeeze]}
