"""Resolution of ``arch=``: a published network, timm's, a spec file, blocks."""

from __future__ import annotations

from pathlib import Path

from nas.arch import zoo
from nas.arch.files import load_spec
from nas.arch.notation import first_in_channels, is_block_string, split_stages
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.cli.app import import_heavy
from nas.cli.help_layout import paragraph
from nas.core.errors import NasError, SpecError, suggestion
from nas.model.weights.files import TIMM_PREFIX


def resolve_arch(name: object, field: str = "arch") -> ArchSpec:
    """Resolve ``arch=``: a name of the zoo, ``timm/NAME``, a spec file, block strings.

    ``field``: the setting's name, for errors. Block strings (``notation.split_stages``) get a stem of 32 channels, or
    of those that they say, a head of 1280 and ReLU; for others write a spec file.

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
        arch: ArchSpec = import_heavy("nas.model.timm_import.network").timm_arch(text.removeprefix(TIMM_PREFIX), field)
        return arch
    if is_spec_file(text):
        return load_spec(text)
    if is_block_string(text):
        return _from_strings(text, field)
    near = suggestion(text, zoo.names())
    raise NasError(
        f"{field} {text!r}: neither a published network nor timm/NAME nor a .yaml spec file nor block strings.{near}"
    )


def _from_strings(text: str, field: str) -> ArchSpec:
    """Network of block strings. Raises: NasError naming the string."""
    try:
        stages = split_stages(text)
        stem = StemSpec(channels=first_in_channels(stages) or 32)
        return ArchSpec.from_strings("block_strings", stages, stem=stem, head=HeadSpec(channels=1280))
    except SpecError as error:
        raise SpecError(f"{field}: {error}") from None


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
