"""Networks of a scaling study with cost and proxy, relative to the baseline."""

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
    """One network of a study, with its realised growth over the baseline.

    ``proxy``: the proxy's own growth over the proxy of the baseline. ``same``: labels of others that rounding makes
    equal to this network. ``cells``: its cells in a table, including theirs. ``reason``: why it is not trained; empty
    if it is.
    """

    label: str
    scaled: ScaledNetwork
    latency: LatencyEstimate
    latency_growth: float
    proxy: ScaledNetwork
    same: tuple[str, ...] = ()
    cells: tuple[TableCell, ...] = ()
    reason: str = ""

    @property
    def arch(self) -> ArchSpec:
        """The network's spec."""
        return self.scaled.arch

    @property
    def parameters(self) -> dict[str, float]:
        """Parameters of its trials besides the seed: a triple, or three multipliers."""
        triple = self.scaled.compound
        if triple is not None:
            return {"alpha": triple.alpha, "beta": triple.beta, "gamma": triple.gamma}
        return {name: float(value) for name, value in self.scaled.factors._asdict().items()}

    @property
    def candidate(self) -> Candidate:
        """The network with its cost and predicted latency."""
        return Candidate(genotype=self.parameters, arch=self.arch, cost=complexity(self.arch), latency=self.latency)

    @property
    def growths(self) -> dict[str, float]:
        """Realised growth of network and proxy over the baseline, by column name."""
        return {
            "macs_x": self.scaled.macs_growth,
            "params_x": self.scaled.params_growth,
            "memory_x": self.scaled.memory_growth,
            "latency_x": self.latency_growth,
            "proxy_depth_x": self.proxy.realised.depth,
            "proxy_width_x": self.proxy.realised.width,
            "proxy_resolution_px": self.proxy.arch.resolution_px,
            "proxy_macs_x": self.proxy.macs_growth,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignStep:
    """One step of stepwise expansion: the network that each axis alone gives.

    ``number`` starts at 1. Axes beyond the limits are absent. A candidate may be a network that is also trained for
    another rule.
    """

    number: int
    candidates: Mapping[str, DesignEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """All networks of a study known so far.

    ``trained`` and ``left_out`` are in the order of the plan; ``requested`` counts networks before rounding made some
    of them equal. ``cells``: of a table, in its order; the baseline may be one of the networks trained there.
    ``steps``: of stepwise expansion, those whose axis is among ``chosen_axes`` and the undecided one, if any;
    ``step_networks``: their networks that nothing else trains; ``further``: upper bound on the number of steps still to
    come.
    """

    baseline: DesignEntry
    trained: tuple[DesignEntry, ...]
    left_out: tuple[DesignEntry, ...]
    requested: int
    cells: tuple[TableCell, ...] = ()
    steps: tuple[DesignStep, ...] = ()
    chosen_axes: tuple[str, ...] = ()
    step_networks: tuple[DesignEntry, ...] = ()
    further: int = 0

    @property
    def by_label(self) -> dict[str, DesignEntry]:
        """Trained networks by label, the baseline first."""
        return {entry.label: entry for entry in (self.baseline, *self.trained, *self.step_networks)}

    @property
    def all_entries(self) -> tuple[DesignEntry, ...]:
        """Trained networks, then those left out."""
        return (*self.by_label.values(), *self.left_out)

    @property
    def undecided(self) -> DesignStep | None:
        """Step whose axis is chosen next; None if there is none."""
        return self.steps[len(self.chosen_axes)] if len(self.steps) > len(self.chosen_axes) else None

    @property
    def end(self) -> DesignEntry | None:
        """Final network of stepwise expansion; None until it is known."""
        ended = self.steps and not self.undecided
        return self.steps[-1].candidates[self.chosen_axes[-1]] if ended else None

    @property
    def racing(self) -> tuple[str, ...]:
        """Labels of the networks that get further seeds.

        These are all but the networks of decided steps.
        """
        open_networks = self.undecided.candidates.values() if self.undecided else filter(None, [self.end])
        labels = {entry.label for entry in (self.baseline, *self.trained, *open_networks)}
        return tuple(label for label in self.by_label if label in labels)


Predict = Callable[[ArchSpec], LatencyEstimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPricer:
    """Prices networks relative to the baseline ``base``."""

    plan: ScalingPlan
    base: ScaledNetwork
    predict: Predict
    proxy_of: Callable[[ArchSpec], Proxy]

    def entry(
        self, label: str, scaled: ScaledNetwork, same: Iterable[str] = (), cells: Iterable[TableCell] = ()
    ) -> DesignEntry:
        """Entry of ``scaled`` with cost and proxy, and the reason if beyond the limits."""
        latency, base = self.predict(scaled.arch), self.base.arch
        entry = DesignEntry(
            label=label,
            scaled=replace(scaled, baseline=base),
            latency=latency,
            latency_growth=latency.latency_ms / self.predict(base).latency_ms,
            proxy=replace(scaled, baseline=self.proxy_of(base).spec, arch=self.proxy_of(scaled.arch).spec),
            same=tuple(same),
            cells=tuple(cells),
        )
        return replace(entry, reason=self.plan.constraints.explain(entry.candidate.measures))

    def measure(self, arch: ArchSpec) -> float:
        """Value of the plan's target: multiply-adds, or predicted latency in ms."""
        return self.predict(arch).latency_ms if self.plan.target == "latency" else complexity(arch).macs


def growth_of(plan: ScalingPlan, entry: DesignEntry) -> float:
    """Realised growth of the target of ``plan``."""
    return entry.latency_growth if plan.target == "latency" else entry.scaled.macs_growth
