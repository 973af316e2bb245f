"""nas: architecture search and compound scaling for mobile convolutional networks.

Importing it makes ``timm.create_model("nas_arch", spec=...)`` known, before or after timm is imported, and loads
neither timm nor torch: commands must answer in a second.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

__version__ = "0.1.0"

_TIMM = "timm.models"


class _AfterTimm:
    """Import hook that registers our timm entry point once timm.models is loaded.

    It finds no modules of its own: the other finders locate timm's.

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
