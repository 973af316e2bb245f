"""Results of a benchmark: rows by network, stored so that it can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.files import write_text_atomically
from nas.core.parsing import MAX_JSON_CHARACTERS, parse_json, read_text
from nas.core.statistics import binomial_error, paired_difference_error
from nas.core.validation import check_number
from nas.latency.device import MAX_MS, MIN_MS, Device

FLOAT: Final = "float32"
INT8: Final = "int8"
MIXED: Final = "mixed"  # int8, and float32 where int8 costs accuracy
BENCH_PRECISIONS: Final = (FLOAT, INT8, MIXED)
NO_REWRITE: Final = "none"
_FORMAT: Final = "nas.bench/1"
_MAX_BYTES: Final = 10**12
_MAX_IMAGES: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchAccuracy:
    """How many of ``images`` a form classifies ``correct``.

    ``lost``: images that float32 in the same runtime classifies correctly and this form does not, ``gained``: the other
    way round; None for float32 itself, and where it was not measured.
    """

    correct: int
    images: int
    lost: int | None = None
    gained: int | None = None

    def __post_init__(self) -> None:
        check_number("images", self.images, low=1, high=_MAX_IMAGES, whole=True)
        for name in ("correct", "lost", "gained"):
            check_number(name, getattr(self, name), low=0, high=self.images, whole=True, optional=name != "correct")

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy in [0, 1]."""
        return self.correct / self.images

    @property
    def standard_error(self) -> float:
        """Binomial standard error of ``accuracy``."""
        return binomial_error(self.accuracy, self.images)

    @property
    def changed(self) -> tuple[int, int] | None:
        """Images ``lost`` and ``gained``; None where they are unknown."""
        return None if self.lost is None or self.gained is None else (self.lost, self.gained)

    @property
    def change(self) -> float | None:
        """Accuracy minus that of float32; None where it is unknown."""
        return None if self.changed is None else (self.changed[1] - self.changed[0]) / self.images

    @property
    def change_error(self) -> float | None:
        """Standard error of ``change``."""
        return None if self.changed is None else paired_difference_error(*self.changed, self.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """A network in one form.

    ``precision``: of ``BENCH_PRECISIONS``. ``error_ms``: standard error of ``latency_ms``; ``spread_ms``: interquartile
    range of its runs. ``size_bytes``: of all its files. ``float_layers``: what stays float32 in ``mixed``.
    """

    runtime: str
    precision: str
    rewrite: str
    device: Device
    latency_ms: float
    error_ms: float
    spread_ms: float
    runs: int
    size_bytes: int
    accuracy: BenchAccuracy | None = None
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.precision not in BENCH_PRECISIONS:
            raise unknown_choice("precision", self.precision, BENCH_PRECISIONS)
        check_number("latency_ms", self.latency_ms, low=MIN_MS, high=MAX_MS)
        for name in ("error_ms", "spread_ms"):
            check_number(name, getattr(self, name), low=0, high=MAX_MS)
        check_number("runs", self.runs, low=1, whole=True)
        check_number("size_bytes", self.size_bytes, low=1, high=_MAX_BYTES, whole=True)

    @property
    def label(self) -> str:
        """The form in words: ``onnxruntime int8``."""
        return form_label(self.runtime, self.precision, self.rewrite)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """Rows of one network, measured in turns.

    ``key``: of the settings that they depend on. ``name``: of the network, ``given``: as the user named it.
    ``weights``: where they are from, "" for random ones. ``probe_ms``: what the speed probe took meanwhile.
    ``other_cores``: used by other programs meanwhile, None if unknown. ``ratio_errors[i][j]``: relative standard error
    of the latency of row i divided by that of row j. ``remarks``: what a user should know.
    """

    key: str
    name: str
    given: str
    arch_id: str
    resolution_px: int
    weights: str
    probe_ms: float
    other_cores: float | None
    rows: tuple[BenchRow, ...]
    ratio_errors: tuple[tuple[float, ...], ...]
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number("probe_ms", self.probe_ms, low=MIN_MS, high=MAX_MS)
        check_number("other_cores", self.other_cores, low=0, optional=True)
        if not self.rows or [len(errors) for errors in self.ratio_errors] != [len(self.rows)] * len(self.rows):
            raise NasError("ratio_errors: must have one row and one column for each of rows.")
        for errors in self.ratio_errors:
            for value in errors:
                check_number("ratio_errors", value, low=0)

    def at_speed(self, probe_ms: float) -> BenchResult:
        """The same at a speed of the machine at which the probe takes ``probe_ms``."""
        factor = probe_ms / self.probe_ms
        scaled = [
            replace(
                row,
                latency_ms=row.latency_ms * factor,
                error_ms=row.error_ms * factor,
                spread_ms=row.spread_ms * factor,
            )
            for row in self.rows
        ]
        return replace(self, rows=tuple(scaled), probe_ms=probe_ms)

    def ratio(self, row: int, base: int) -> tuple[float, float]:
        """Latency of a row divided by that of another, and its standard error."""
        ratio = self.rows[row].latency_ms / self.rows[base].latency_ms
        return ratio, ratio * self.ratio_errors[row][base]


def form_label(*words: str) -> str:
    """Runtime, precision and rewrite as words; ``none`` is left out."""
    return " ".join(word for word in words if word != NO_REWRITE)


def common_speed(results: Sequence[BenchResult]) -> list[BenchResult]:
    """``results`` at one speed of the machine, the median of their probes."""
    probe_ms = float(np.median([result.probe_ms for result in results]))
    return [result.at_speed(probe_ms) for result in results]


def write_bench(path: Path, results: Sequence[BenchResult]) -> None:
    """Write ``results`` as JSON. Raises: NasError."""
    data = {"format": _FORMAT, "networks": [asdict(result) for result in results]}
    write_text_atomically(path, json.dumps(data, indent=1) + "\n")


def read_bench(path: Path) -> list[BenchResult]:
    """Read what ``write_bench`` wrote; nothing if there is no such file.

    Raises: NasError naming the file and what is wrong in it.
    """
    try:
        text = read_text(path, max_characters=MAX_JSON_CHARACTERS)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file in UTF-8"
        raise NasError(f"{path}: cannot be read: {reason}; remove it to measure again.") from None
    try:
        data = parse_json(text)
        if not isinstance(data, Mapping) or data.get("format") != _FORMAT:
            raise NasError(f"format: must be {_FORMAT}.")
        return [
            _network(one, f"networks[{index}]") for index, one in enumerate(_list(data.get("networks"), "networks"))
        ]
    except NasError as error:
        raise NasError(f"{path}: {error} Remove the file to measure again.") from None


def _network(data: object, where: str) -> BenchResult:
    if not isinstance(data, Mapping):
        raise NasError(f"{where}: must be a mapping, not {quoted(data)}.")
    rows = [_row(one, f"{where}.rows[{index}]") for index, one in enumerate(_list(data.get("rows"), f"{where}.rows"))]
    errors = tuple(tuple(_list(row, f"{where}.ratio_errors")) for row in _list(data.get("ratio_errors"), where))
    found = {"rows": tuple(rows), "ratio_errors": errors, "remarks": _texts(data.get("remarks"), f"{where}.remarks")}
    return from_mapping(BenchResult, {**data, **found}, where)


def _row(data: object, where: str) -> BenchRow:
    if not isinstance(data, Mapping):
        raise NasError(f"{where}: must be a mapping, not {quoted(data)}.")
    accuracy = data.get("accuracy")
    found = {
        "device": Device.from_dict(data.get("device")),  # type: ignore[arg-type]
        "accuracy": None if accuracy is None else from_mapping(BenchAccuracy, accuracy, f"{where}.accuracy"),
        "float_layers": _texts(data.get("float_layers"), f"{where}.float_layers"),
    }
    return from_mapping(BenchRow, {**data, **found}, where)


def _texts(value: object, where: str) -> tuple[str, ...]:
    texts = _list(value, where)
    if not all(isinstance(text, str) for text in texts):
        raise NasError(f"{where}: must be a list of texts.")
    return tuple(texts)


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise NasError(f"{where}: must be a list, not {quoted(value)}.")
    return value
