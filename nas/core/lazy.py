"""Lazy exports of a package (PEP 562): importing it loads none of its modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, exports: Mapping[str, Sequence[str]], *, submodules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Build ``__getattr__`` and ``__dir__`` that import a name's module on first use.

    ``exports``: names by the module that defines them, relative to ``package``. ``submodules``: modules that are public
    themselves. Type checkers get the same names from imports, and detect unknown ones::

        if TYPE_CHECKING:
            from nas.data.images import ImageData
        else:
            __getattr__, __dir__ = lazy_exports(__name__, {"images": ["ImageData"]})

        __all__ = ["ImageData"]
    """
    module_of = {name: f"{package}.{module}" for module, names in exports.items() for name in names}

    def get_attribute(name: str) -> Any:
        if name in submodules:
            return import_module(f"{package}.{name}")
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        value = getattr(import_module(module_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of, *submodules})

    return get_attribute, list_names
