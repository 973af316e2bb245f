"""Pool of priced, feasible candidates that a sampler chooses from."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np

from nas.analysis.bayesian_regression import FloatArray
from nas.analysis.surrogate import FeatureScale, network_features
from nas.latency.predictors.block_table import MissingEntries
from nas.study.candidates import Candidate, Pricer
from nas.study.constraints import Constraints

_ENUMERATED: Final = 10_000  # points of a space that is looked at as a whole
_BATCH: Final = 500
_DRAWS: Final = 20
_MOST_DRAWN: Final = 100
_WANTED: Final = 4700  # feasible candidates of a larger space
_MOST_SAMPLED: Final = 6000
_FEW: Final = 500  # with fewer feasible ones the pool is filled from the neighbours of the closest
_WALKS: Final = 40  # generations of neighbours
_WALKERS: Final = 100  # candidates whose neighbours are looked at
_CHANGE_MORE: Final = 0.4  # probability of each further changed choice
_CROSS: Final = 0.3  # part of the children that have two parents


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Feasible candidates with their features.

    ``design``: standardised features (M, P) in the columns of ``scale``; ``latencies_ms``: (M,), as the study
    corrects predictions. ``sampled`` random candidates were priced, of which
    ``feasible`` meet the limits; a ``complete`` pool has every network of the space that does.
    """

    candidates: tuple[Candidate, ...]
    scale: FeatureScale
    design: FloatArray
    latencies_ms: FloatArray
    sampled: int
    feasible: int
    complete: bool

    def with_more(self, candidates: Sequence[Candidate]) -> Pool:
        """This pool and further feasible ``candidates``."""
        if not candidates:
            return self
        return Pool(
            candidates=(*self.candidates, *candidates),
            scale=self.scale,
            design=np.vstack([self.design, self.scale.transform(features_of(candidates))]),
            latencies_ms=np.concatenate([self.latencies_ms, latencies_ms_of(candidates)]),
            sampled=self.sampled,
            feasible=self.feasible,
            complete=self.complete,
        )


def make_pool(pricer: Pricer, *, seed: int) -> Pool:
    """Pool of ``pricer``'s space, the same for the same ``seed``.

    All of a small space; of a larger one a random sample of its feasible candidates. Where limits leave few of them,
    the sample goes on among the neighbours of the feasible and closest ones, towards the limits.
    """
    parameters = pricer.space.parameters
    if is_small(pricer):
        points = (dict(zip(parameters, values, strict=True)) for values in product(*parameters.values()))
        priced = priced_candidates(pricer, points)
        found = {one.arch.arch_id: one for one in _feasible(priced, pricer.constraints)}
        # In an order that does not depend on how the space names and orders its choices.
        candidates = [found[arch_id] for arch_id in sorted(found)]
        return _pool(candidates, scale_of=candidates, sampled=len(priced), feasible=len(candidates), complete=True)
    rng = random.Random(f"pool {seed}")
    priced, candidates = [], []
    while len(candidates) < _WANTED and len(priced) < _MOST_SAMPLED:
        batch = priced_candidates(pricer, [pricer.space.sample(rng) for _ in range(_BATCH)])
        priced += batch
        candidates += _feasible(batch, pricer.constraints)
    feasible = len(candidates)
    if feasible < _FEW:
        candidates = _walk(pricer, priced, rng)
    # Features are scaled by what the space has: of the few feasible ones too many features would not vary.
    return _pool(candidates, scale_of=priced, sampled=len(priced), feasible=feasible, complete=False)


def is_small(pricer: Pricer) -> bool:
    """Whether the pool of ``pricer``'s space is complete."""
    return pricer.space.size <= _ENUMERATED


def drawn_candidates(pricer: Pricer, rng: random.Random) -> Iterator[Candidate]:
    """Random feasible candidates; it ends where few are feasible."""
    drawn = 0
    while drawn < _MOST_DRAWN:
        genotypes = [pricer.space.sample(rng) for _ in range(_DRAWS)]
        drawn += _DRAWS
        yield from feasible_candidates(pricer, genotypes)


