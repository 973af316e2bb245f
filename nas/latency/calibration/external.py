"""Predictors from latencies of whole networks that were measured elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Final, cast

from nas.arch import zoo
from nas.arch.files import load_spec
from nas.arch.notation import first_in_channels, is_block_string, split_stages
from nas.arch.parts import HeadKind, HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.csv_rows import CsvError
from nas.core.errors import NasError, suggestion
from nas.core.progress import ProgressCallback
from nas.latency.calibration.whole_networks import WholeNetworkPredictor, fit_whole_networks
from nas.latency.device import Device
from nas.latency.predictors.base import LatencyPredictor
from nas.latency.predictors.csv_tables import LatencyRow, read_csv

NETWORK_COLUMNS: Final = ("network", "latency_ms")
# Columns of what block strings do not define.
BLOCK_STRING_COLUMNS: Final = ("stem_channels", "head_channels", "head_kind", "activation", "squeeze_excite", "classes")
_TIMM: Final = "timm/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """Networks and their latencies in ms on ``device``."""

    device: Device
    networks: tuple[tuple[ArchSpec, float], ...]


def fit_measurements(
    path: Path, *, bases: Sequence[LatencyPredictor] = (), progress: ProgressCallback | None = None
) -> WholeNetworkPredictor:
    """Fit a predictor to the CSV file at ``path``, for the device that it names.

    ``bases``: predictors of other devices to learn from. ``progress(done, total)``: called with counts of fits.

    Raises: NasError as ``read_measurements``, and for fewer than ten networks.
    """
    measured = read_measurements(path)
    try:
        return fit_whole_networks(measured.device, measured.networks, bases=bases, progress=progress)
    except NasError as error:
        raise NasError(f"{path}: {error}") from None


def read_measurements(path: Path) -> Measurements:
    """Measurements from a CSV file with the header of ``read_csv``.

    Columns: ``network``: a spec file (relative to the folder of the CSV file), a name of the zoo, ``timm/NAME``, or
    block strings (``notation.split_stages``). ``latency_ms``. ``resolution_px``: default is the network's own. For
    block strings also ``stem_channels`` (default 32, or what they say; a 3x3 convolution of stride 2),
    ``head_channels`` (1280), ``head_kind`` (conv_pool), ``activation`` (relu), ``squeeze_excite`` (efficientnet or
    mobilenet_v3) and ``classes`` (1000). Each network is listed once.

    Raises: NasError naming file, line and mistake.
    """
    device, rows = read_csv(path, required=NETWORK_COLUMNS, optional=("resolution_px", *BLOCK_STRING_COLUMNS))
    networks: dict[str, tuple[ArchSpec, float, LatencyRow]] = {}
    for row in rows:
        spec, latency_ms = _network(row, path.parent), row.latency_ms()
        _, first_ms, first_row = networks.setdefault(spec.arch_id, (spec, latency_ms, row))
        if first_row is not row:
            raise row.error(
                f"{spec.name} at {spec.resolution_px} px takes {latency_ms:g} ms, but is listed in line "
                f"{first_row.line} too, with {first_ms:g} ms; keep one of them, or their median."
            )
    return Measurements(device=device, networks=tuple((spec, ms) for spec, ms, _ in networks.values()))


def _network(row: LatencyRow, folder: Path) -> ArchSpec:
    """Network of a row, at the row's resolution. Raises: CsvError."""
    text = row.text("network")
    strings = "|" in text or is_block_string(text)
    for column in BLOCK_STRING_COLUMNS:
        if not strings and column in row.cells:
            raise row.error(
                f"{column} is for networks given as block strings; {text!r} defines its own, leave the cell empty."
            )
    try:
        spec = _from_strings(row, text) if strings else _named(text, folder)
        return replace(spec, resolution_px=row.positive_int("resolution_px", spec.resolution_px))
    except CsvError:
        raise
    except NasError as error:
        raise row.error(str(error)) from None


def _named(text: str, folder: Path) -> ArchSpec:
    """Network of a spec file, of timm, or of the zoo. Raises: NasError."""
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
    """Network of that name in timm. Raises: NasError."""
    try:
        spec: ArchSpec = import_module("nas.model.timm_import.network").timm_arch(name)
    except ImportError as error:
        raise NasError(f"network timm/{name}: cannot be imported: {error.msg}; pip install timm.") from None
    return spec


def _from_strings(row: LatencyRow, text: str) -> ArchSpec:
    """Network from block strings, and columns for what these do not define.

    Raises: NasError.
    """
    stages = split_stages(text)
    return ArchSpec.from_strings(
        f"line {row.line}",
        stages,
        stem=StemSpec(channels=row.positive_int("stem_channels", first_in_channels(stages) or 32)),
        head=HeadSpec(
            channels=row.positive_int("head_channels", 1280),
            kind=cast(HeadKind, row.text("head_kind", "conv_pool")),
        ),
        activation=row.text("activation", "relu"),
        squeeze_excite=row.squeeze_excite(),
        classes=row.positive_int("classes", 1000),
    )
