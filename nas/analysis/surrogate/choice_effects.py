"""Effects of choices on accuracy, as a model of it believes them, and on latency."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from nas.analysis.bayesian_regression import FloatArray
from nas.analysis.surrogate.accuracy_model import AccuracyModel
from nas.core.formatting import plural

_BLOCK: Final = re.compile(r"\.b\d+\.")  # of a choice of one block: s3.b0.kernel
_REACH: Final = 1.6449  # standard deviations of a 90% interval on each side
_LEAST_WITH_VALUE: Final = 10  # networks of the sample, to tell what a value is worth
_DECILES: Final = (0.1, 0.9)
_RESAMPLES: Final = 200
_RIDGE: Final = 1e-6  # of a choice's variance: values of one choice sum to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceEffect:
    """Difference between the values of a choice that are best and worst for accuracy.

    ``choice``: its name; ``s3.b*.kernel`` changes the kernels of all ``blocks`` of stage 3 at once. ``accuracy``: mean
    difference in points over the sample of networks, ``low`` to ``high`` its 90% interval; ``latency_ms``: of the
    latency by the same change, with its standard error ``latency_error``.
    """

    choice: str
    blocks: int
    worst: str
    best: str
    accuracy: float
    low: float
    high: float
    latency_ms: float
    latency_error: float

    @property
    def is_shown(self) -> bool:
        """Whether the choice is shown to matter: its interval does not contain 0."""
        return self.low > 0

    @property
    def name(self) -> str:
        """The choice, and in how many blocks."""
        return f"{self.choice} ({plural(self.blocks, 'block')})" if self.blocks > 1 else self.choice


def choice_effects(
    model: AccuracyModel,
    genotypes: Sequence[Mapping[str, Any]],
    design: FloatArray,
    latencies_ms: FloatArray,
) -> tuple[ChoiceEffect, ...]:
    """Effects of all choices that vary in a sample of networks, the largest first.

    ``genotypes``: of M networks; ``design``: their standardised features (M, P); ``latencies_ms``: (M,). The main
    effect of a choice is a contrast of partial dependences: what changes on average over the networks if nothing but
    this choice is changed. It is the least-squares fit of features by choices; the model's score is linear in features,
    so that the posterior of each contrast is known exactly. The error of the sample of networks is added to it. In
    points of accuracy by the slope between the outer deciles of what was found, with its bootstrap error.

    Choices of the blocks of one stage are taken together where they have the same values: one block alone is seldom
    shown to matter.
    """
    groups = _groups(genotypes)
    columns = [(name, value) for names, values in groups.values() for name in names for value in values]
    if not columns or len(model.knots) < 2:
        return ()
    size = len(model.scale.names)
    mean, covariance = model.posterior.mean[:size], model.posterior.covariance[:size, :size]
    fit = _MainEffects.fit(genotypes, columns, np.column_stack([design, design @ mean, latencies_ms]))
    (slope, slope_error), effects = _points_per_score(model), []
    for choice, (names, values) in groups.items():
        ordered = sorted(values, key=lambda value: float(fit.difference(names, value, values[0])[0][size]))
        change, errors = fit.difference(names, ordered[-1], ordered[0])
        score = float(change[size])
        variance = max(float(change[:size] @ covariance @ change[:size]), 0.0) + float(errors[size]) ** 2
        reach = _REACH * math.hypot(slope * math.sqrt(variance), slope_error * score)
        effect = ChoiceEffect(
            choice=choice,
            blocks=len(names),
            worst=str(ordered[0]),
            best=str(ordered[-1]),
            accuracy=slope * score,
            low=slope * score - reach,
            high=slope * score + reach,
            latency_ms=float(change[size + 1]),
            latency_error=float(errors[size + 1]),
        )
        effects.append(effect)
    return tuple(sorted(effects, key=lambda one: (-one.accuracy, one.choice)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _MainEffects:
    """Least-squares fit of quantities of networks by their choices.

    ``worth``: (K, Q), what each of the ``places`` of a choice's value adds to each quantity, up to a constant of the
    choice. ``inverse``: (K, K), of the normal equations; ``scatter``: (Q,), of what no choice alone explains.
    """

    places: Mapping[tuple[str, Any], int]
    worth: FloatArray
    inverse: FloatArray
    scatter: FloatArray

    @classmethod
    def fit(
        cls, genotypes: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, Any]], quantities: FloatArray
    ) -> _MainEffects:
        has = np.array([[float(genotype[name] == value) for name, value in columns] for genotype in genotypes])
        has -= has.mean(axis=0)
        values = quantities - quantities.mean(axis=0)
        inverse = np.linalg.inv(has.T @ has + _RIDGE * len(genotypes) * np.eye(len(columns)))
        worth = inverse @ (has.T @ values)
        return cls(
            places={column: place for place, column in enumerate(columns)},
            worth=worth,
            inverse=inverse,
            scatter=(values - has @ worth).std(axis=0),
        )

    def difference(self, names: Sequence[str], value: Any, other: Any) -> tuple[FloatArray, FloatArray]:
        """Change (Q,) of the quantities, and its standard error (Q,).

        By the choice of ``value`` instead of ``other`` in all ``names``.
        """
        contrast = np.zeros(len(self.places))
        for name in names:
            contrast[self.places[name, value]] += 1.0
            contrast[self.places[name, other]] -= 1.0
        spread = math.sqrt(max(float(contrast @ self.inverse @ contrast), 0.0))
        return contrast @ self.worth, spread * self.scatter


def _groups(genotypes: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[str], list[Any]]]:
    """Choices that vary: names that are changed together, and their values."""
    groups: dict[str, tuple[list[str], list[Any]]] = {}
    for name in genotypes[0] if genotypes else ():
        chosen = [genotype[name] for genotype in genotypes]
        counted = {value: chosen.count(value) for value in dict.fromkeys(chosen)}
        values = sorted((value for value, count in counted.items() if count >= _LEAST_WITH_VALUE), key=str)
        if len(values) < 2:
            continue
        shared = _BLOCK.sub(".b*.", name)
        if shared in groups and groups[shared][1] != values:
            shared = name
        groups.setdefault(shared, ([], values))[0].append(name)
    return {(names[0] if len(names) == 1 else shared): (names, values) for shared, (names, values) in groups.items()}


def _points_per_score(model: AccuracyModel) -> tuple[float, float]:
    """Slope of accuracy in points over scores, with its bootstrap error.

    Between the outer deciles of what was found.
    """
    count, rng = len(model.knots), np.random.default_rng(0)
    resamples = model.accuracies[rng.integers(count, size=(_RESAMPLES, count))]
    spans = np.diff(np.quantile(resamples, _DECILES, axis=1), axis=0)
    scores = float(np.diff(np.quantile(model.knots, _DECILES))[0])
    return (
        100 * float(np.diff(np.quantile(model.accuracies, _DECILES))[0]) / scores,
        100 * float(spans.std()) / scores,
    )
