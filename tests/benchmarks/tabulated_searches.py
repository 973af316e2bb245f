"""Tables that tests/benchmarks/sample_efficiency.py searches, and NAS-Bench-Macro under other names."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from nas.analysis.history import ReferencePoint, hypervolume
from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from search_spaces.blockwise import BlockwiseSpace
from search_spaces.space import Genotype, Scalar
from tests.benchmarks import second_table
from tests.benchmarks.nas_bench_macro import CLASSES, FILE, LAYERS, MacroTable, NasBenchMacroSpace, distinct_key
from tests.benchmarks.tabulated import Curves

MS_PER_GMAC: Final = 30.0
TOP: Final = 10  # networks that count as good
LEAST_ACCURACY: Final = 0.8  # of NAS-Bench-Macro, as in simulation.py; one of its networks has 45%


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network of a table: a genotype of it, accuracies of its trainings in [0, 1], and its MACs."""

    genotype: Genotype
    accuracies: tuple[float, ...]
    macs: int

    @property
    def accuracy(self) -> float:
        """Mean accuracy in [0, 1], by which searches are judged."""
        return fmean(self.accuracies)

    @property
    def latency_ms(self) -> float:
        """In proportion to the MACs."""
        return self.macs * 1e-9 * MS_PER_GMAC


@dataclass(frozen=True, kw_only=True)
class Table:
    """Every network of ``space`` by arch id.

    ``points``: arch id of each point of the space, in an order that does not depend on the names of its choices.
    ``at``: numbers of trained networks at which searches are judged.
    ``least_accuracy``: of a second reference point of hypervolumes, in [0, 1].
    """

    name: str
    at: tuple[int, ...]
    space: Any
    networks: Mapping[str, Network]
    points: tuple[str, ...] = field(repr=False)
    least_accuracy: float | None = None

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Arch ids by mean accuracy, best first."""
        return tuple(sorted(self.networks, key=lambda name: (-self.networks[name].accuracy, name)))

    @cached_property
    def best(self) -> float:
        """The highest mean accuracy."""
        return self.networks[self.order[0]].accuracy

    @cached_property
    def top(self) -> frozenset[str]:
        """The ten best networks."""
        return frozenset(self.order[:TOP])

    def training(self, arch_id: str, seed: int | None) -> float:
        """Accuracy of the training that ``seed`` draws; their mean without a seed."""
        network = self.networks[arch_id]
        return network.accuracy if seed is None else random.Random(f"{arch_id} {seed}").choice(network.accuracies)

    @cached_property
    def references(self) -> Mapping[str, ReferencePoint]:
        """Reference points of hypervolumes: the largest MACs, and the smallest accuracy or ``least_accuracy``."""
        accuracies = {"smallest": min(one.accuracy for one in self.networks.values())}
        if self.least_accuracy is not None:
            accuracies[f"{self.least_accuracy:.0%}"] = self.least_accuracy
        slowest_ms = max(one.latency_ms for one in self.networks.values())
        return {name: ReferencePoint(accuracy, slowest_ms) for name, accuracy in accuracies.items()}

    def hypervolume_missed(self, arch_ids: Iterable[str], reference: str) -> float:
        """Share of the hypervolume of all networks that some lack, at their mean accuracies."""
        return 1 - self._hypervolume(arch_ids, reference) / self._whole[reference]

    @cached_property
    def _whole(self) -> Mapping[str, float]:
        return {name: self._hypervolume(self.networks, name) for name in self.references}

    def _hypervolume(self, arch_ids: Iterable[str], reference: str) -> float:
        found = [self.networks[name] for name in arch_ids]
        return hypervolume([(one.accuracy, one.latency_ms) for one in found], self.references[reference])

    def first_genotypes(self, count: int, seed: int) -> list[Genotype]:
        """Different networks of points drawn uniformly, the same whatever the choices are called."""
        drawn = random.Random(f"first {seed}").sample(self.points, len(self.points))
        return [self.networks[name].genotype for name in dict.fromkeys(drawn)][:count]


_MACRO: Final = NasBenchMacroSpace()


class PermutedMacroSpace(NasBenchMacroSpace):
    """NAS-Bench-Macro with layers in another order, operations renamed, and values of each choice shuffled."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"permuted {seed}")
        layers = rng.sample(list(_MACRO.parameters), len(_MACRO.parameters))
        self._layers = {f"choice{place}": layer for place, layer in enumerate(layers)}
        self._names = dict(zip(LAYERS, rng.sample(["alpha", "beta", "gamma"], len(LAYERS)), strict=True))
        self._values = {name: tuple(rng.sample(sorted(self._names.values()), len(LAYERS))) for name in self._layers}

    @property
    def parameters(self) -> Mapping[str, tuple[Scalar, ...]]:
        return self._values

    def decode(self, genotype: Genotype, *, classes: int = CLASSES, in_channels: int = 3) -> ArchSpec:
        self.check(genotype)
        operations = {name: operation for operation, name in self._names.items()}
        original = {layer: operations[str(genotype[name])] for name, layer in self._layers.items()}
        return _MACRO.decode(original, classes=classes, in_channels=in_channels)

    def encode(self, spec: ArchSpec) -> Genotype:
        original = _MACRO.encode(spec)
        return {name: self._names[str(original[layer])] for name, layer in self._layers.items()}


def macro(shared: Path, permuted: int | None = None) -> Table:
    """NAS-Bench-Macro: three trainings of each of 3,969 networks.

    ``permuted``: seed of the other names of layers and operations; None: its own.
    """
    table = MacroTable(shared / FILE)
    space = _MACRO if permuted is None else PermutedMacroSpace(permuted)
    archs = {key: table.decode(key) for key in table.distinct}
    networks = {
        arch.arch_id: Network(
            genotype=space.encode(arch), accuracies=table.by_key[key].accuracies, macs=table.by_key[key].macs
        )
        for key, arch in archs.items()
    }
    points = tuple(archs[distinct_key(key)].arch_id for key in table.by_key)
    return Table(
        name="macro", at=(50, 100), space=space, networks=networks, points=points, least_accuracy=LEAST_ACCURACY
    )


def curves() -> Table:
    """The 96 networks of tests/reference/learning_curves.json, one training each, after the last epoch."""
    table = Curves.read()
    accuracies = {name: float(one["accuracy"][-1]) for name, one in table.networks.items()}
    return _trained_once("curves", table.space, accuracies)


def second() -> Table:
    """The networks of tests/reference/second_table.csv, the first training of each.

    Raises: NasError if trainings are missing.
    """
    rows = second_table.read_rows()
    accuracies = {row["arch_id"]: float(row["accuracy"]) for row in rows if row["repeat"] == "0"}
    return _trained_once("second", BlockwiseSpace(**second_table.SPACE), accuracies)


def _trained_once(name: str, space: BlockwiseSpace, accuracies: Mapping[str, float]) -> Table:
    networks: dict[str, Network] = {}
    points = []
    for values in itertools.product(*space.parameters.values()):
        genotype = dict(zip(space.parameters, values, strict=True))
        arch = space.decode(genotype, classes=CLASSES)
        points.append(arch.arch_id)
        if arch.arch_id not in accuracies:
            raise NasError(f"space {space.name!r}: the table has no network {arch.arch_id}; train what is missing.")
        if arch.arch_id not in networks:
            accuracy = accuracies[arch.arch_id]
            networks[arch.arch_id] = Network(genotype=genotype, accuracies=(accuracy,), macs=complexity(arch).macs)
    return Table(name=name, at=(10, 20, 30, 50), space=space, networks=networks, points=tuple(points))
