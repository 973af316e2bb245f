"""A table of blocks that were timed one by one elsewhere: a network costs the sum of its entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from nas.arch.parts import SqueezeExcite
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.latency.device import Device
from nas.latency.predictors.base import LatencyEstimate
from nas.latency.predictors.block_pieces import Ops, Piece, pieces
from nas.latency.predictors.csv_tables import CsvError, CsvRow, read_csv

if TYPE_CHECKING:
    from nas.latency.predictors.held_out import HeldOutError

BLOCK_COLUMNS: Final = ("block", "in_channels", "input_px", "latency_ms")
OPTIONAL_BLOCK_COLUMNS: Final = ("activation", "squeeze_excite")
# Blocks timed alone begin with cold caches and end with a synchronisation, or the reverse: a guess.
_FACTOR: Final = 1.25
_SHOWN: Final = 5
_REMEDY: Final = "Measure them, or narrow the space to what the table covers."


class MissingEntries(NasError):
    """A table has no entry for blocks of a network; ``missing`` describes them."""

    def __init__(self, name: str, missing: Sequence[Piece]) -> None:
        self.missing = tuple(missing)
        super().__init__(
            f"network {name!r}: the latency table lacks {len(missing)} of its entries: {_listed(missing)}. {_REMEDY}"
        )


class BlockTable:
    """Latency as the sum of a stem's, blocks' and a head's entries, as ProxylessNAS and once-for-all have it.

    Two blocks share an entry if their operations are the same, however they are written. ``error`` is None: nothing
    says how far sums of parts are off on the device, and intervals are a guess.
    """

    kind: ClassVar[str] = "table"

    def __init__(self, *, device: Device, entries: Mapping[Piece, float]) -> None:
        self.device, self.entries = device, dict(entries)
        self.error: HeldOutError | None = None
        self._ms: dict[Ops, float] = {piece.ops: ms for piece, ms in self.entries.items()}

    def missing(self, spec: ArchSpec, resolution_px: int | None = None) -> list[Piece]:
        """The pieces of ``spec`` that the table has no entry for, each once."""
        absent = {piece.ops: piece for _, piece in pieces(spec, resolution_px) if piece.ops not in self._ms}
        return list(absent.values())

    def predict(self, spec: ArchSpec, resolution_px: int | None = None) -> LatencyEstimate:
        """Latency of ``spec`` at ``resolution_px`` (default: its own). Raises: MissingEntries."""
        latency_ms = 0.0
        for _, piece in pieces(spec, resolution_px):
            if piece.ops not in self._ms:
                raise MissingEntries(spec.name, self.missing(spec, resolution_px))
            latency_ms += self._ms[piece.ops]
        return LatencyEstimate(latency_ms=latency_ms, low_ms=latency_ms / _FACTOR, high_ms=latency_ms * _FACTOR)

    def predict_many(self, specs: Iterable[ArchSpec]) -> list[LatencyEstimate]:
        """Latencies at each spec's own resolution, in order. Raises: MissingEntries."""
        return [self.predict(spec) for spec in specs]

    def layer_ms(self, spec: ArchSpec) -> list[tuple[str, float]]:
        """(path, ms) of every operation in execution order; they sum to the predicted latency.

        A table knows blocks alone: within one, the time is dealt out by multiply-adds. Raises: MissingEntries.
        """
        self.predict(spec)
        shares = []
        for path, piece in pieces(spec):
            macs = sum(op.macs for op in piece.ops)
            for op in piece.ops:
                shares.append((f"{path}.{op.path}" if path else op.path, self._ms[piece.ops] * op.macs / macs))
        return shares

    def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> BlockTable:
        """Raises: NasError: whole networks say nothing of single entries."""
        raise NasError("latency=table holds what was measured elsewhere: it cannot learn from measurements here.")

    def to_dict(self) -> dict[str, Any]:
        """The table as plain data."""
        rows = [{**asdict(piece), "latency_ms": ms} for piece, ms in self.entries.items()]
        return {"kind": self.kind, "device": self.device.to_dict(), "rows": rows}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BlockTable:
        """The table that ``to_dict`` wrote. Raises: KeyError, TypeError or NasError for other data."""
        entries = {}
        for row in data["rows"]:
            given = {**row, "squeeze_excite": SqueezeExcite(**row["squeeze_excite"])}
            latency_ms = float(given.pop("latency_ms"))
            entries[Piece(**given)] = latency_ms
        return cls(device=Device.from_dict(data["device"]), entries=entries)


def missing_entries(table: BlockTable, specs: Iterable[ArchSpec]) -> Counter[Piece]:
    """Pieces that ``table`` lacks, with the number of ``specs`` that need each: what a search cannot price."""
    return Counter(piece for spec in specs for piece in table.missing(spec))


def check_covers(table: BlockTable, specs: Sequence[ArchSpec], space: str) -> None:
    """Refuse ``space`` if ``table`` lacks pieces of ``specs``, a sample of it; the most needed come first.

    Raises: NasError.
    """
    lacking = missing_entries(table, specs)
    if lacking:
        needed = {piece for spec in specs for _, piece in pieces(spec)}
        first = [piece for piece, _ in lacking.most_common()]
        raise NasError(
            f"space {space!r}: the latency table lacks {len(lacking)} of the {len(needed)} entries that "
            f"{len(specs)} sampled networks need, first {_listed(first)}. {_REMEDY}"
        )


def read_table(path: Path) -> BlockTable:
    """The table in a CSV file; its header is that of ``read_csv``, its columns are

    ``block``, ``in_channels``, ``input_px`` (see ``block_pieces.Piece``), ``latency_ms``, and, where a block string
    does not say it or has squeeze-excite, ``activation`` (relu) and ``squeeze_excite`` (efficientnet, or
    mobilenet_v3). An entry that stands there twice with one latency counts once.

    Raises: NasError naming file, line and what is wrong.
    """
    device, rows = read_csv(path, needed=BLOCK_COLUMNS, optional=OPTIONAL_BLOCK_COLUMNS)
    found: dict[Ops, tuple[Piece, float, CsvRow]] = {}
    for row in rows:
        piece, latency_ms = _piece(row), row.latency_ms()
        _, known_ms, known = found.setdefault(piece.ops, (piece, latency_ms, row))
        if known_ms != latency_ms:
            raise row.error(
                f"{piece} takes {latency_ms:g} ms, but {known_ms:g} ms in line {known.line}; keep one of them."
            )
    return BlockTable(device=device, entries={piece: ms for piece, ms, _ in found.values()})


def _listed(missing: Sequence[Piece]) -> str:
    hidden = len(missing) - _SHOWN
    return "; ".join(map(str, missing[:_SHOWN])) + (f"; and {hidden} more" if hidden > 0 else "")


def _piece(row: CsvRow) -> Piece:
    try:
        piece = Piece(
            block=row.text("block"),
            in_channels=row.whole("in_channels"),
            input_px=row.whole("input_px"),
            activation=row.text("activation", "relu"),
            squeeze_excite=row.squeeze_excite(),
        )
        _ = piece.ops  # a block that cannot be read is told with its line
    except CsvError:
        raise
    except NasError as error:
        raise row.error(str(error)) from None
    return piece
