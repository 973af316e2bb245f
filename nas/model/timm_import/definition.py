"""timm's own definition of a network, recorded while timm creates it.

A module shows channels, but not the ratios that they were rounded from, nor whether a block that is not repeated has a
shortcut when it is.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import timm
import torch
from timm.models import is_model_in_modules
from torch import nn

# timm's modules whose networks its EfficientNet builder makes, and what they call them.
TIMM_MODULES: Final = ("efficientnet", "mobilenetv3", "hardcorenas")
_DECODER: Final = "decode_arch_def"
_BUILDER: Final = "EfficientNetBuilder"
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

    No weights are allocated. None for a name that timm does not know or does not build from block strings, and where
    this version of timm works in another way.
    """
    if not (timm.is_model(name) and is_model_in_modules(name, TIMM_MODULES)):
        return None
    with torch.device("meta"):
        return create_with_definition(lambda: timm.create_model(name, pretrained=False))[1]


def create_with_definition(create: Callable[[], nn.Module]) -> tuple[nn.Module, NetworkDefinition | None]:
    """Return the timm network that ``create`` makes, and its definition or None."""
    with _recording() as record:
        model = create()
    return model, record.definition()


@dataclass(slots=True)
class _Record:
    """Calls of timm's decoder and builder by the thread that records."""

    thread: int = field(default_factory=threading.get_ident)
    strings: list[list[list[int]]] = field(default_factory=list)
    built: list[tuple[Any, list[list[dict[str, Any]]]]] = field(default_factory=list)

    @property
    def is_active(self) -> bool:
        """Whether the current call is one to record: another thread's is not."""
        return threading.get_ident() == self.thread

    def definition(self) -> NetworkDefinition | None:
        """The definition of the network, or None where timm's calls were not as expected."""
        if len(self.built) != 1:
            return None
        builder, stages = self.built[0]
        strings = self.strings[-1] if self.strings else []
        if [len(stage) for stage in strings] != [len(stage) for stage in stages]:
            strings = []
        try:
            blocks = tuple(
                tuple(
                    _block_definition(block, strings[index][position] if strings else None, builder.round_chs_fn)
                    for position, block in enumerate(stage)
                )
                for index, stage in enumerate(stages)
            )
            return NetworkDefinition(stages=blocks, squeeze_excite=_squeeze_excite(builder))
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


@contextmanager
def _recording() -> Iterator[_Record]:
    """Record what timm's decoder of block strings and its builder are called with."""
    record = _Record()
    with _LOCK, ExitStack() as stack:
        for module in _timm_modules():
            for name, replacement in ((_DECODER, _recording_decoder), (_BUILDER, _recording_builder)):
                original = getattr(module, name, None)
                if original is not None:
                    stack.callback(setattr, module, name, original)
                    setattr(module, name, replacement(original, record))
        yield record


def _timm_modules() -> list[ModuleType]:
    """The modules of ``TIMM_MODULES`` that this version of timm has."""
    modules = []
    for name in TIMM_MODULES:
        try:
            modules.append(import_module(f"timm.models.{name}"))
        except ImportError:
            continue
    return modules


def _recording_decoder(decode: Callable[..., Any], record: _Record) -> Callable[..., Any]:
    """timm's ``decode_arch_def``, which also records the block string of every block."""

    def recording_decode(arch_def: Sequence[Sequence[str]], *arguments: Any, **options: Any) -> Any:
        if record.is_active:
            # timm scales repeats by several rules: its own code deals out strings that carry their index as channels.
            numbered = [
                [f"cn_r{_repeats(text)}_k1_s1_c{index + 1}" for index, text in enumerate(stage)] for stage in arch_def
            ]
            stages = decode(numbered, *arguments, **options)
            record.strings.append([[block["out_chs"] - 1 for block in stage] for stage in stages])
        return decode(arch_def, *arguments, **options)

    return recording_decode


def _repeats(text: str) -> int:
    found = _REPEATS.search(text)
    return int(found[1]) if found else 1


def _recording_builder(builder: type, record: _Record) -> type:
    """timm's ``EfficientNetBuilder``, which also records the arguments of every block."""

    class RecordingBuilder(builder):  # type: ignore[misc]
        def __call__(self, in_chs: int, model_block_args: Any) -> Any:
            if record.is_active:  # copies: the builder modifies its arguments
                record.built.append((self, [[dict(block) for block in stage] for stage in model_block_args]))
            return super().__call__(in_chs, model_block_args)

    return RecordingBuilder


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
