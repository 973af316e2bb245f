"""What arch=, space=, latency= and the name of a study mean in every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.cli.resolve.networks import is_network, is_spec_file, known_networks, resolve_arch
    from nas.cli.resolve.predictors import latency_remarks, network_totals, resolve_predictor, short_count
    from nas.cli.resolve.reopened import ReopenedStudy, reopen_study
    from nas.cli.resolve.spaces import make_space
    from nas.cli.resolve.studies import FoundStudy, resolve_study
    from nas.cli.resolve.weights import (
        own_weights,
        pretrained_weights,
        resolve_baselines,
        resolve_teacher,
        resolve_weights,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "networks": ["is_network", "is_spec_file", "known_networks", "resolve_arch"],
            "predictors": ["network_totals", "resolve_predictor", "short_count", "latency_remarks"],
            "reopened": ["ReopenedStudy", "reopen_study"],
            "spaces": ["make_space"],
            "studies": ["FoundStudy", "resolve_study"],
            "weights": ["own_weights", "resolve_teacher", "resolve_weights", "resolve_baselines", "pretrained_weights"],
        },
    )

__all__ = [
    "latency_remarks",
    "pretrained_weights",
    "resolve_baselines",
    "FoundStudy",
    "ReopenedStudy",
    "is_network",
    "is_spec_file",
    "known_networks",
    "make_space",
    "network_totals",
    "own_weights",
    "reopen_study",
    "resolve_arch",
    "resolve_predictor",
    "resolve_study",
    "resolve_teacher",
    "resolve_weights",
    "short_count",
]
