"""Latency table of blocks that were timed one by one, for instance elsewhere.

A network costs the sum of its entries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from nas.arch.ops.network import PartSegments, network_segments
from nas.arch.parts import SqueezeExcite
from nas.arch.spec import ArchSpec
from nas.core.bounded_cache import BoundedCache
from nas.core.csv_rows import CsvError
from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError
from nas.core.validation import check_number
from nas.latency.device import MAX_MS, MIN_MS, Device
from nas.latency.predictors.base import LatencyEstimate
from nas.latency.predictors.block_pieces import Ops, Piece, pieces
from nas.latency.predictors.csv_tables import LatencyRow, read_csv

if TYPE_CHECKING:
    from nas.latency.predictors.held_out import HeldOutError

BLOCK_COLUMNS: Final = ("block", "in_channels", "input_px", "latency_ms")
OPTIONAL_BLOCK_COLUMNS: Final = ("activation", "squeeze_excite")
# A rough guess: blocks that are timed alone may pay for cold caches and a synchronisation, or for less than in place.
_FACTOR: Final = 1.25
_SHOWN: Final = 5
_CACHED: Final = 65536  # parts of networks
_REMEDY: Final = "Measure them, or narrow the space to what the table covers."


class MissingEntries(NasError):
    """Error for a network of which a table lacks entries.

    ``missing``: the pieces without an entry.
    """

    def __init__(self, name: str, missing: Sequence[Piece]) -> None:
        self.missing = tuple(missing)
        super().__init__(
            f"network {name!r}: the latency table lacks {len(missing)} of its entries: {_listed(missing)}. {_REMEDY}"
        )


class BlockTable:
    """Predictor that sums table entries of stem, blocks and head.

    This is the latency table of ProxylessNAS and once-for-all. ``entries``: ms by piece. Two blocks share an entry if
    their operations are equal, however they are written. ``error`` is None: how far sums of parts are off on the device
    is not known, and intervals are a guess.
    """

    kind: ClassVar[str] = "table"

    def __init__(self, *, device: Device, entries: Mapping[Piece, float]) -> None:
        self.device, self.entries = device, dict(entries)
        self.error: HeldOutError | None = None
        self._ms: dict[Ops, float] = {piece.ops: ms for piece, ms in self.entries.items()}
        self._part_ms: BoundedCache[PartSegments, float] = BoundedCache(_CACHED)

    def missing(self, spec: ArchSpec, resolution_px: int | None = None) -> list[Piece]:
        """Distinct pieces of ``spec`` without an entry in the table."""
        absent = {piece.ops: piece for _, piece in pieces(spec, resolution_px) if piece.ops not in self._ms}
        return list(absent.values())

    def predict(self, spec: ArchSpec, resolution_px: int | None = None) -> LatencyEstimate:
        """Latency of ``spec`` at ``resolution_px`` (default: its own).

        Raises: MissingEntries.
        """
        latency_ms = 0.0
        for part in network_segments(spec, resolution_px):
            part_ms = self._part_ms.get(part)
            if part_ms is None:
                ops = tuple(op._replace(scale="") for op in part.ops)  # a layer scale is part of its convolution
                if ops not in self._ms:
                    raise MissingEntries(spec.name, self.missing(spec, resolution_px))
                part_ms = self._part_ms.keep(part, self._ms[ops])
            latency_ms += part_ms
        return LatencyEstimate(latency_ms=latency_ms, low_ms=latency_ms / _FACTOR, high_ms=latency_ms * _FACTOR)

    def predict_many(self, specs: Iterable[ArchSpec]) -> list[LatencyEstimate]:
        """Latencies at each spec's own resolution, in order.

        Raises: MissingEntries.
        """
        return [self.predict(spec) for spec in specs]

    def layer_ms(self, spec: ArchSpec) -> list[tuple[str, float]]:
        """(path, ms) per operation in execution order; they sum to the prediction.

        A table only knows blocks: the time of a block is divided among its operations by multiply-adds.

        Raises: MissingEntries.
        """
        self.predict(spec)
        shares = []
        for path, piece in pieces(spec):
            macs = sum(op.macs for op in piece.ops)
            for op in piece.ops:
                shares.append((f"{path}.{op.path}" if path else op.path, self._ms[piece.ops] * op.macs / macs))
        return shares

    def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> BlockTable:
        """Unsupported: whole networks do not determine single entries.

        Raises: NasError, always.
        """
        raise NasError(
            "latency=table: a block table cannot learn from latencies of whole networks; set latency.refine=false."
        )

    def to_dict(self) -> dict[str, Any]:
        """The table as plain data."""
        rows = [{**asdict(piece), "latency_ms": ms} for piece, ms in self.entries.items()]
        return {"kind": self.kind, "device": self.device.to_dict(), "rows": rows}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BlockTable:
        """Table from the plain data of ``to_dict``.

        Raises: KeyError, TypeError or NasError for other data.
        """
        entries = {}
        for index, row in enumerate(data["rows"]):
            where, fields = f"rows[{index}]", dict(row)
            latency_ms = fields.pop("latency_ms")
            check_number(f"{where}.latency_ms", latency_ms, low=MIN_MS, high=MAX_MS)
            fields["squeeze_excite"] = from_mapping(SqueezeExcite, row["squeeze_excite"], f"{where}.squeeze_excite")
            piece = from_mapping(Piece, fields, where)
            try:
                _ = piece.ops  # parsed here, so that an error names the row
            except NasError as error:
                raise NasError(f"{where}: {error}") from None
            entries[piece] = latency_ms
        return cls(device=Device.from_dict(data["device"]), entries=entries)


def missing_entries(table: BlockTable, specs: Iterable[ArchSpec]) -> Counter[Piece]:
    """Pieces that ``table`` lacks, with the number of ``specs`` that need each."""
    return Counter(piece for spec in specs for piece in table.missing(spec))


def check_covers(table: BlockTable, specs: Sequence[ArchSpec], space: str) -> None:
    """Validate that ``table`` has all pieces of ``specs``, a sample of ``space``.

    Raises: NasError naming missing pieces, those that most networks need first.
    """
    missing = missing_entries(table, specs)
    if missing:
        needed = {piece for spec in specs for _, piece in pieces(spec)}
        by_need = [piece for piece, _ in missing.most_common()]
        raise NasError(
            f"space {space!r}: the latency table lacks {len(missing)} of the {len(needed)} entries that "
            f"{len(specs)} sampled networks need, first {_listed(by_need)}. {_REMEDY}"
        )


def read_table(path: Path) -> BlockTable:
    """Block table from a CSV file with the header of ``read_csv``.

    Columns: ``block``, ``in_channels``, ``input_px`` (see ``block_pieces.Piece``), ``latency_ms``, and, where a block
    string does not name it or has squeeze-excite, ``activation`` (default relu) and ``squeeze_excite`` (efficientnet,
    the default, or mobilenet_v3). Duplicate entries with equal latency count once.

    Raises: NasError naming file, line and mistake.
    """
    device, rows = read_csv(path, required=BLOCK_COLUMNS, optional=OPTIONAL_BLOCK_COLUMNS)
    entries: dict[Ops, tuple[Piece, float, LatencyRow]] = {}
    for row in rows:
        piece, latency_ms = _piece(row), row.latency_ms()
        _, first_ms, first_row = entries.setdefault(piece.ops, (piece, latency_ms, row))
        if first_ms != latency_ms:
            raise row.error(
                f"{piece} takes {latency_ms:g} ms, but {first_ms:g} ms in line {first_row.line}; keep one of them."
            )
    return BlockTable(device=device, entries={piece: ms for piece, ms, _ in entries.values()})


def _listed(missing: Sequence[Piece]) -> str:
    """The first of ``missing``, and the number of the others."""
    hidden = len(missing) - _SHOWN
    return "; ".join(map(str, missing[:_SHOWN])) + (f"; and {hidden} more" if hidden > 0 else "")


def _piece(row: LatencyRow) -> Piece:
    """Piece of a row. Raises: CsvError for one that cannot be parsed."""
    try:
        piece = Piece(
            block=row.text("block"),
            in_channels=row.positive_int("in_channels"),
            input_px=row.positive_int("input_px"),
            activation=row.text("activation", "relu"),
            squeeze_excite=row.squeeze_excite(),
        )
        _ = piece.ops  # parsed here, so that an error names the line
    except CsvError:
        raise
    except NasError as error:
        raise row.error(str(error)) from None
    return piece
