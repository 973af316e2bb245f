"""Export of a network as a folder: file, check, model card, labels, example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.exporters.deployment.images import PreparedImages, TrainImages, ValidationImages
    from nas.exporters.deployment.network import ExportedNetwork, load_exported_network
    from nas.exporters.deployment.plan import ExportPlan, export_name
    from nas.exporters.deployment.preprocessing import Preprocessing
    from nas.exporters.deployment.quantised import QuantisedFile
    from nas.exporters.deployment.write import ExportResult, run_export
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "preprocessing": ["Preprocessing"],
            "network": ["ExportedNetwork", "load_exported_network"],
            "images": ["ValidationImages", "TrainImages", "PreparedImages"],
            "quantised": ["QuantisedFile"],
            "plan": ["ExportPlan", "export_name"],
            "write": ["ExportResult", "run_export"],
        },
    )

__all__ = [
    "Preprocessing",
    "QuantisedFile",
    "load_exported_network",
    "ExportedNetwork",
    "PreparedImages",
    "TrainImages",
    "ValidationImages",
    "ExportPlan",
    "ExportResult",
    "export_name",
    "run_export",
]
