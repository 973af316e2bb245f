"""Export of specs and trained modules: standalone Python, one folder per runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.exporters.check import (
        FileScore,
        ImageAccuracy,
        LogitDifference,
        accuracy_through,
        correct_images,
        largest_difference,
        noise_images,
        run_in_batches,
    )
    from nas.exporters.formats import (
        FORMATS,
        Format,
        ImageBatch,
        Logits,
        Outputs,
        Run,
        format_of,
        is_installed,
        outputs_of,
    )
    from nas.exporters.graph import InferenceGraph, inference_graph
    from nas.exporters.metadata import input_facts, input_metadata
    from nas.exporters.processing import Processing, dense_processing
    from nas.exporters.reference import numpy_run, torch_run, torch_runner
    from nas.exporters.standalone import load_weights, save_weights, standalone_source
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "check": [
                "ImageAccuracy",
                "LogitDifference",
                "FileScore",
                "accuracy_through",
                "correct_images",
                "largest_difference",
                "noise_images",
                "run_in_batches",
            ],
            "formats": [
                "FORMATS",
                "Format",
                "ImageBatch",
                "Logits",
                "Outputs",
                "Run",
                "format_of",
                "is_installed",
                "outputs_of",
            ],
            "graph": ["InferenceGraph", "inference_graph"],
            "metadata": ["input_facts", "input_metadata"],
            "processing": ["Processing", "dense_processing"],
            "reference": ["numpy_run", "torch_run", "torch_runner"],
            "standalone": ["load_weights", "save_weights", "standalone_source"],
        },
    )

__all__ = [
    "FORMATS",
    "Format",
    "ImageAccuracy",
    "ImageBatch",
    "InferenceGraph",
    "LogitDifference",
    "Logits",
    "Outputs",
    "Processing",
    "Run",
    "FileScore",
    "accuracy_through",
    "correct_images",
    "dense_processing",
    "format_of",
    "inference_graph",
    "input_facts",
    "input_metadata",
    "is_installed",
    "largest_difference",
    "load_weights",
    "noise_images",
    "numpy_run",
    "outputs_of",
    "run_in_batches",
    "save_weights",
    "standalone_source",
    "torch_run",
    "torch_runner",
]
