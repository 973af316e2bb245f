"""Table columns of a search: trials, winners, latency agreement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from operator import attrgetter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Protocol

from nas.arch.heads.task_scores import TASK_SCORES, TaskScore
from nas.core.formatting import MISSING, decimal, interval, percent_with_error
from nas.reporting.columns import Column, Row, csv_table, percent_number, select
from nas.study.trial_record import Outcome, TrialRecord, score_of

if TYPE_CHECKING:
    from nas.analysis.latency_agreement import LatencyPair

_TENTHS: Final = partial(decimal, digits=1)
_THOUSANDTHS: Final = partial(decimal, digits=3)
_ESTIMATED: Final = ("estimated_accuracy", "estimate_error", "role")
_NOT_IN_CSV: Final = (
    "genotype", "scores", "metrics", "class_correct", "class_images", "class_scores", "class_errors",
    "fine_tuning", "task",
)  # fmt: skip
_CSV_NAMES: Final = (*(item.name for item in fields(TrialRecord) if item.name not in _NOT_IN_CSV), "class_accuracies")


def _record_column(name: str, heading: str, **options: Any) -> Column[TrialRecord]:
    return Column(name=name, heading=heading, value=attrgetter(name), **options)


def _fine_tuning(*attributes: str) -> Callable[[TrialRecord], Any]:
    """A function from a record to attributes of its fine-tuning; None without one."""
    value = attrgetter(*(f"fine_tuning.{name}" for name in attributes))
    return lambda row: None if row.fine_tuning is None else value(row)


def _with_error_text(both: tuple[float | None, float | None] | None) -> str:
    return percent_with_error(*both) or MISSING if both else MISSING


def _fine_tuning_columns(name: str, heading: str, accuracy: str, error: str, note: str) -> list[Column[TrialRecord]]:
    """Columns of an accuracy of fine-tuning, its standard error, and both."""
    percentage: Mapping[str, Any] = {"unit": "%", "text": percent_number}
    return [
        Column(name=f"{name}_accuracy", heading=heading, value=_fine_tuning(accuracy), **percentage),
        Column(name=f"{name}_error", heading="± error", value=_fine_tuning(error), **percentage),
        Column(
            name=f"{name}_with_error",
            heading=heading,
            unit="%",
            note=note,
            value=_fine_tuning(accuracy, error),
            text=_with_error_text,
            wraps=False,
        ),
    ]


def _ends_text(ends: tuple[float | None, float | None]) -> str:
    return interval(*ends)


def _class_accuracies(row: TrialRecord) -> str:
    """Accuracies by class in label order, as one CSV cell: fractions and spaces."""
    return " ".join("nan" if value is None else f"{value:.4g}" for value in row.class_accuracies)


RECORD_COLUMNS: Final[tuple[Column[TrialRecord], ...]] = (
    Column(name="number", heading="trial", value=attrgetter("trial")),
    _record_column("outcome", "outcome", align="left"),
    _record_column("arch_id", "network or reason", align="left"),
    _record_column("accuracy", "accuracy", unit="%", text=percent_number),
    _record_column("standard_error", "± error", unit="%", text=percent_number),
    Column(
        name="accuracy_with_error",
        heading="accuracy",
        unit="%",
        value=attrgetter("accuracy", "standard_error"),
        text=_with_error_text,
        wraps=False,
    ),
    _record_column("estimated_accuracy", "estimate", unit="%", text=percent_number),
    _record_column("estimate_error", "± error of estimate", unit="%", text=percent_number),
    Column(
        name="estimate_with_error",
        heading="estimate",
        unit="%",
        note="accuracy that a training is expected to give, by the network's scores, with its standard error",
        value=attrgetter("estimated_accuracy", "estimate_error"),
        text=_with_error_text,
        wraps=False,
    ),
    *_fine_tuning_columns(
        "inherited",
        "inherited",
        "inherited_accuracy",
        "inherited_error",
        "accuracy of the proxy with weights inherited from the supernet, before it is trained",
    ),
    *_fine_tuning_columns(
        "fine_tuned",
        "fine-tuned",
        "accuracy",
        "standard_error",
        "accuracy of the proxy, trained on from inherited weights; that of the column accuracy is from scratch",
    ),
    _record_column("val_loss", "validation loss", unit="nats", text=_THOUSANDTHS),
    _record_column("role", "role", align="left"),
    _record_column("majority_accuracy", "largest class", unit="%", text=percent_number),
    Column(name="class_accuracies", heading="accuracy by class", value=_class_accuracies, align="left"),
    _record_column("latency_ms", "latency", unit="ms", text=decimal),
    _record_column("latency_low_ms", "90% interval from", unit="ms", text=decimal),
    _record_column("latency_high_ms", "90% interval to", unit="ms", text=decimal),
    Column(
        name="latency_interval_ms",
        heading="90% interval",
        unit="ms",
        value=attrgetter("latency_low_ms", "latency_high_ms"),
        text=_ends_text,
    ),
    _record_column("predicted_ms", "predicted", unit="ms", text=decimal),
    _record_column("measured_ms", "measured", unit="ms", text=decimal),
    _record_column("measured_spread_ms", "spread", unit="ms", text=decimal),
    _record_column("measured_error_ms", "± error", unit="ms", text=_THOUSANDTHS),
    _record_column("macs_m", "MACs", unit="M", text=decimal),
    _record_column("params_m", "params", unit="M", text=_THOUSANDTHS),
    _record_column("peak_memory_mb", "memory", unit="MB", text=decimal),
    _record_column("cpu_s", "CPU", unit="s", text=_TENTHS),
    _record_column("reason", "reason", align="left"),
    _record_column("blocks", "blocks", align="left"),
)


def _pair_column(name: str, *attributes: str) -> Column[LatencyPair]:
    """The record's column ``name``, with its value from the ``attributes`` of a pair."""
    (column,) = select(RECORD_COLUMNS, name)
    return replace(column, value=attrgetter(*attributes))  # type: ignore[return-value]


