"""CSV file of evaluated networks, such as the ``trials.csv`` of another search.

Errors name file, line and column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.arch import zoo
from nas.arch.files import load_spec
from nas.arch.spec import ArchSpec
from nas.core.csv_rows import CsvError, CsvRow, parse_csv_rows, read_csv_records
from nas.core.errors import NasError, quoted, suggestion
from nas.methods.search.trials.evaluations import (
    ACCURACY_DIGITS,
    ESTIMATED_MARK,
    MAX_EVALUATIONS,
    EvaluationList,
    PriorEvaluation,
    estimated_note,
)
from nas.methods.search.trials.network_encoding import NetworkEncoder, NotInSpaceError
from nas.study.trial_record import Outcome

if TYPE_CHECKING:
    from nas.study.candidates import Space

_NETWORK: Final = ("blocks", "spec")
_OPTIONAL: Final = (*_NETWORK, "standard_error", "source")
# Outcomes of trials whose networks were evaluated, with the columns of accuracy and standard error.
_EVALUATED: Final = {
    Outcome.TRAINED.value: ("accuracy", "standard_error"),
    Outcome.SCORED.value: ("estimated_accuracy", "estimate_error"),
}
_MAX_CHARACTERS: Final = 64_000_000  # a row of a search among 68 choices has 1,200
_MAX_ROWS: Final = 100_000
_MAX_SOURCE: Final = 100  # characters
_TRUTHS: Final = {"true": True, "false": False}


def read_evaluated_file(path: Path, space: Space) -> EvaluationList:
    """Evaluations of networks of ``space`` from the CSV file at ``path``.

    Columns: ``accuracy`` in [0, 1]; the network as ``blocks`` (block strings), as ``spec`` (a spec file, relative to
    the folder of the CSV file, or the name of a published network), or by the space's choices, one column each. A
    column of choices also completes ``blocks``, see ``NetworkEncoder``. Optional: ``standard_error``, ``source`` (else
    the file's name, shortened if it is long). Other columns are ignored, and of a file of trials, with a column
    ``outcome``, all rows but those of trained and scored networks. Repeated networks are repeated evaluations.

    Raises: NasError naming file, line and mistake.
    """
    try:
        return _read(path, space)
    except NasError as error:
        raise NasError(f"study.evaluated: {error}") from None


def _read(path: Path, space: Space) -> EvaluationList:
    records = [record for record in read_csv_records(path, max_characters=_MAX_CHARACTERS) if not record.is_comment]
    rows = parse_csv_rows(
        path,
        records,
        CsvRow,
        required=("accuracy",),
        optional=_OPTIONAL,
        others=True,
        number="accuracy",
        max_rows=_MAX_ROWS,
    )
    if not any(name in records[0].cells for name in (*_NETWORK, *space.parameters)):
        raise NasError(
            f"{path}, line {records[0].line}: no column says what the networks are; add blocks (block strings) or spec "
            "(spec files, names of published networks)."
        )
    used = [row for row in rows if _outcome(row) in _EVALUATED]
    if not used:
        raise NasError(f"{path}: contains no evaluated network{_left_out(rows)}; add rows with an accuracy.")
    if len(used) > MAX_EVALUATIONS:
        raise NasError(f"{path}: {len(used):,} evaluated networks; keep at most {MAX_EVALUATIONS:,}.")
    name = path.name if len(path.name) <= _MAX_SOURCE else f"{path.name[: _MAX_SOURCE - 3]}..."
    reader = _RowReader(folder=path.parent, name=name, choices=space.parameters, encoder=NetworkEncoder(space))
    evaluations = tuple(map(reader.read, used))
    return EvaluationList(str(path), evaluations, estimated_note(evaluations))


def _outcome(row: CsvRow) -> str:
    """Outcome of the trial in ``row``; trained if it is no trial. Raises: CsvError."""
    outcome = row.cells.get("outcome", Outcome.TRAINED.value)
    if outcome not in list(Outcome):
        raise row.cell_error("outcome", f"must be one of {', '.join(Outcome)}, or empty")
    return outcome


def _left_out(rows: Sequence[CsvRow]) -> str:
    """Why no row of a file of trials counts, by outcome."""
    counts = Counter(map(_outcome, rows))
    return f" ({', '.join(f'{count} {outcome}' for outcome, count in counts.items())})" if counts else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowReader:
    """Reads the evaluation of a row in a file in ``folder``.

    ``name``: source of the rows that have none. ``choices``: values of each choice of the space. Errors of all its
    methods name the row's line.
    """

    folder: Path
    name: str
    choices: Mapping[str, tuple[Any, ...]]
    encoder: NetworkEncoder

    def read(self, row: CsvRow) -> PriorEvaluation:
        """Evaluation of ``row``. Raises: CsvError."""
        outcome = _outcome(row)
        accuracy, error = _EVALUATED[outcome]
        source = row.cells.get("source", self.name)
        if len(source) > _MAX_SOURCE:
            raise row.cell_error("source", f"must have at most {_MAX_SOURCE} characters")
        return PriorEvaluation(
            accuracy=_fraction(row, accuracy),
            standard_error=_fraction(row, error) if error in row.cells else None,
            source=source + (ESTIMATED_MARK if outcome == Outcome.SCORED else ""),
            genotype=self._genotype(row),
        )

    def _genotype(self, row: CsvRow) -> dict[str, Any]:
        try:
            genotype = self._encoded(row)
            self.encoder.check_fixed(genotype, row.cells)
            return genotype
        except CsvError:
            raise
        except NotInSpaceError as error:
            raise row.error(f"{error} Leave the row out, or search a space that contains its network.") from None
        except NasError as error:
            raise row.error(str(error)) from None

    def _encoded(self, row: CsvRow) -> dict[str, Any]:
        """Genotype of the network in ``row``. Raises: NasError."""
        blocks, spec = (row.cells.get(name, "") for name in _NETWORK)
        choices = {name: self._choice(row, name) for name in self.choices if name in row.cells}
        if blocks and spec:
            raise NasError("has both blocks and spec; leave one of them empty.")
        if spec:
            return self.encoder.of_spec(self._named(spec), choices)
        if choices and len(choices) == len(self.choices):
            return self.encoder.of_choices(choices, blocks)
        if not blocks:
            raise NasError("blocks is missing, and spec, either of which says what the network is.")
        return self.encoder.of_blocks(blocks, choices)

    def _named(self, text: str) -> ArchSpec:
        """Network of a spec file, or of the zoo. Raises: NasError."""
        if text in zoo.names():
            return zoo.get(text)
        if Path(text).suffix in (".yaml", ".yml"):
            return load_spec(self.folder / Path(text).expanduser())
        raise NasError(
            f"spec {quoted(text)}: neither a spec file (.yaml) nor a published network.{suggestion(text, zoo.names())}"
        )

    def _choice(self, row: CsvRow, name: str) -> Any:
        """Value of the choice ``name``, however a spreadsheet has written it."""
        text = row.text(name)
        for value in self.choices[name]:
            if text == str(value) or (isinstance(value, bool) and _TRUTHS.get(text.lower()) is value):
                return value
        number = row.number(name)
        return next((value for value in self.choices[name] if type(value) in (int, float) and value == number), text)


def _fraction(row: CsvRow, column: str) -> float:
    """Cell of ``column``, a number in [0, 1]. Raises: CsvError."""
    value = row.number(column)
    if 0 <= value <= 1:
        return round(value, ACCURACY_DIGITS)
    remedy = "; divide percents by 100" if 1 < value <= 100 else ""
    what = "accuracies are" if "error" not in column else "standard errors of accuracies are"
    raise row.cell_error(column, f"{what} in [0, 1]{remedy}")
