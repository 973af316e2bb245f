"""Interface of all search spaces: choices, sampling, decoding and encoding."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeAlias

from nas.arch.scaling.transform import Scaling
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, suggestion

Scalar: TypeAlias = int | float | str | bool
Genotype: TypeAlias = Mapping[str, Scalar]


class SearchSpace(ABC):
    """A finite set of networks, each decoded from a ``Genotype``.

    A genotype has one scalar per dotted name.

        space = MixNetSpace(...)                          # in a command: Hydra's _target_
        genotype = space.sample(random.Random(0))         # {"s1.b0.groups": 3, "s1.b0.expansion": 6.0, ...}
        spec = space.decode(genotype, classes=10)
        space.decode(space.encode(spec), classes=10).arch_id == spec.arch_id

    Choices are independent: every combination of values is a network, and decoding never fails on one. Two genotypes
    may decode to the same network (a partition of one group, a repeat of an absent block); compare ``arch_id``.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the space, and of the networks decoded from it."""

    @property
    def published(self) -> tuple[str, ...]:
        """Names of published networks that a search of this space starts from.

        Those that an override has removed from the space are skipped.
        """
        return ()

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, tuple[Scalar, ...]]:
        """Values of each choice, by name, in network order.

        A name with a single value is a constant and not listed.
        """

    @property
    @abstractmethod
    def largest_kernel(self) -> int:
        """Side in px of the largest block kernel of any network.

        Proxies keep their maps large enough for it.
        """

    @abstractmethod
    def decode(self, genotype: Genotype, *, classes: int = 1000, in_channels: int = 3) -> ArchSpec:
        """Build the network of ``genotype``.

        Equals ``nas.arch.scaling.transform.scale`` of ``decode_base``.

        Raises: NasError if a name is unknown or missing, or a value is not among its choices.
        """

    @abstractmethod
    def decode_base(self, genotype: Genotype, *, classes: int = 1000, in_channels: int = 3) -> tuple[ArchSpec, Scaling]:
        """Build the network of ``genotype`` before scaling, and its ``Scaling``.

        A winner is written as a family in EfficientNet's style from these.

        Raises: NasError as ``decode``.
        """

    @abstractmethod
    def encode(self, spec: ArchSpec) -> Genotype:
        """Find a genotype that decodes to ``spec``.

        Classes, input channels, name and drop rates of ``spec`` are ignored.

        Raises: NasError naming the first part of ``spec`` that the space cannot express.
        """

    @property
    def size(self) -> int:
        """Number of genotypes: the product of the numbers of choices."""
        return math.prod(len(values) for values in self.parameters.values())

    def sample(self, rng: random.Random) -> Genotype:
        """Sample a genotype: every choice uniformly and independently."""
        return {name: rng.choice(values) for name, values in self.parameters.items()}

    def check(self, genotype: Genotype) -> None:
        """Check that ``genotype`` gives each parameter one of its values, and no more.

        Raises: NasError naming the parameter.
        """
        parameters = self.parameters
        for name, values in parameters.items():
            if name not in genotype:
                raise NasError(f"genotype of {self.name!r}: {name!r} is missing; choose from {format_values(values)}.")
            if genotype[name] not in values:
                raise NasError(
                    f"genotype of {self.name!r}: {name} {genotype[name]!r} is not a valid choice; "
                    f"choose from {format_values(values)}."
                )
        if len(genotype) > len(parameters):
            name = next(name for name in genotype if name not in parameters)
            raise NasError(
                f"genotype of {self.name!r}: {name!r} is not a choice of this space.{suggestion(name, parameters)}"
            )


def format_values(values: tuple[object, ...]) -> str:
    """Format values as in YAML lists: ``1, 2, k3.5``."""
    return ", ".join(str(value) for value in values)
