"""Blocks of a timm trunk as block specs: what each module is, the ratios its channels come from, equal ones merged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from timm.models._efficientnet_blocks import SqueezeExcite as SqueezeExciteModule
from torch import nn

from nas.arch.blocks import ACTIVATIONS, BlockSpec
from nas.arch.parts import SqueezeExcite
from nas.arch.spec import StageSpec, can_skip, hidden_channels
from nas.core.errors import NasError
from nas.model.timm_import.modules import function_of, read_block

# Tried first, as the ones that published networks use; most squeezes can be had with shorter numbers by rounding.
_USUAL_RATIOS: Final = (0.25, 0.5)
_MOST_DIGITS: Final = 6
# How squeeze channels may come from a ratio, the likeliest first.
_CONVENTIONS: Final[tuple[dict[str, Any], ...]] = (
    {"relative_to": "input", "divisor": 1},
    {"relative_to": "expanded", "divisor": 1},
    {"relative_to": "expanded", "divisor": 8},
    {"relative_to": "input", "divisor": 8},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBlock:
    """One block as it stands in a trunk: ``spec`` has no squeeze-excite yet and, for ``cn``, perhaps no say on skip.

    ``squeeze``: channels inside of the squeeze-excite module ``se``, 0 without one. ``skips``: None where no shortcut
    fits around the block, so that either answer describes it.
    """

    path: str
    spec: BlockSpec
    in_channels: int
    se: Any
    skips: bool | None

    @property
    def hidden(self) -> int:
        """Channels where the squeeze-excite acts."""
        return hidden_channels(self.spec, self.in_channels)

    @property
    def squeeze(self) -> int:
        """Channels inside of the squeeze-excite; 0 without one."""
        return 0 if self.se is None else int(self.se.conv_reduce.out_channels)


def find_blocks(trunk: Iterable[Iterable[nn.Module]], stem_channels: int, activation: str) -> list[list[FoundBlock]]:
    """Every block of ``trunk``, stage by stage. Raises: NasError naming the first that a spec cannot express."""
    channels, stages = stem_channels, []
    for stage_index, stage in enumerate(trunk):
        found = []
        for index, module in enumerate(stage):
            path = f"blocks.{stage_index}.{index}"
            try:
                found.append(_found(path, module, channels, activation))
            except NasError as error:
                raise NasError(f"{path}: {error}") from None
            channels = found[-1].spec.channels
        stages.append(found)
    return stages


def squeeze_excite(stages: Sequence[Sequence[FoundBlock]], activation: str) -> SqueezeExcite:
    """The one convention that gives the squeeze channels of all blocks, with as few different ratios as possible.

    Raises: NasError where the functions inside differ between blocks.
    """
    found = [block for stage in stages for block in stage if block.squeeze]
    if not found:
        return SqueezeExcite()
    gates = {function_of(block.se.gate) for block in found}
    inner = {function_of(block.se.act1) for block in found}
    own = all(function_of(block.se.act1) == (block.spec.activation or activation) for block in found)
    if len(gates) > 1 or (len(inner) > 1 and not own):
        raise NasError("squeeze-excite: its functions are not the same in all blocks.")
    functions: dict[str, Any] = {"activation": None if own else inner.pop(), "gate": gates.pop()}
    conventions = [SqueezeExcite(**convention, **functions) for convention in _CONVENTIONS]
    counted: dict[SqueezeExcite, int] = {}
    for se in conventions:
        ratios = {_ratio(se, block) for block in found}
        if None not in ratios:
            counted[se] = len(ratios)
    if not counted:
        raise NasError("squeeze-excite: no rounding of one ratio per block gives its channels.")
    return min(counted, key=lambda se: counted[se])


def merged(stage: Sequence[FoundBlock], se: SqueezeExcite) -> StageSpec:
    """``stage`` as block strings: neighbours that one string can say are one, with its ``repeats``."""
    return StageSpec(tuple(_merge(stage, se)))


def _merge(stage: Sequence[FoundBlock], se: SqueezeExcite) -> Iterator[BlockSpec]:
    run: BlockSpec | None = None
    skips: bool | None = None
    for block in stage:
        if run is not None and _continues(block, run, skips, se):
            skips = block.skips if skips is None else skips
            run = replace(run, repeats=run.repeats + 1, skip=_skip(run, skips))
            continue
        if run is not None:
            yield run
        run = replace(block.spec, se_ratio=_ratio(se, block) or 0.0, skip=_skip(block.spec, block.skips))
        skips = block.skips
    if run is not None:
        yield run


def _skip(spec: BlockSpec, skips: bool | None) -> bool:
    return spec.type != "cn" if skips is None else skips


def _continues(block: FoundBlock, run: BlockSpec, skips: bool | None, se: SqueezeExcite) -> bool:
    """Whether ``block`` is one more of ``run``: equal but for ratios, which need only come to the same channels."""
    if run.type != block.spec.type:
        return False
    same = replace(run, repeats=1, stride=1, se_ratio=0.0, expansion=block.spec.expansion, skip=block.spec.skip)
    return (
        same == block.spec
        and (skips is None or block.skips is None or skips == block.skips)
        and hidden_channels(run, block.in_channels) == block.hidden
        and (se.squeeze_channels(run, block.hidden) if run.se_ratio else 0) == block.squeeze
    )


def _ratio(se: SqueezeExcite, block: FoundBlock) -> float | None:
    """The simplest ``se_ratio`` that gives the squeeze channels of ``block``; None if there is none."""
    if not block.squeeze:
        return None
    exact = block.squeeze / block.hidden
    if se.relative_to == "input" and block.spec.has_expansion:
        exact *= block.spec.expansion
    exact = min(exact, 1.0)  # a divisor may have rounded up beyond the channels themselves
    for ratio in (*_USUAL_RATIOS, *(round(exact, digits) for digits in range(1, _MOST_DIGITS + 1))):
        if ratio > 0 and se.squeeze_channels(replace(block.spec, se_ratio=ratio), block.hidden) == block.squeeze:
            return ratio
    return None


def _found(path: str, module: Any, channels: int, activation: str) -> FoundBlock:
    fields = read_block(module, channels)
    act = fields.pop("activation", None)
    if act is not None and act != activation:
        if act not in ACTIVATIONS:
            raise NasError(f"activation {act}: a spec has it for the whole network or not at all.")
        fields["activation"] = act
    spec = BlockSpec(**fields)
    se = getattr(module, "se", None)
    return FoundBlock(
        path=path,
        spec=spec,
        in_channels=channels,
        se=se if isinstance(se, SqueezeExciteModule) else None,
        skips=bool(module.has_skip) if can_skip(spec, spec.stride, channels) else None,
    )
