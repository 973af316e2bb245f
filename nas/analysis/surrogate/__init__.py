"""Model of accuracy among networks: features, predictions, validation, effects."""

from nas.analysis.surrogate.accuracy_model import OWN, AccuracyModel, Evaluated, Scores, rank_scores
from nas.analysis.surrogate.choice_effects import ChoiceEffect, choice_effects
from nas.analysis.surrogate.cross_validation import MIN_TRAINED, CrossValidation, leave_one_out_scores
from nas.analysis.surrogate.expected_gain import (
    ExpectedGain,
    Improvement,
    expected_gain,
    hypervolume_gain,
    reward_gain,
)
from nas.analysis.surrogate.features import FeatureScale, network_features
from nas.analysis.surrogate.improvement import front_levels, hypervolume_improvement
from nas.analysis.surrogate.summary import ExpectedPoint, ModelSummary, expected_front

__all__ = [
    "MIN_TRAINED",
    "OWN",
    "AccuracyModel",
    "ChoiceEffect",
    "CrossValidation",
    "Evaluated",
    "ExpectedGain",
    "ExpectedPoint",
    "FeatureScale",
    "Improvement",
    "ModelSummary",
    "Scores",
    "choice_effects",
    "expected_front",
    "expected_gain",
    "front_levels",
    "hypervolume_gain",
    "hypervolume_improvement",
    "leave_one_out_scores",
    "network_features",
    "rank_scores",
    "reward_gain",
]
