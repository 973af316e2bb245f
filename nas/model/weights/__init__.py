"""Weights to begin with: files, pretrained ones, and those of another network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.model.weights.carry import carry_weights
    from nas.model.weights.classes import channel_statistics, classifier_rows, fitted_weights
    from nas.model.weights.files import (
        PRETRAINED,
        SPEC_SUFFIXES,
        TIMM_PREFIX,
        WEIGHT_SUFFIXES,
        has_weights_beside,
        weights_beside,
        weights_folder,
    )
    from nas.model.weights.importance import Importance, filter_norm, weighted_input_norm
    from nas.model.weights.initial import InitialWeights, initial_state, random_state_dict
    from nas.model.weights.layers import ChannelRole, CoupledChannels, WeightLayer
    from nas.model.weights.pretrained import PretrainedWeights, pretrained_state
    from nas.model.weights.read import read_weights
    from nas.model.weights.report import CarriedLayer, CarriedPart, CarriedWeights
    from nas.model.weights.source import SourceWeights, source_weights
    from nas.model.weights.table import print_initial_weights
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "carry": ["carry_weights"],
            "classes": ["channel_statistics", "classifier_rows", "fitted_weights"],
            "files": [
                "PRETRAINED",
                "SPEC_SUFFIXES",
                "TIMM_PREFIX",
                "WEIGHT_SUFFIXES",
                "has_weights_beside",
                "weights_beside",
                "weights_folder",
            ],
            "importance": ["Importance", "filter_norm", "weighted_input_norm"],
            "initial": ["InitialWeights", "initial_state", "random_state_dict"],
            "layers": ["ChannelRole", "CoupledChannels", "WeightLayer"],
            "pretrained": ["PretrainedWeights", "pretrained_state"],
            "read": ["read_weights"],
            "report": ["CarriedLayer", "CarriedPart", "CarriedWeights"],
            "source": ["SourceWeights", "source_weights"],
            "table": ["print_initial_weights"],
        },
    )

__all__ = [
    "CarriedLayer",
    "CarriedPart",
    "CarriedWeights",
    "ChannelRole",
    "CoupledChannels",
    "Importance",
    "InitialWeights",
    "PRETRAINED",
    "PretrainedWeights",
    "SPEC_SUFFIXES",
    "SourceWeights",
    "TIMM_PREFIX",
    "WEIGHT_SUFFIXES",
    "WeightLayer",
    "carry_weights",
    "channel_statistics",
    "classifier_rows",
    "filter_norm",
    "weighted_input_norm",
    "fitted_weights",
    "has_weights_beside",
    "initial_state",
    "pretrained_state",
    "print_initial_weights",
    "random_state_dict",
    "read_weights",
    "source_weights",
    "weights_beside",
    "weights_folder",
]