AGREEMENT_COLUMNS: Final[tuple[Column[LatencyPair], ...]] = (
    Column(name="name", heading="network", value=attrgetter("name"), align="left"),
    _pair_column("predicted_ms", "predicted_ms"),
    _pair_column("latency_interval_ms", "low_ms", "high_ms"),
    _pair_column("measured_ms", "measured_ms"),
    _pair_column("measured_error_ms", "error_ms"),
    _pair_column("measured_spread_ms", "spread_ms"),
    Column(name="ratio", heading="ratio", note="predicted / measured", value=attrgetter("ratio"), text=_THOUSANDTHS),
)


class WinnerRow(Protocol):
    """Interface of a row in the table of winners, of a winner or of a baseline.

    ``spec_file`` is None where the spec is not written. ``epochs``: of its training, None if they are not known.
    """

    @property
    def label(self) -> str: ...
    @property
    def row(self) -> TrialRecord: ...
    @property
    def spec_file(self) -> str | None: ...
    @property
    def published(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def epochs(self) -> int | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRecord:
    """A winner known from its trial record alone.

    No network is decoded and no file is looked for.
    """

    label: str
    row: TrialRecord
    spec_file: str | None = None
    published: str = ""
    group: str = ""
    epochs: int | None = None


def winner_label(index: int) -> str:
    """Label of the winner at ``index``, counted from 0."""
    return f"W{index + 1}"


def reward_column(reward: Mapping[int, float] | None) -> tuple[Column[TrialRecord], ...]:
    """Column of MnasNet's ``reward`` by trial number; none without a reward.

    Searches with two objectives have no reward.
    """
    if reward is None:
        return ()
    rewards = reward
    text = partial(decimal, digits=4)
    return (Column(name="reward", heading="reward", value=lambda row: rewards.get(row.number), text=text),)


def candidate_columns(
    reward: Mapping[int, float] | None = None,
    *,
    has_estimates: bool = False,
    score: TaskScore = TASK_SCORES["classification"],
) -> tuple[Column[TrialRecord], ...]:
    """Columns of the table of all candidates of a search.

    ``score``: what accuracies are.
    """
    accuracies = ("accuracy_with_error", *(["estimate_with_error"] if has_estimates else []))
    figures = ("number", *accuracies, "latency_ms", "macs_m", "params_m", "peak_memory_mb", "cpu_s")
    return (
        *named_columns(select(RECORD_COLUMNS, *figures), score),
        *reward_column(reward),
        *select(RECORD_COLUMNS, "outcome", "arch_id"),
    )


def winner_columns(reward: Mapping[int, float] | None = None) -> tuple[Column[WinnerRow], ...]:
    """All available columns of the table of winners.

    With ``reward`` where the search had one.
    """

    def record_of(winner: WinnerRow) -> TrialRecord:
        return winner.row

    figures = (
        "accuracy", "standard_error", "accuracy_with_error", "estimated_accuracy", "estimate_error",
        "estimate_with_error", "inherited_accuracy", "inherited_error", "inherited_with_error",
        "fine_tuned_accuracy", "fine_tuned_error", "fine_tuned_with_error", "val_loss", "majority_accuracy",
        "class_accuracies", "latency_ms", "predicted_ms", "latency_interval_ms", "measured_ms",
        "measured_spread_ms", "measured_error_ms", "macs_m", "params_m", "peak_memory_mb", "cpu_s",
    )  # fmt: skip
    (number,) = select(RECORD_COLUMNS, "number")
    return (
        Column(name="name", heading="", value=lambda winner: winner.label, align="left"),
        Column(
            name="published",
            heading="network",
            note="the published network that a winner is; a baseline as study.baselines names it",
            value=lambda winner: winner.published,
            align="left",
        ),
        Column(
            name="epochs",
            heading="epochs",
            note="of a winner's proxy with random first weights, of a baseline with pretrained ones",
            value=lambda winner: winner.epochs,
        ),
        replace(number, name="trial").of(record_of),
        Column(
            name="group",
            heading="group",
            note="winners of one group are statistically indistinguishable in accuracy, the fastest first",
            value=lambda winner: winner.group,
        ),
        *(column.of(record_of) for column in reward_column(reward)),
        *(column.of(record_of) for column in select(RECORD_COLUMNS, "arch_id", *figures)),
        Column(name="files", heading="files", value=_spec_stem, align="left"),
    )


def select_winner_columns(reward: Mapping[int, float] | None, *names: str) -> tuple[Column[WinnerRow], ...]:
    """The columns ``names`` of ``winner_columns``.

    ``reward`` is left out where the search had none.
    """
    return select(winner_columns(reward), *(name for name in names if name != "reward" or reward is not None))


def shown_winner_columns(
    winners: Iterable[WinnerRow], reward: Mapping[int, float] | None, *names: str
) -> tuple[Column[WinnerRow], ...]:
    """``select_winner_columns`` without names and figures that no winner has.

    Epochs and CPU time are for comparing with baselines.
    """
    listed = list(winners)
    tuned = ("inherited_with_error", "fine_tuned_with_error")
    absent = {
        *(() if any(winner.published for winner in listed) else ("published",)),
        *(() if any(winner.row.estimated_accuracy is not None for winner in listed) else ("estimate_with_error",)),
        *(() if any(winner.row.fine_tuning for winner in listed) else tuned),
        *(() if any(winner.row.outcome is Outcome.BASELINE for winner in listed) else ("epochs", "cpu_s")),
    }
    chosen = select_winner_columns(reward, *(name for name in names if name not in absent))
    return named_columns(chosen, score_of(winner.row for winner in listed))


def named_columns(columns: Iterable[Column[Row]], score: TaskScore) -> tuple[Column[Row], ...]:
    """``columns`` whose headings and notes speak of ``score`` instead of accuracy."""
    return tuple(
        replace(column, heading=score.named(column.heading), note=score.named(column.note)) for column in columns
    )


def records_to_csv(rows: Iterable[TrialRecord]) -> str:
    """Text of ``trials.csv``: a header and a line per row, of a trial or a baseline.

    Further figures of trainings follow in columns such as ``metric_map50``, scores in columns such as ``score_naswot``,
    then the genotype in columns named after its dotted names. Columns of estimates are left out where no row has one.
    """
    rows = list(rows)
    has_estimates = any(row.role or row.estimated_accuracy is not None for row in rows)
    names = [name for name in _CSV_NAMES if has_estimates or name not in _ESTIMATED]
    scores = dict.fromkeys(name for row in rows for name in row.scores)
    scored = (Column(name=f"score_{name}", heading=name, value=partial(_score, name)) for name in scores)
    metrics = dict.fromkeys(name for row in rows for name in row.metrics)
    measured = (Column(name=f"metric_{name}", heading=name, value=partial(_metric, name)) for name in metrics)
    choice_names = sorted({name for row in rows for name in row.genotype})
    choices = (Column(name=name, heading=name, value=partial(_choice, name)) for name in choice_names)
    return csv_table((*select(RECORD_COLUMNS, *names), *measured, *scored, *choices), rows)


def _choice(name: str, row: TrialRecord) -> Any:
    return row.genotype.get(name)


def _score(name: str, row: TrialRecord) -> float | None:
    return row.scores.get(name)


def _metric(name: str, row: TrialRecord) -> float | None:
    return row.metrics.get(name)


def _spec_stem(winner: WinnerRow) -> str:
    return PurePosixPath(winner.spec_file or "").stem
