"""Scaling to a target cost along any scaling rule.

The largest phi that a limit allows, and networks of equal cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from nas.arch.complexity import complexity
from nas.arch.limits import MAX_BLOCKS, MAX_CHANNELS, MAX_PHI, MAX_RESOLUTION_PX
from nas.arch.scaling.compound import ScaledNetwork, scale_rounded
from nas.arch.scaling.rounding_rules import RoundingRules
from nas.arch.scaling.transform import UNSCALED, Compound, Factors, head_channels
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, SpecError
from nas.core.validation import check_number

CostMeasure = Callable[[ArchSpec], float]

PHI_STEPS: Final = 1000  # per unit of phi: fine enough to miss no network by more than 0.07% of the cost
_COARSE: Final = 16  # steps between two tries from above; latency is not monotone from one network to the next
_MARGIN: Final = 1.25  # latency above this multiple of the target is assumed not to return to it


def macs(arch: ArchSpec) -> float:
    """Multiply-adds of ``arch``: a measure for ``phi_for`` and ``at_cost``."""
    return complexity(arch).macs


def params(arch: ArchSpec) -> float:
    """Parameters of ``arch``: a measure for ``phi_for`` and ``at_cost``."""
    return complexity(arch).params


def peak_memory_bytes(arch: ArchSpec) -> float:
    """Peak activation memory of ``arch``: a measure for ``phi_for`` and ``at_cost``."""
    return complexity(arch).peak_memory_bytes


def phi_for(
    network_at: Callable[[float], ArchSpec],
    measure: CostMeasure,
    target: float,
    *,
    field: str = "target",
    min_phi: float = 0.0,
    max_phi: float = MAX_PHI,
) -> float:
    """The largest phi, in thousandths, whose network measures at most ``target``.

    ``network_at``: function from phi to a network. ``field``: the name of the target in error messages. ``min_phi``,
    ``max_phi``: the smallest (at most 0) and the largest phi tried.

    Rounding makes plateaus: many phi share one network, and the largest of them is returned. A measure need not be
    monotone: latency may decrease slightly from one network to the next. Networks that meet the target above a run of
    16 thousandths that all miss it are found too, as long as those between are within 25% of it.

    Raises: NasError, naming ``field``, if no phi from ``min_phi`` (the baseline's, 0, unless it is negative) meets the
    target, and if every phi up to ``max_phi`` does.
    """
    check_number(field, target, low=0, open_low=True)
    lowest = math.ceil(min_phi * PHI_STEPS)

    def value(step: int) -> float:
        return measure(network_at(step / PHI_STEPS))

    low = high = _upper_step(value, target, lowest, int(max_phi * PHI_STEPS), field)
    while value(low) > target:
        if low == lowest:
            least = f"the network at phi {lowest / PHI_STEPS:g}" if lowest else "the baseline"
            raise NasError(
                f"{field} {target:g}: below {least}, which needs {value(lowest):.4g}; "
                "raise it, or start from a smaller network."
            )
        low, high = max(low - _COARSE, lowest), low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if value(middle) > target else (middle, high)
    return low / PHI_STEPS


def phi_floor(network_at: Callable[[float], ArchSpec]) -> float:
    """The smallest phi tried: -12, or the smallest above it whose network is valid.

    Few channels may be too few for the groups of a MixConv or of a grouped convolution.
    """
    low, high = -MAX_PHI * PHI_STEPS, 0
    if _is_valid(network_at, low / PHI_STEPS):
        return low / PHI_STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_valid(network_at, middle / PHI_STEPS) else (middle, high)
    return high / PHI_STEPS


def _is_valid(network_at: Callable[[float], ArchSpec], phi: float) -> bool:
    try:
        network_at(phi)
    except SpecError:
        return False
    return True


def _upper_step(value: Callable[[int], float], target: float, min_step: int, max_step: int, field: str) -> int:
    """A step above which no network meets the target.

    Networks beyond the last stride whose cost is more than ``_MARGIN`` times the target are not tried, above the
    baseline and below.
    """
    stride, last = PHI_STEPS // _COARSE * _COARSE, max_step // _COARSE * _COARSE
    if value(0) > _MARGIN * target:
        step = 0
        while step - stride >= min_step and value(step - stride) > _MARGIN * target:
            step -= stride
        return step
    steps: list[int] = [*range(stride, last, stride), last]
    for step in steps:
        if value(step) > _MARGIN * target:
            return step
    if value(last) > target:
        return last
    raise NasError(
        f"{field} {target:g}: still met at phi {last / PHI_STEPS:g}, the largest tried, where the network needs "
        f"{value(last):.4g}; lower it, or use another scaling rule."
    )


def phi_limit(baseline: ArchSpec, compound: Compound) -> float:
    """The largest phi tried: 12, or less where a limit of a network would be exceeded."""
    blocks = [block for stage in baseline.stages for block in stage.blocks]
    widest = max(baseline.stem.channels, *head_channels(baseline.head), *(block.channels for block in blocks))
    room = (  # below the limits, as channels, repeats and sides are rounded up
        (compound.alpha, (MAX_BLOCKS - len(blocks)) / baseline.depth),
        (compound.beta, 0.8 * MAX_CHANNELS / widest),
        (compound.gamma, (MAX_RESOLUTION_PX - 8) / baseline.resolution_px),
    )
    limits = (math.log(max(factor, 1.0)) / math.log(base) for base, factor in room if base > 1)
    return min([MAX_PHI, *limits])


def at_cost(
    baseline: ArchSpec,
    compound: Compound,
    factor: float,
    rules: RoundingRules | None = None,
    *,
    measure: CostMeasure = macs,
    start: Factors = UNSCALED,
) -> ScaledNetwork:
    """The network along ``compound`` closest to ``factor`` times the baseline's cost.

    Costs are compared after rounding. ``start``: factors by which the baseline is already scaled.

    Raises: NasError for a factor below 1, and one that is below the start's or that the rule does not reach.
    """
    check_number("factor", factor, low=1)

    def network_at(phi: float) -> ScaledNetwork:
        return scale_rounded(baseline, start.times(compound.factors(phi)), rules)

    def growth(arch: ArchSpec) -> float:
        return measure(arch) / baseline_cost

    baseline_cost, max_phi = measure(baseline), phi_limit(network_at(0.0).arch, compound)
    phi = phi_for(lambda phi: network_at(phi).arch, growth, factor, field="factor", max_phi=max_phi)
    candidates = network_at(phi), network_at(phi + 1 / PHI_STEPS)
    return min(candidates, key=lambda network: abs(math.log(growth(network.arch) / factor)))
