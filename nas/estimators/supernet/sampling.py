"""Which networks of a space a supernet is trained on; without torch."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Genotype = Mapping[str, Any]


class Space(Protocol):
    """What a supernet needs of a search space: its choices."""

    @property
    def parameters(self) -> Mapping[str, Sequence[Any]]: ...


def fair_genotype(space: Space, index: int, seed: int) -> dict[str, Any]:
    """Return network number ``index`` of a sequence in which choices are balanced.

    Of every parameter each run of as many networks as it has values contains each value once, in random order (strict
    fairness of FairNAS, arXiv:1907.01845, section 3.2, for any numbers of values). A function of its arguments alone:
    an interrupted training needs no state of it.
    """
    genotype = {}
    for name, values in space.parameters.items():
        cycle, position = divmod(index, len(values))
        order = list(range(len(values)))
        random.Random(f"{seed} {name} {cycle}").shuffle(order)
        genotype[name] = values[order[position]]
    return genotype


def extreme_genotype(space: Space, cost: Callable[[Genotype], float], *, largest: bool) -> dict[str, Any]:
    """Return a genotype of the largest or smallest ``cost``, by one choice at a time.

    Exact where no choice changes the order of another's values by cost, as in spaces of widths, depths, kernels and
    expansions. Of values of equal cost the first stays.
    """
    sign = 1 if largest else -1
    genotype = {name: values[0] for name, values in space.parameters.items()}
    for _ in range(2):  # choices of a block have no cost until the block exists
        for name, values in space.parameters.items():
            genotype[name] = max(values, key=lambda value: sign * cost({**genotype, name: value}))
    return genotype


def covering_genotypes(space: Space, base: Genotype, *, drawn: int, seed: int) -> list[dict[str, Any]]:
    """Return genotypes that together need all weights of the space.

    Every value of every choice beside ``base``, the largest network, and ``drawn`` random ones.
    """
    varied = [{**base, name: value} for name, values in space.parameters.items() for value in values]
    return [*varied, *(fair_genotype(space, index, seed) for index in range(drawn))]
