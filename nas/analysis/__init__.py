"""Statistics of trial records, without drawing and without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.analysis.accuracy_estimate import AccuracyEstimator, TrainedNetwork, leave_one_out
    from nas.analysis.baseline_comparison import BaselineComparison, Relation
    from nas.analysis.bayesian_regression import FloatArray
    from nas.analysis.estimator_check import EstimatorCheck
    from nas.analysis.history import (
        Curve,
        FrontProgress,
        ProgressStep,
        ReferencePoint,
        accuracy_and_ms,
        busy_hours,
        front_progress,
        hypervolume,
        learning_curves,
    )
    from nas.analysis.latency_agreement import LatencyAgreement, LatencyPair, latency_pair, limit_warning
    from nas.analysis.proxy_validation import LongerTraining, longer_trainings, validation_command
    from nas.analysis.rank_agreement import (
        Bootstrap,
        average_ranks,
        best_share_found,
        bootstrap,
        bootstrap_tau,
        budget_regret,
        comparable_pairs,
        pairwise_tau,
        spearman_rho,
    )
    from nas.analysis.significance import (
        SIGNIFICANCE_LEVEL,
        ChanceLevel,
        accuracy_groups,
        at_chance_text,
        chance_level,
        compared_networks,
        deviations_to_separate,
        images_to_separate,
        indistinguishable,
        times_the_images,
    )
    from nas.analysis.studentized_range import studentized_range_quantile, studentized_range_sf
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "baseline_comparison": ["BaselineComparison", "Relation"],
            "bayesian_regression": ["FloatArray"],
            "estimator_check": ["EstimatorCheck"],
            "accuracy_estimate": ["leave_one_out", "TrainedNetwork", "AccuracyEstimator"],
            "history": [
                "Curve",
                "FrontProgress",
                "ProgressStep",
                "ReferencePoint",
                "accuracy_and_ms",
                "busy_hours",
                "front_progress",
                "hypervolume",
                "learning_curves",
            ],
            "latency_agreement": ["limit_warning", "LatencyAgreement", "LatencyPair", "latency_pair"],
            "proxy_validation": ["LongerTraining", "longer_trainings", "validation_command"],
            "rank_agreement": [
                "Bootstrap",
                "average_ranks",
                "best_share_found",
                "bootstrap",
                "bootstrap_tau",
                "budget_regret",
                "comparable_pairs",
                "pairwise_tau",
                "spearman_rho",
            ],
            "significance": [
                "indistinguishable",
                "images_to_separate",
                "times_the_images",
                "deviations_to_separate",
                "compared_networks",
                "at_chance_text",
                "SIGNIFICANCE_LEVEL",
                "ChanceLevel",
                "accuracy_groups",
                "chance_level",
            ],
            "studentized_range": ["studentized_range_quantile", "studentized_range_sf"],
        },
    )

__all__ = [
    "BaselineComparison",
    "Relation",
    "EstimatorCheck",
    "FloatArray",
    "leave_one_out",
    "TrainedNetwork",
    "AccuracyEstimator",
    "SIGNIFICANCE_LEVEL",
    "Bootstrap",
    "ChanceLevel",
    "Curve",
    "FrontProgress",
    "LatencyAgreement",
    "LatencyPair",
    "LongerTraining",
    "ProgressStep",
    "ReferencePoint",
    "accuracy_and_ms",
    "accuracy_groups",
    "at_chance_text",
    "average_ranks",
    "best_share_found",
    "bootstrap",
    "bootstrap_tau",
    "budget_regret",
    "busy_hours",
    "chance_level",
    "comparable_pairs",
    "compared_networks",
    "deviations_to_separate",
    "front_progress",
    "hypervolume",
    "images_to_separate",
    "times_the_images",
    "indistinguishable",
    "latency_pair",
    "learning_curves",
    "limit_warning",
    "longer_trainings",
    "pairwise_tau",
    "spearman_rho",
    "studentized_range_quantile",
    "studentized_range_sf",
    "validation_command",
]