def neighbours(
    parents: Sequence[Mapping[str, Any]], parameters: Mapping[str, tuple[Any, ...]], count: int, rng: random.Random
) -> list[dict[str, Any]]:
    """Draw ``count`` children of ``parents``, of which there is at least one.

    They have a few choices changed, and some are crossed with another parent before.
    """
    names = [name for name, values in parameters.items() if len(values) > 1]
    children: list[dict[str, Any]] = []
    for _ in range(count if names else 0):
        child = dict(rng.choice(parents))
        if len(parents) > 1 and rng.random() < _CROSS:
            other = rng.choice(parents)
            child |= {name: other[name] for name in names if rng.random() < 0.5}
        changes = 1
        while changes < len(names) and rng.random() < _CHANGE_MORE:
            changes += 1
        for name in rng.sample(names, changes):
            child[name] = rng.choice([value for value in parameters[name] if value != child[name]])
        children.append(child)
    return children


def feasible_candidates(pricer: Pricer, genotypes: Iterable[Mapping[str, Any]]) -> list[Candidate]:
    """Those of ``genotypes`` that meet the limits, priced."""
    return _feasible(priced_candidates(pricer, genotypes), pricer.constraints)


def priced_candidates(pricer: Pricer, genotypes: Iterable[Mapping[str, Any]]) -> list[Candidate]:
    """Candidates of ``genotypes``, without those that have no price.

    A table of latencies may lack some of their blocks.
    """
    genotypes = list(genotypes)
    try:
        return pricer.price_many(genotypes)
    except MissingEntries:
        candidates = []
        for genotype in genotypes:
            with suppress(MissingEntries):
                candidates.append(pricer.price(genotype))
        return candidates


def features_of(candidates: Sequence[Candidate]) -> list[dict[str, float]]:
    """Features of each candidate's network."""
    return [network_features(candidate.arch, candidate.cost) for candidate in candidates]


def latencies_ms_of(candidates: Sequence[Candidate]) -> FloatArray:
    """Latencies (M,) in ms as the study corrects predictions."""
    return np.array([one.measures["latency_ms"] for one in candidates])


def _walk(pricer: Pricer, priced: Sequence[Candidate], rng: random.Random) -> list[Candidate]:
    """Feasible candidates, found by walking from ``priced`` ones towards the limits.

    Each generation are neighbours of those that break the limits least. Those that meet them stay parents, in turn.
    """
    found = {_key(one): one for one in _feasible(priced, pricer.constraints)}
    closest = sorted(priced, key=pricer.worst)[:_WALKERS]
    for _ in range(_WALKS):
        if len(found) >= _FEW:
            break
        known = list(found.values())
        parents = rng.sample(known, min(len(known), _WALKERS // 2)) + closest[: _WALKERS // 2]
        children = priced_candidates(
            pricer, neighbours([one.genotype for one in parents], pricer.space.parameters, _BATCH // 2, rng)
        )
        found |= {_key(one): one for one in _feasible(children, pricer.constraints)}
        outside = [one for one in (*closest, *children) if pricer.worst(one) > 0]
        closest = sorted(outside, key=pricer.worst)[:_WALKERS] or closest
    return list(found.values())


def _key(candidate: Candidate) -> tuple[Any, ...]:
    return tuple(candidate.genotype.values())


def _feasible(candidates: Iterable[Candidate], constraints: Constraints) -> list[Candidate]:
    if not constraints.limits:
        return list(candidates)
    return [one for one in candidates if max(constraints.violations(one.measures).values()) <= 0]


def _pool(
    candidates: Sequence[Candidate], *, scale_of: Sequence[Candidate], sampled: int, feasible: int, complete: bool
) -> Pool:
    features = features_of(candidates)
    scale = FeatureScale.fit(features if scale_of is candidates else features_of(scale_of))
    return Pool(
        candidates=tuple(candidates),
        scale=scale,
        design=scale.transform(features),
        latencies_ms=latencies_ms_of(candidates),
        sampled=sampled,
        feasible=feasible,
        complete=complete,
    )
