"""Candidates: decoded, priced and checked against the limits before training."""

from __future__ import annotations

import contextlib
import gc
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final, Protocol

from nas.arch import zoo
from nas.arch.complexity import Complexity, complexity
from nas.arch.heads import HeadSettings
from nas.arch.scaling.transform import Scaling
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.latency.predictors.base import LatencyEstimate, LatencyPredictor
from nas.latency.predictors.block_table import BlockTable, check_covers
from nas.study.constraints import Constraints

Genotype = Mapping[str, Any]
SURVEY_SAMPLES: Final = 2000
_CHUNK: Final = 250  # candidates that a survey prices at once, between two lines of progress


class Space(Protocol):
    """The interface of a search space, as a search uses it.

    The spaces themselves live in ``search_spaces``.
    """

    name: str

    @property
    def parameters(self) -> Mapping[str, tuple[Any, ...]]: ...
    @property
    def published(self) -> tuple[str, ...]: ...
    @property
    def size(self) -> int: ...
    @property
    def largest_kernel(self) -> int: ...
    def sample(self, rng: random.Random) -> Genotype: ...
    def decode(self, genotype: Genotype, *, classes: int = ..., in_channels: int = ...) -> ArchSpec: ...
    def decode_base(
        self, genotype: Genotype, *, classes: int = ..., in_channels: int = ...
    ) -> tuple[ArchSpec, Scaling]: ...
    def encode(self, spec: ArchSpec) -> Genotype: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A genotype, the network it decodes to, and that network's cost on the device.

    ``latency``: as the calibration predicts it. ``latency_scale``: what the study multiplies it by, see ``Pricer``.
    """

    genotype: Genotype
    arch: ArchSpec
    cost: Complexity
    latency: LatencyEstimate
    latency_scale: float = 1.0

    @property
    def measures(self) -> dict[str, float]:
        """The quantities that can be limited, by the names of the limits."""
        return {
            "latency_ms": self.latency.latency_ms * self.latency_scale,
            "macs_m": self.cost.macs / 1e6,
            "params_m": self.cost.params / 1e6,
            "peak_memory_mb": self.cost.peak_memory_bytes / 1e6,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricer:
    """Turns genotypes into priced candidates for one data set and one device.

    ``latency_scale``: factor by which measured networks correct the predictions of the calibration. ``task``: whose
    head the networks of the space get, with the settings ``head``; classifiers keep their own.
    """

    space: Space
    predictor: LatencyPredictor
    constraints: Constraints
    classes: int
    in_channels: int
    latency_scale: float = 1.0
    task: str = "classification"
    head: HeadSettings = field(default_factory=HeadSettings)

    def decode(self, genotype: Genotype) -> ArchSpec:
        """The network of ``genotype`` for this data, with the head of the task."""
        return self._with_head(self._decode_trunk(genotype))

    def published_name(self, genotype: Genotype) -> str:
        """Name of the published network that ``genotype`` is; empty for none.

        It may have the head of the task in place of its own, unless that changes its stages.
        """
        trunk = self._decode_trunk(genotype)
        return zoo.published_name(trunk) if self._with_head(trunk).stages == trunk.stages else ""

    def _decode_trunk(self, genotype: Genotype) -> ArchSpec:
        """The classifier of the space, before it gets the head."""
        return self.space.decode(genotype, classes=self.classes, in_channels=self.in_channels)

    def _with_head(self, trunk: ArchSpec) -> ArchSpec:
        return trunk if trunk.task == self.task else self.head.network(trunk, self.task, self.classes)

    def price(self, genotype: Genotype) -> Candidate:
        """Decode, count and predict; no module is built."""
        arch = self.decode(genotype)
        return Candidate(
            genotype=genotype,
            arch=arch,
            cost=complexity(arch),
            latency=self.predictor.predict(arch),
            latency_scale=self.latency_scale,
        )

    def price_many(self, genotypes: Iterable[Genotype]) -> list[Candidate]:
        """Candidates of ``genotypes``, in order, each as ``price`` makes it.

        In large batches a network that was never seen costs a tenth of what it does alone: what networks share is
        decoded, counted and predicted once.
        """
        genotypes = list(genotypes)
        with _collection_paused():
            archs = [self.decode(genotype) for genotype in genotypes]
            return price_networks(archs, self.predictor, genotypes, self.latency_scale)

    def worst(self, candidate: Candidate) -> float:
        """The largest relative violation, or minus infinity without limits."""
        return max(self.constraints.violations(candidate.measures).values(), default=float("-inf"))


def price_networks(
    archs: Sequence[ArchSpec],
    predictor: LatencyPredictor,
    genotypes: Sequence[Genotype] | None = None,
    latency_scale: float = 1.0,
) -> list[Candidate]:
    """Count ``archs`` and predict their latency, all at once.

    ``genotypes``: of each; None for networks of no space.
    """
    genotypes = [{}] * len(archs) if genotypes is None else genotypes
    return [
        Candidate(genotype=genotype, arch=arch, cost=complexity(arch), latency=latency, latency_scale=latency_scale)
        for genotype, arch, latency in zip(genotypes, archs, predictor.predict_many(archs), strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a random sample of the space says about the limits before the first trial.

    ``feasible``: those of the ``sampled`` candidates, in number ``feasible_sampled``; if that is 0, the one found by
    coordinate descent.
    """

    sampled: int
    feasible_sampled: int
    feasible: tuple[Candidate, ...]
    closest: Candidate
    fastest_ms: float
    slowest_ms: float


