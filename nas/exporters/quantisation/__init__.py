"""Static int8 of any format: what it costs, and which layers stay float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.exporters.quantisation.comparison import (
        LabelledImages,
        PairedAccuracy,
        PairedFileScore,
        PairedScore,
        ScoredImages,
        correct_images_of,
    )
    from nas.exporters.quantisation.images import QuantisationImages, quantisation_images, quantisation_rows
    from nas.exporters.quantisation.mixed import MixedInt8, NoMixedInt8Error, write_mixed_int8
    from nas.exporters.quantisation.sensitivity import Sensitivity, full_batches, sensitivities
    from nas.exporters.quantisation.units import QuantisationUnit, block_units, layer_units
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "images": ["QuantisationImages", "quantisation_images", "quantisation_rows"],
            "comparison": [
                "LabelledImages",
                "PairedAccuracy",
                "PairedFileScore",
                "PairedScore",
                "ScoredImages",
                "correct_images_of",
            ],
            "mixed": ["MixedInt8", "write_mixed_int8", "NoMixedInt8Error"],
            "sensitivity": ["Sensitivity", "sensitivities", "full_batches"],
            "units": ["QuantisationUnit", "block_units", "layer_units"],
        },
    )

__all__ = [
    "full_batches",
    "NoMixedInt8Error",
    "quantisation_images",
    "quantisation_rows",
    "QuantisationImages",
    "correct_images_of",
    "LabelledImages",
    "MixedInt8",
    "PairedAccuracy",
    "PairedFileScore",
    "PairedScore",
    "QuantisationUnit",
    "ScoredImages",
    "Sensitivity",
    "block_units",
    "layer_units",
    "sensitivities",
    "write_mixed_int8",
]
