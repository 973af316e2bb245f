"""The networks of a compound study: each with its price and its proxy, beside the baseline's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from nas.arch.complexity import complexity
from nas.arch.scaling.compound import ScaledNetwork
from nas.arch.spec import ArchSpec
from nas.estimators.proxy.reduce import Proxy
from nas.latency.predictors.base import LatencyEstimate
from nas.methods.scaling.config import ScalingPlan
from nas.study.candidates import Candidate

BASELINE: Final = "baseline"
TableCell = tuple[str, str]  # row and column of a table


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignEntry:
    """One network of a study, with what it and its proxy really are beside the baseline's.

    ``proxy``: the proxy's own growth over the proxy of the baseline. ``same``: labels of others that rounding makes
    this network too. ``places``: where it stands in a table, theirs among them. ``reason``: why it is not trained.
    """

    label: str
    grown: ScaledNetwork
    latency: LatencyEstimate
    latency_growth: float
    proxy: ScaledNetwork
    same: tuple[str, ...] = ()
    places: tuple[TableCell, ...] = ()
    reason: str = ""

    @property
    def arch(self) -> ArchSpec:
        """The network itself."""
        return self.grown.arch

    @property
    def parameters(self) -> dict[str, float]:
        """What a trial of it is told by in the study, besides the seed: a triple, or else three multipliers."""
        triple = self.grown.compound
        if triple is not None:
            return {"alpha": triple.alpha, "beta": triple.beta, "gamma": triple.gamma}
        return {name: float(value) for name, value in self.grown.factors._asdict().items()}

    @property
    def candidate(self) -> Candidate:
        """The network with its price."""
        return Candidate(genotype=self.parameters, arch=self.arch, cost=complexity(self.arch), latency=self.latency)

    @property
    def growths(self) -> dict[str, float]:
        """What network and proxy really are beside the baseline's, as scalars by the names that tables give them."""
        return {
            "macs_x": self.grown.macs_growth,
            "params_x": self.grown.params_growth,
            "memory_x": self.grown.memory_growth,
            "latency_x": self.latency_growth,
            "proxy_depth_x": self.proxy.realised.depth,
            "proxy_width_x": self.proxy.realised.width,
            "proxy_resolution_px": self.proxy.arch.resolution_px,
            "proxy_macs_x": self.proxy.macs_growth,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignStep:
    """One step of stepwise expansion: by axis, what it alone would give; an axis beyond the limits is not there.

    ``number`` from 1. A candidate may be a network that is trained for another rule already.
    """

    number: int
    candidates: Mapping[str, DesignEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """All networks of a study, as far as they are known.

    ``trained`` and ``left_out`` are in the order of the plan; ``asked`` counts before rounding made some of them equal.
    ``places``: of a table, in its order; the baseline may be one of those trained there. ``steps``: of stepwise
    expansion, those whose axis was ``taken`` and the one that is to be decided, if there is one; ``walked``: their
    networks that nothing else trains; ``further``: steps that are still to come, at most.
    """

    baseline: DesignEntry
    trained: tuple[DesignEntry, ...]
    left_out: tuple[DesignEntry, ...]
    asked: int
    places: tuple[TableCell, ...] = ()
    steps: tuple[DesignStep, ...] = ()
    taken: tuple[str, ...] = ()
    walked: tuple[DesignEntry, ...] = ()
    further: int = 0

    @property
    def by_label(self) -> dict[str, DesignEntry]:
        """Those that are trained, the baseline first."""
        return {entry.label: entry for entry in (self.baseline, *self.trained, *self.walked)}

    @property
    def everything(self) -> tuple[DesignEntry, ...]:
        """Those that are trained, and then those that are not."""
        return (*self.by_label.values(), *self.left_out)

    @property
    def undecided(self) -> DesignStep | None:
        """The step whose axis is to be taken next."""
        return self.steps[len(self.taken)] if len(self.steps) > len(self.taken) else None

    @property
    def end(self) -> DesignEntry | None:
        """Where stepwise expansion came to; None before that."""
        ended = self.steps and not self.undecided
        return self.steps[-1].candidates[self.taken[-1]] if ended else None

    @property
    def racing(self) -> tuple[str, ...]:
        """Labels of those that further seeds are for: all but the networks of steps that are decided."""
        at = self.undecided.candidates.values() if self.undecided else filter(None, [self.end])
        kept = {entry.label for entry in (self.baseline, *self.trained, *at)}
        return tuple(label for label in self.by_label if label in kept)


Predict = Callable[[ArchSpec], LatencyEstimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPricer:
    """Where networks are held beside the baseline ``base``: what entries are made with."""

    plan: ScalingPlan
    base: ScaledNetwork
    predict: Predict
    proxy_of: Callable[[ArchSpec], Proxy]

    def entry(
        self, label: str, found: ScaledNetwork, same: Iterable[str] = (), places: Iterable[TableCell] = ()
    ) -> DesignEntry:
        """``found`` with its price and its proxy; with the reason if it is beyond the limits."""
        latency, base = self.predict(found.arch), self.base.arch
        entry = DesignEntry(
            label=label,
            grown=replace(found, baseline=base),
            latency=latency,
            latency_growth=latency.latency_ms / self.predict(base).latency_ms,
            proxy=replace(found, baseline=self.proxy_of(base).spec, arch=self.proxy_of(found.arch).spec),
            same=tuple(same),
            places=tuple(places),
        )
        return replace(entry, reason=self.plan.constraints.explain(entry.candidate.measures))

    def measure(self, arch: ArchSpec) -> float:
        """What the target of the plan counts: multiply-adds, or predicted milliseconds."""
        return self.predict(arch).latency_ms if self.plan.target == "latency" else complexity(arch).macs


def growth_of(plan: ScalingPlan, entry: DesignEntry) -> float:
    """By what the target of ``plan`` really grows."""
    return entry.latency_growth if plan.target == "latency" else entry.grown.macs_growth
