"""nas: architecture search and compound scaling for mobile convolutional networks.

The names in ``__all__`` are the public Python API::

    import nas

    spec = nas.published("mixnet_s")  # or nas.load_spec("winner_1.yaml"), nas.from_timm("fbnetc_100")
    print(nas.complexity(spec).macs, nas.predict_latency(spec))
    model = nas.build(spec)  # a timm module
    result = nas.run_search("space=mixnet", study={"n_trials": 40})
    print(result.winners[0].accuracy, result.report)

Each is loaded when it is first used: importing ``nas`` loads neither torch nor timm. It makes
``timm.create_model("nas_arch", spec=...)`` known, before or after timm is imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports
from nas.core.version import __version__

if TYPE_CHECKING:
    from nas.api import (
        export_network,
        from_timm,
        latency_predictor,
        load_study,
        predict_latency,
        published,
        published_names,
        run_bench,
        run_compound_grid,
        run_netadapt,
        run_search,
        scale_spec,
        train_network,
    )
    from nas.arch.complexity import Complexity, complexity
    from nas.arch.files import load_spec, save_spec
    from nas.arch.scaling.compound import ScaledNetwork
    from nas.arch.scaling.family import family
    from nas.arch.scaling.transform import Compound, Scaling
    from nas.arch.spec import ArchSpec
    from nas.core.errors import NasError
    from nas.exporters.deployment.write import ExportResult
    from nas.latency.predictors.base import LatencyEstimate, LatencyPredictor
    from nas.model.build import build
    from nas.results import (
        BaselineNetwork,
        CompoundGridResult,
        FoundNetwork,
        NetAdaptResult,
        SearchResult,
        StudyResult,
        TrainingResult,
    )
    from nas.study.trial_record import TrialRecord
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "api": [
                "export_network",
                "from_timm",
                "latency_predictor",
                "load_study",
                "predict_latency",
                "published",
                "published_names",
                "run_bench",
                "run_compound_grid",
                "run_netadapt",
                "run_search",
                "scale_spec",
                "train_network",
            ],
            "arch.complexity": ["Complexity", "complexity"],
            "arch.files": ["load_spec", "save_spec"],
            "arch.scaling.compound": ["ScaledNetwork"],
            "arch.scaling.family": ["family"],
            "arch.scaling.transform": ["Compound", "Scaling"],
            "arch.spec": ["ArchSpec"],
            "core.errors": ["NasError"],
            "exporters.deployment.write": ["ExportResult"],
            "latency.predictors.base": ["LatencyEstimate", "LatencyPredictor"],
            "model.build": ["build"],
            "results": [
                "BaselineNetwork",
                "CompoundGridResult",
                "FoundNetwork",
                "NetAdaptResult",
                "SearchResult",
                "StudyResult",
                "TrainingResult",
            ],
            "study.trial_record": ["TrialRecord"],
        },
    )

__all__ = [
    "ArchSpec",
    "Complexity",
    "Compound",
    "BaselineNetwork",
    "CompoundGridResult",
    "ExportResult",
    "FoundNetwork",
    "LatencyEstimate",
    "LatencyPredictor",
    "NasError",
    "NetAdaptResult",
    "ScaledNetwork",
    "Scaling",
    "SearchResult",
    "StudyResult",
    "TrainingResult",
    "TrialRecord",
    "__version__",
    "build",
    "complexity",
    "export_network",
    "family",
    "from_timm",
    "latency_predictor",
    "load_spec",
    "load_study",
    "predict_latency",
    "published",
    "published_names",
    "run_bench",
    "run_compound_grid",
    "run_netadapt",
    "run_search",
    "save_spec",
    "scale_spec",
    "train_network",
]

_TIMM = "timm.models"


class _AfterTimm:
    """Import hook that registers our timm entry point once timm's models are loaded.

    It finds nothing new itself: the other finders find timm.

    It leaves ``sys.meta_path`` after the first success; a failed import of timm fails as it would without it.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _TIMM:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                self._register_after(spec)
                return spec
        return None

    def _register_after(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        execute = loader.exec_module  # type: ignore[union-attr]

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if module.__name__ == _TIMM and self in sys.meta_path:
                sys.meta_path.remove(self)
                importlib.import_module("nas.model.timm_entrypoint")

        # On this loader object alone; its class, which other modules share, stays as it is.
        loader.exec_module = exec_module  # type: ignore[union-attr, method-assign]


if _TIMM in sys.modules:
    importlib.import_module("nas.model.timm_entrypoint")
else:
    sys.meta_path.insert(0, _AfterTimm())