def survey(
    pricer: Pricer, *, samples: int = SURVEY_SAMPLES, seed: int, progress: ProgressCallback | None = None
) -> Survey:
    """Price a random sample of the space, and find a feasible candidate.

    ``samples`` candidates are drawn, or all of a smaller space. If none meets the limits, coordinate descent starts
    from the closest.

    The walk changes one choice at a time, so that a space with a feasible corner is not called infeasible because
    chance missed it. Raises: NasError if nothing feasible is found, saying what the space can do, and before that if
    latencies come from a table that lacks entries for the sample.
    """
    genotypes = _genotypes(pricer.space, samples, seed)
    if isinstance(pricer.predictor, BlockTable):
        check_covers(pricer.predictor, [pricer.decode(genotype) for genotype in genotypes], pricer.space.name)
    priced: list[Candidate] = []
    for first in range(0, len(genotypes), _CHUNK):
        for candidate in pricer.price_many(genotypes[first : first + _CHUNK]):
            priced.append(candidate)
            if progress:
                progress(len(priced), len(genotypes))
    feasible = [candidate for candidate in priced if pricer.worst(candidate) <= 0]
    feasible_sampled, closest = len(feasible), min(priced, key=pricer.worst)
    if not feasible:
        closest = _descend(pricer, closest)
        if pricer.worst(closest) > 0:
            raise _infeasible(pricer, priced, closest)
        feasible = [closest]
    times = [candidate.measures["latency_ms"] for candidate in priced]
    return Survey(
        sampled=len(priced),
        feasible_sampled=feasible_sampled,
        feasible=tuple(feasible),
        closest=closest,
        fastest_ms=min(min(times), closest.measures["latency_ms"]),
        slowest_ms=max(times),
    )


def _genotypes(space: Space, samples: int, seed: int) -> list[Genotype]:
    rng = random.Random(seed)
    if space.size > samples:
        return [space.sample(rng) for _ in range(samples)]
    names = tuple(space.parameters)
    points: list[Genotype] = [dict(zip(names, values, strict=True)) for values in product(*space.parameters.values())]
    rng.shuffle(points)
    return points


def _descend(pricer: Pricer, start: Candidate) -> Candidate:
    """Coordinate descent on the largest violation, until no single choice lowers it."""
    best = start
    improved = True
    while improved and pricer.worst(best) > 0:
        improved = False
        for name, choices in pricer.space.parameters.items():
            others = [{**best.genotype, name: choice} for choice in choices if choice != best.genotype[name]]
            for candidate in pricer.price_many(others):
                if pricer.worst(candidate) < pricer.worst(best):
                    best, improved = candidate, True
    return best


def _infeasible(pricer: Pricer, priced: list[Candidate], closest: Candidate) -> NasError:
    least = {
        name: min(candidate.measures[name] for candidate in [*priced, closest]) for name in pricer.constraints.limits
    }
    smallest = ", ".join(f"{name} {value:.4g}" for name, value in least.items())
    return NasError(
        f"0 of {len(priced)} sampled candidates of space {pricer.space.name!r} meet {pricer.constraints}; the smallest "
        f"found: {smallest}. Loosen the limit, or give the space smaller choices (width, depth, resolution_px)."
    )


@contextlib.contextmanager
def _collection_paused() -> Iterator[None]:
    """Pause Python's search for unreachable objects.

    Nothing of a batch of candidates is unreachable, but so many new objects trigger complete searches: with torch
    loaded they took more time than pricing.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def space_size_text(space: Space) -> str:
    """The number of space_size_text of ``space`` as one reads it."""
    return str(space.size) if space.size < 1_000_000 else f"{space.size:.2g}"
