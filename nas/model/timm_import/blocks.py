"""Import of the blocks of a timm trunk as block specs.

Reads each module, takes the ratios behind its channel counts from timm's definition or infers them, and merges equal
neighbours into repeats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from timm.models._efficientnet_blocks import SqueezeExcite as SqueezeExciteModule
from torch import nn

from nas.arch.blocks import ACTIVATIONS, BlockSpec
from nas.arch.parts import SqueezeExcite
from nas.arch.spec import StageSpec, can_skip, hidden_channels, spatial_groups
from nas.core.errors import NasError
from nas.model.timm_import.definition import BlockDefinition, NetworkDefinition
from nas.model.timm_import.modules import activation_name, read_block

# Tried first, as published networks use them; rounding makes shorter numbers give most squeeze channel counts too.
_USUAL_RATIOS: Final = (0.25, 0.5)
_MAX_DIGITS: Final = 6
# Conventions by which squeeze channels follow from a ratio, the most common first.
_CONVENTIONS: Final[tuple[dict[str, Any], ...]] = (
    {"relative_to": "input", "divisor": 1},
    {"relative_to": "expanded", "divisor": 1},
    {"relative_to": "expanded", "divisor": 8},
    {"relative_to": "input", "divisor": 8},
)
# FBNetV3's rounding, for channels that the others do not give.
_STRICTER_CONVENTIONS: Final[tuple[dict[str, Any], ...]] = (
    {"relative_to": "expanded", "divisor": 8, "round_limit": 0.95},
    {"relative_to": "input", "divisor": 8, "round_limit": 0.95},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedBlock:
    """One block of a timm trunk before equal neighbours are merged.

    ``spec`` has neither squeeze-excite nor shortcut yet. ``se`` is the squeeze-excite module or None. ``skips``:
    whether the block has a shortcut; None where none fits the shapes.
    """

    path: str
    spec: BlockSpec
    in_channels: int
    se: Any
    skips: bool | None

    @property
    def hidden(self) -> int:
        """Channels that the squeeze-excite gates."""
        return hidden_channels(self.spec, self.in_channels)

    @property
    def squeeze(self) -> int:
        """Squeeze channels of the squeeze-excite; 0 without one."""
        return 0 if self.se is None else int(self.se.conv_reduce.out_channels)


def read_blocks(trunk: Iterable[Iterable[nn.Module]], stem_channels: int, activation: str) -> list[list[ImportedBlock]]:
    """Read every block of ``trunk``, stage by stage.

    Raises: NasError naming the first block that a spec cannot express.
    """
    channels, stages = stem_channels, []
    for stage_index, stage in enumerate(trunk):
        blocks = []
        for index, module in enumerate(stage):
            path = f"blocks.{stage_index}.{index}"
            try:
                blocks.append(_read_block(path, module, channels, activation))
            except NasError as error:
                raise NasError(f"{path}: {error}") from None
            channels = blocks[-1].spec.channels
        stages.append(blocks)
    return stages


class Trunk(NamedTuple):
    """The blocks of a network as specs, and the conventions of their squeeze-excite."""

    stages: tuple[StageSpec, ...]
    squeeze_excite: SqueezeExcite


def defined_trunk(
    stages: Sequence[Sequence[ImportedBlock]], activation: str, definition: NetworkDefinition
) -> Trunk | None:
    """Return ``stages`` with the block strings of their ``definition``.

    None where it is not that of the modules.
    """
    if [len(stage) for stage in stages] != [len(stage) for stage in definition.stages]:
        return None
    functions = _squeeze_excite_functions(stages, activation)
    se = SqueezeExcite(**functions, **(definition.squeeze_excite if functions else {}))
    try:
        pairs = zip(stages, definition.stages, strict=True)
        return Trunk(tuple(StageSpec(tuple(_merge_defined(stage, blocks, se))) for stage, blocks in pairs), se)
    except NasError:
        return None


def inferred_trunk(stages: Sequence[Sequence[ImportedBlock]], activation: str) -> Trunk:
    """Return ``stages`` as far as their modules show them.

    Equal neighbours are merged into ``repeats``. Ratios are the shortest decimals that give the channels; where no
    shortcut fits, ``skip`` is None.

    Raises: NasError where squeeze-excite follows no known convention.
    """
    se = _squeeze_excite(stages, activation)
    return Trunk(tuple(StageSpec(tuple(_merge(stage, se))) for stage in stages), se)


def _squeeze_excite(stages: Sequence[Sequence[ImportedBlock]], activation: str) -> SqueezeExcite:
    """Infer the squeeze-excite convention of all blocks.

    Of the conventions that explain all squeeze channels, the one with the fewest distinct ratios is chosen.

    Raises: NasError where gate or inner activation differ between blocks, or no convention fits.
    """
    functions = _squeeze_excite_functions(stages, activation)
    if not functions:
        return SqueezeExcite()
    blocks = [block for stage in stages for block in stage if block.squeeze]
    for conventions in (_CONVENTIONS, _STRICTER_CONVENTIONS):
        ratio_counts: dict[SqueezeExcite, int] = {}
        for convention in conventions:
            se = SqueezeExcite(**convention, **functions)
            ratios = {_ratio(se, block) for block in blocks}
            if None not in ratios:
                ratio_counts[se] = len(ratios)
        if ratio_counts:
            return min(ratio_counts, key=lambda se: ratio_counts[se])
    raise NasError("squeeze-excite: no rounding of one ratio per block gives its channels.")


def _squeeze_excite_functions(stages: Sequence[Sequence[ImportedBlock]], activation: str) -> dict[str, Any]:
    """Read ``activation`` and ``gate`` of the squeeze-excite.

    Empty where no block has one.

    Raises: NasError where they differ between blocks.
    """
    blocks = [block for stage in stages for block in stage if block.squeeze]
    if not blocks:
        return {}
    gates = {activation_name(block.se.gate) for block in blocks}
    inner = {activation_name(block.se.act1) for block in blocks}
    inherited = all(activation_name(block.se.act1) == (block.spec.activation or activation) for block in blocks)
    if len(gates) > 1 or (len(inner) > 1 and not inherited):
        raise NasError("squeeze-excite: its gate and activation are not the same in all blocks.")
    return {"activation": None if inherited else inner.pop(), "gate": gates.pop()}


def _merge_defined(
    stage: Sequence[ImportedBlock], definitions: Sequence[BlockDefinition], se: SqueezeExcite
) -> Iterator[BlockSpec]:
    run: BlockSpec | None = None
    string: int | None = None
    for block, definition in zip(stage, definitions, strict=True):
        spec = _defined(block, definition, se)
        if run is not None and string == definition.string and replace(run, repeats=1, stride=1) == spec:
            run = replace(run, repeats=run.repeats + 1)
            continue
        if run is not None:
            yield run
        run, string = spec, definition.string
    if run is not None:
        yield run


def _defined(block: ImportedBlock, definition: BlockDefinition, se: SqueezeExcite) -> BlockSpec:
    """Return the spec of ``block`` with what its ``definition`` adds.

    Raises: NasError where the module has other channels, groups or another shortcut.
    """
    read = block.spec
    spec = replace(
        read,
        skip=definition.skip,
        expansion=definition.expansion,
        base_channels=definition.base_channels,
        se_ratio=definition.se_ratio if block.squeeze else 0.0,
        group_size=None if read.has_depthwise and definition.group_size == 1 else definition.group_size,
    )
    same = (
        hidden_channels(spec, block.in_channels) == block.hidden
        and spatial_groups(spec, block.in_channels) == spatial_groups(read, block.in_channels)
        and (se.squeeze_channels(spec, block.hidden) if spec.se_ratio else 0) == block.squeeze
        and block.skips in (None, definition.skip)
    )
    if not same:
        raise NasError(f"{block.path}: the module differs from its definition.")
    return spec


def _merge(stage: Sequence[ImportedBlock], se: SqueezeExcite) -> Iterator[BlockSpec]:
    run: BlockSpec | None = None
    skips: bool | None = None
    for block in stage:
        if run is not None and _continues(block, run, skips, se):
            skips = block.skips if skips is None else skips
            run = replace(run, repeats=run.repeats + 1, skip=skips)
            continue
        if run is not None:
            yield run
        run = replace(block.spec, se_ratio=_ratio(se, block) or 0.0, skip=block.skips)
        skips = block.skips
    if run is not None:
        yield run


def _continues(block: ImportedBlock, run: BlockSpec, skips: bool | None, se: SqueezeExcite) -> bool:
    """Whether ``block`` is a repeat of ``run``.

    All fields must be equal, except ratios, which need only give the same channels.
    """
    if run.type != block.spec.type:
        return False
    same = replace(run, repeats=1, stride=1, se_ratio=0.0, expansion=block.spec.expansion, skip=block.spec.skip)
    return (
        same == block.spec
        and (skips is None or block.skips is None or skips == block.skips)
        and hidden_channels(run, block.in_channels) == block.hidden
        and (se.squeeze_channels(run, block.hidden) if run.se_ratio else 0) == block.squeeze
    )


def _ratio(se: SqueezeExcite, block: ImportedBlock) -> float | None:
    """Return the shortest ``se_ratio`` for the squeeze channels of ``block``, or None."""
    if not block.squeeze:
        return None
    exact = block.squeeze / block.hidden
    if se.relative_to == "input" and block.spec.has_expansion:
        exact *= block.spec.expansion
    exact = min(exact, 1.0)  # a divisor may have rounded up beyond the channels themselves
    for ratio in (*_USUAL_RATIOS, *(round(exact, digits) for digits in range(1, _MAX_DIGITS + 1))):
        if ratio > 0 and se.squeeze_channels(replace(block.spec, se_ratio=ratio), block.hidden) == block.squeeze:
            return ratio
    return None


def _read_block(path: str, module: Any, channels: int, activation: str) -> ImportedBlock:
    fields = read_block(module, channels)
    act = fields.pop("activation", None)
    if act is not None and act != activation:
        if act not in ACTIVATIONS:
            raise NasError(f"activation {act}: a spec supports it for the whole network only, not for single blocks.")
        fields["activation"] = act
    spec = BlockSpec(**fields)
    se = getattr(module, "se", None)
    return ImportedBlock(
        path=path,
        spec=spec,
        in_channels=channels,
        se=se if isinstance(se, SqueezeExciteModule) else None,
        # A dsa block never has a shortcut: nothing is unknown.
        skips=bool(module.has_skip) if can_skip(spec, spec.stride, channels) else True if spec.type == "dsa" else None,
    )
