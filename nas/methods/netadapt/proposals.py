"""Proposals of a step: networks that are shrunk in one dimension each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nas.arch.scaling.shrinking import ShrinkDimension, shrink_dimensions, smallest_network
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.latency.predictors.base import LatencyPredictor
from nas.methods.netadapt.settings import NetAdaptSettings
from nas.study.candidates import Candidate, price_networks

PriceNetworks = Callable[[Sequence[ArchSpec]], list[Candidate]]


class Change(NamedTuple):
    """What a proposal changes in the network of the step before: one dimension's size."""

    kind: str
    name: str
    size: int

    @property
    def label(self) -> str:
        """What changes to which size, in words."""
        return " ".join(filter(None, (self.kind, self.name, str(self.size))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A network that is smaller in one dimension, with its cost.

    ``label``: the change in words.
    """

    change: Change
    label: str
    candidate: Candidate


def network_pricer(predictor: LatencyPredictor) -> PriceNetworks:
    """Function that counts networks and predicts their latency, many at a time."""

    return lambda archs: price_networks(archs, predictor)


def propose(
    arch: ArchSpec, price: PriceNetworks, measure: str, limit: float, settings: NetAdaptSettings, least_px: int
) -> list[Proposal]:
    """List the proposals of a step.

    Of each dimension the largest size whose ``measure`` is at most ``limit``.

    The size is found by bisection, of all dimensions at once. Dimensions that cannot reach the limit alone are left
    out.
    """
    dimensions = shrink_dimensions(arch, kinds=settings.kinds, divisor=settings.divisor, least_px=least_px)
    last = price([one.at(one.sizes[-1]) for one in dimensions])
    able = [(one, found) for one, found in zip(dimensions, last, strict=True) if found.measures[measure] <= limit]
    # Of each dimension: indices of sizes between which the first sufficient one lies, the latter known to suffice.
    low, high = [-1] * len(able), [len(one.sizes) - 1 for one, _ in able]
    best = [found for _, found in able]
    while open_rows := [row for row in range(len(able)) if high[row] - low[row] > 1]:
        middle = {row: (low[row] + high[row]) // 2 for row in open_rows}
        found = price([able[row][0].at(able[row][0].sizes[middle[row]]) for row in open_rows])
        for row, candidate in zip(open_rows, found, strict=True):
            if candidate.measures[measure] <= limit:
                high[row], best[row] = middle[row], candidate
            else:
                low[row] = middle[row]
    return [_proposal(able[row][0], high[row], best[row]) for row in range(len(able))]


def changed(arch: ArchSpec, change: Change, settings: NetAdaptSettings, least_px: int) -> ArchSpec:
    """Apply a proposal's ``change`` to the network of the step before.

    Raises: NasError if it has no such dimension.
    """
    for one in shrink_dimensions(arch, kinds=(change.kind,), divisor=settings.divisor, least_px=least_px):
        if one.name == change.name and change.size in one.sizes:
            return one.at(change.size)
    raise NasError(f"proposal {change.kind} {change.name} {change.size}: does not fit the network {arch.arch_id}.")


def with_changes(arch: ArchSpec, changes: Iterable[Change], settings: NetAdaptSettings, least_px: int) -> ArchSpec:
    """Apply ``changes`` one after the other. Raises: NasError as ``changed``."""
    for change in changes:
        arch = changed(arch, change, settings, least_px)
    return arch


def check_reachable(
    seed: Candidate, price: PriceNetworks, measure: str, target: float, settings: NetAdaptSettings, least_px: int
) -> None:
    """Check before the first training that proposals can reach ``target``.

    Raises: NasError naming the smallest reachable value, or saying that the network has it already.
    """
    here = seed.measures[measure]
    if here <= target:
        raise NasError(
            f"target: {seed.arch.name} has a {measure} of {here:.4g} already, at most the target {target:.4g}; "
            "there is nothing to shrink."
        )
    smallest = smallest_network(seed.arch, kinds=settings.kinds, divisor=settings.divisor, least_px=least_px)
    (least,) = price([smallest])
    if least.measures[measure] > target:
        raise NasError(
            f"target: a {measure} of {target:.4g} cannot be reached by shrinking {', '.join(settings.kinds)}: the "
            f"smallest network has {least.measures[measure]:.4g}; raise the target, add to netadapt.kinds, or lower "
            "netadapt.divisor or netadapt.least_px."
        )


def _proposal(dimension: ShrinkDimension, index: int, candidate: Candidate) -> Proposal:
    size = dimension.sizes[index]
    return Proposal(
        change=Change(dimension.kind, dimension.name, size), label=dimension.label(size), candidate=candidate
    )
