"""Heads of detectors and segmenters, and the maps of a network that they read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.arch.heads.attach import backbone, dense_network, detector, segmenter
    from nas.arch.heads.feature_taps import STEM, FeatureTap, last_of_stride, stage_expansion, taps
    from nas.arch.heads.parts import DENSE_HEADS, DenseHead, LRASPPHead, SSDLiteHead
    from nas.arch.heads.settings import HeadSettings
    from nas.arch.heads.task_scores import METRIC_NAMES, SCORE_NAMES, TASK_SCORES, TaskScore, with_score_name
    from nas.arch.heads.tasks import check_classifier, latency_scope
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "attach": ["backbone", "dense_network", "detector", "segmenter"],
            "parts": ["DENSE_HEADS", "DenseHead", "LRASPPHead", "SSDLiteHead"],
            "feature_taps": ["STEM", "FeatureTap", "last_of_stride", "stage_expansion", "taps"],
            "settings": ["HeadSettings"],
            "task_scores": ["METRIC_NAMES", "SCORE_NAMES", "TASK_SCORES", "TaskScore", "with_score_name"],
            "tasks": ["check_classifier", "latency_scope"],
        },
    )

__all__ = [
    "DENSE_HEADS",
    "DenseHead",
    "FeatureTap",
    "HeadSettings",
    "LRASPPHead",
    "METRIC_NAMES",
    "SCORE_NAMES",
    "SSDLiteHead",
    "STEM",
    "TASK_SCORES",
    "TaskScore",
    "backbone",
    "check_classifier",
    "dense_network",
    "detector",
    "last_of_stride",
    "latency_scope",
    "segmenter",
    "stage_expansion",
    "taps",
    "with_score_name",
]
