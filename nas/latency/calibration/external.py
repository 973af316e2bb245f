"""Read latencies of whole networks that were measured on another device, and fit a predictor to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Final, cast

from nas.arch import zoo
from nas.arch.blocks import BLOCK_TYPES
from nas.arch.files import load_spec
from nas.arch.parts import HeadKind, HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, suggestion
from nas.core.progress import ProgressCallback
from nas.latency.device import Device
from nas.latency.predictors.base import LatencyPredictor
from nas.latency.predictors.csv_tables import CsvError, CsvRow, read_csv
from nas.latency.predictors.queue_model import QueuePredictor, fit_queue_predictor

NETWORK_COLUMNS: Final = ("network", "latency_ms")
# Of networks that are given as block strings, which say nothing of these.
BLOCK_STRING_COLUMNS: Final = ("stem_channels", "head_channels", "head_kind", "activation", "squeeze_excite", "classes")
_TIMM: Final = "timm/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """Networks and their latencies in ms on ``device``."""

    device: Device
    networks: tuple[tuple[ArchSpec, float], ...]


def fit_measurements(
    path: Path, *, bases: Sequence[LatencyPredictor] = (), progress: ProgressCallback | None = None
) -> QueuePredictor:
    """A predictor for the device of the file at ``path``; ``bases`` are predictors of other devices to learn from.

    Raises: NasError as ``read_measurements``, and for fewer than ten networks.
    """
    measured = read_measurements(path)
    try:
        return fit_queue_predictor(measured.device, measured.networks, bases=bases, progress=progress)
    except NasError as error:
        raise NasError(f"{path}: {error}") from None


def read_measurements(path: Path) -> Measurements:
    """The measurements in a file; its header is that of ``read_csv``, its columns are

    ``network``: a spec file (looked for beside this file), a name of the zoo, ``timm/NAME``, or block strings, blocks
    separated by ``+`` or blanks and stages by ``|``. ``latency_ms``. ``resolution_px``: the network's own if empty.
    For block strings also ``stem_channels`` (32; a 3x3 convolution of stride 2), ``head_channels`` (1280),
    ``head_kind`` (conv_pool), ``activation`` (relu), ``squeeze_excite`` (efficientnet or mobilenet_v3) and
    ``classes`` (1000). A network that stands there twice with one latency counts once.

    Raises: NasError naming file, line and what is wrong.
    """
    device, rows = read_csv(path, needed=NETWORK_COLUMNS, optional=("resolution_px", *BLOCK_STRING_COLUMNS))
    found: dict[str, tuple[ArchSpec, float, CsvRow]] = {}
    for row in rows:
        spec, latency_ms = _network(row, path.parent), row.latency_ms()
        _, known_ms, known = found.setdefault(spec.arch_id, (spec, latency_ms, row))
        if known_ms != latency_ms:
            raise row.error(
                f"{spec.name} at {spec.resolution_px} px takes {latency_ms:g} ms, but {known_ms:g} ms in line "
                f"{known.line}; keep one of them, or their median."
            )
    return Measurements(device=device, networks=tuple((spec, ms) for spec, ms, _ in found.values()))


def _network(row: CsvRow, folder: Path) -> ArchSpec:
    """The network of a row at its resolution."""
    text = row.text("network")
    strings = "|" in text or text.split("_")[0] in BLOCK_TYPES
    for column in BLOCK_STRING_COLUMNS:
        if not strings and column in row.cells:
            raise row.error(f"{column} is for networks given as block strings; {text!r} says it by itself.")
    try:
        spec = _from_strings(row, text) if strings else _named(text, folder)
        return replace(spec, resolution_px=row.whole("resolution_px", spec.resolution_px))
    except CsvError:
        raise
    except NasError as error:
        raise row.error(str(error)) from None


def _named(text: str, folder: Path) -> ArchSpec:
    """The network of a spec file, of timm, or of the zoo. Raises: NasError."""
    if text.startswith(_TIMM):
        return _from_timm(text.removeprefix(_TIMM))
    if text in zoo.names():
        return zoo.get(text)
    if Path(text).suffix in (".yaml", ".yml"):
        return load_spec(folder / Path(text).expanduser())
    raise NasError(
        f"network {text!r}: neither a spec file (.yaml), a published network, timm/NAME, nor block strings."
        f"{suggestion(text, zoo.names())}"
    )


def _from_timm(name: str) -> ArchSpec:
    """timm's network of that name. Raises: NasError."""
    try:
        spec: ArchSpec = import_module("nas.model.timm_import.network").timm_arch(name)
    except ImportError as error:
        raise NasError(f"timm/{name} cannot be read: {error.msg}.") from None
    return spec


def _from_strings(row: CsvRow, text: str) -> ArchSpec:
    """A network from block strings and the columns for what these do not say. Raises: NasError."""
    return ArchSpec.from_strings(
        f"line {row.line}",
        [stage.replace("+", " ").split() for stage in text.split("|")],
        stem=StemSpec(channels=row.whole("stem_channels", 32)),
        head=HeadSpec(
            channels=row.whole("head_channels", 1280),
            kind=cast(HeadKind, row.text("head_kind", "conv_pool")),
        ),
        activation=row.text("activation", "relu"),
        squeeze_excite=row.squeeze_excite(),
        classes=row.whole("classes", 1000),
    )
