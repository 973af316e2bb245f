"""Combinations of scores whose weights are learned from a few trained networks, as a search learns them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from nas.analysis.accuracy_estimate import AccuracyEstimator, TrainedNetwork, leave_one_out
from nas.core.errors import NasError
from nas.estimators.settings import LEAST_ANCHORS
from tests.benchmarks.estimator_scores import Floats, Signal, cost_of, signals_of
from tests.benchmarks.estimator_tables import Sample

COUNTS: Final = ("macs", "params", "depth")  # features of a search's estimate, whatever its scores
_DRAWS: Final = 10  # of anchors


def learned_from_anchors(text: str, signals: Mapping[str, Signal], sample: Sample, anchors: int) -> Signal:
    """Estimate accuracies from the signals of ``anchors:A+B`` and from counts, as a search does.

    Its regression learns from random ``anchors`` of ``sample.candidates`` and their true accuracies; the estimate of an
    anchor comes from the others. Values are those of several draws of anchors, which use the seeds of the signals in
    turn. MACs, parameters and depth are always features.

    Raises: NasError for an unknown signal or a number of anchors that cannot be drawn.
    """
    chosen = signals_of(text, signals)
    if not LEAST_ANCHORS <= anchors <= len(sample.candidates):
        raise NasError(f"--anchors {anchors}: must be {LEAST_ANCHORS} to {len(sample.candidates)}, as --networks says.")
    scores = [signal for signal in chosen if signal.label not in COUNTS]
    values = []
    for draw in range(_DRAWS):
        columns = {signal.label: signal.values[draw % len(signal.values)] for signal in scores}
        rows = random.Random(draw).sample(range(len(sample.candidates)), anchors)
        values.append(_estimates(sample, columns, rows))
    return Signal(label=text, values=values, cpu_s=cost_of(chosen), has_mean=False)


def _estimates(sample: Sample, columns: Mapping[str, Floats], anchors: Sequence[int]) -> Floats:
    """Estimate of every network, as learned from those of the rows ``anchors``."""
    networks = [
        TrainedNetwork(
            arch=one.arch,
            scores={name: float(column[row]) for name, column in columns.items()},
            accuracy=one.accuracy,
            images=sample.validation_images,
        )
        for row, one in enumerate(sample.all)
    ]
    trained, names = [networks[row] for row in anchors], tuple(columns)
    fitted = AccuracyEstimator.fit(trained, names)
    found = np.array([fitted.estimate(one.arch, one.scores).accuracy for one in networks])
    found[list(anchors)] = [estimate.accuracy for estimate in leave_one_out(trained, names)]
    return found
