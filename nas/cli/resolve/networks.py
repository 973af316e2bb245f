"""Resolution of ``arch=``: a published network, one of timm's, a spec file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nas.arch import zoo
from nas.arch.files import load_spec
from nas.arch.spec import ArchSpec
from nas.cli.app import import_heavy
from nas.cli.help_layout import paragraph
from nas.core.errors import NasError, suggestion

TIMM_PREFIX: Final = "timm/"


def resolve_arch(name: object, field: str = "arch") -> ArchSpec:
    """Resolve ``arch=``: a name of the zoo, ``timm/NAME``, or a spec file's path.

    ``field``: the setting's name, for errors.

    Raises: NasError that lists the accepted forms.
    """
    if not name:
        raise NasError(
            f"which network? Add {field}= with a published network such as mixnet_s, timm/NAME, or a spec file; "
            "--help lists them."
        )
    text = str(name)
    if text in zoo.names():
        return zoo.get(text)
    if text.startswith(TIMM_PREFIX):
        arch: ArchSpec = import_heavy("nas.model.timm_import.network").timm_arch(text.removeprefix(TIMM_PREFIX))
        return arch
    if is_spec_file(text):
        return load_spec(text)
    near = suggestion(text, zoo.names())
    raise NasError(f"{field} {text!r}: neither a published network nor timm/NAME nor a .yaml spec file.{near}")


def is_network(text: str) -> bool:
    """Whether ``text`` has the form of a network's name or path; it may not exist."""
    return text in zoo.names() or text.startswith(TIMM_PREFIX) or is_spec_file(text)


def is_spec_file(text: str) -> bool:
    """Whether ``text`` names a spec file, judged without reading it."""
    named = text not in zoo.names() and not text.startswith(TIMM_PREFIX)
    return named and (Path(text).suffix in (".yaml", ".yml") or Path(text).is_file())


def known_networks() -> str:
    """Help text of the networks that ``arch=`` accepts by name."""
    text = f"Networks: {', '.join(zoo.names())}; timm/NAME for any of timm's EfficientNet and MobileNet families"
    return paragraph(text)
