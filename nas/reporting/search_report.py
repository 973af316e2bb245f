"""``report.html``: the self-contained report page of a search.

One file that opens offline and fetches nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

from nas.analysis.estimator_check import EstimatorCheck
from nas.analysis.history import Curve, FrontProgress
from nas.analysis.latency_agreement import LatencyAgreement, latency_agreement, latency_pair, limit_warning
from nas.analysis.proxy_validation import LongerTraining
from nas.analysis.significance import SIGNIFICANCE_LEVEL
from nas.analysis.surrogate import ModelSummary
from nas.arch.complexity import Complexity, complexity
from nas.arch.heads import latency_scope
from nas.arch.heads.task_scores import METRIC_NAMES, TASK_SCORES, TaskScore
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, unknown_choice
from nas.core.formatting import interval, ms_with_error, sentence_case
from nas.reporting.baseline_verdict import BASELINE_NOTE, baseline_verdicts
from nas.reporting.class_accuracy import class_columns, class_rows
from nas.reporting.html_page import template
from nas.reporting.network_drawing.draw import draw
from nas.reporting.plots.history import curves_svg, progress_svgs
from nas.reporting.plots.hover_points import baseline_row_id, trial_row_id
from nas.reporting.plots.pareto import agreement_svg, pareto_svg
from nas.reporting.plots.prediction import prediction_svg
from nas.reporting.search_columns import AGREEMENT_COLUMNS, WinnerRow, candidate_columns, shown_winner_columns
from nas.reporting.search_decision import search_decision
from nas.reporting.search_summary import MAX_ROWS, fine_tuning_text, losses, search_summary, table_rows
from nas.reporting.study_report import StudyReport
from nas.study.objective import OBJECTIVES
from nas.study.trial_record import BaselineRecord, TrialRecord, pareto_front

if TYPE_CHECKING:
    from jinja2 import Template

_OWN_DATA: Final = ("data.root", "data.subset", "data.proxy_resolution_px", "data.max_memory_bytes")
_WINNER_COLUMNS: Final = (
    "name", "published", "group", "accuracy_with_error", "estimate_with_error", "inherited_with_error",
    "fine_tuned_with_error", "epochs", "predicted_ms", "latency_interval_ms", "measured_ms", "macs_m", "params_m",
    "peak_memory_mb", "cpu_s",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """A recommended network, with its trial record and later findings.

    ``latency_by_path``: predicted ms by operation path; may be empty. ``proxy_note``: on the validity of its accuracy.
    ``files``: caption to path relative to the report. ``proxy``: the proxy network that was trained;
    ``sample_logits``: the trained proxy's first outputs for a ramp from -1 to 1 over its input. ``published``: name of
    the published network that it is, if any. ``group``: number of its group of statistically indistinguishable winners.
    ``epochs``: of its proxy's training, if known.
    """

    label: str
    arch: ArchSpec
    row: TrialRecord
    latency_by_path: Mapping[str, float] = field(default_factory=dict)
    proxy_note: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    proxy: ArchSpec | None = None
    sample_logits: tuple[float, ...] = ()
    published: str = ""
    group: str = ""
    epochs: int | None = None

    def __post_init__(self) -> None:
        for caption, path in self.files.items():
            if PurePosixPath(path).is_absolute() or not path:
                raise NasError(f"files {caption!r}: {path!r} must be a path relative to the report.")

    @property
    def cost(self) -> Complexity:
        """Cost of the network itself."""
        return complexity(self.arch)

    def remarks(self, limit_ms: float | None) -> list[str]:
        """Warnings about its measured latency: a missed limit or interval."""
        pair = latency_pair(self.row, self.label)
        return pair.remarks(limit_ms) if pair else []

    @property
    def fine_tuning(self) -> str:
        """Its accuracies from scratch, inherited, and fine-tuned; or empty."""
        return fine_tuning_text(self.row)

    @property
    def spec_file(self) -> str | None:
        """Path of the first spec among the files, to load the network from."""
        return self._file(".yaml")

    @property
    def proxy_file(self) -> str | None:
        """The spec of the proxy."""
        return self._file(".proxy.yaml")

    @property
    def weights_file(self) -> str | None:
        """The trained weights of the proxy."""
        return self._file(".proxy.safetensors")

    def _file(self, ending: str) -> str | None:
        return next((path for path in self.files.values() if path.endswith(ending)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReport(StudyReport):
    """All data of a search report.

    ``command`` resumes the search. ``facts``: pairs of name and value on space, data, proxy, device, predictor and
    versions. ``published``: trial number to name of a published network. ``baselines``: pretrained networks that were
    fine-tuned beside the search. ``reward``: by trial number, mnasnet only.
    ``refined``: latencies were measured before training, and predictions learned from that. ``latency_scale``: factor
    by which measured networks correct the predictions, with which all rows are priced. ``recalibration``: command that
    calibrates the device again. ``measurement_remarks``: on the machine's speed while networks were measured, and on
    uncertain measurements. ``curves``: by trial number. ``model``: what a model of accuracy learned from
    the trainings. ``longer_trainings``: studies that validate the proxy,
    ``validation_command``: the command of one. ``estimator``: its name where most candidates are scored instead of
    trained, else empty. ``class_names``: in label order, if known. ``task``: of the networks.
    """

    winners: tuple[Winner, ...] = ()
    baselines: tuple[BaselineRecord, ...] = ()
    published: Mapping[int, str] = field(default_factory=dict)
    objective: Literal["pareto", "mnasnet"] = "pareto"
    limit_ms: float | None = None
    reward: Mapping[int, float] | None = None
    refined: bool = False
    latency_scale: float = 1.0
    recalibration: str = "python -m nas.calibrate device=cpu"
    measurement_remarks: tuple[str, ...] = ()
    progress: FrontProgress | None = None
    curves: Mapping[int, Curve] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    model: ModelSummary | None = None
    longer_trainings: tuple[LongerTraining, ...] = ()
    validation_command: str = ""
    estimator: str = ""
    task: str = "classification"

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise unknown_choice("objective", self.objective, OBJECTIVES)
        labels = [winner.label for winner in self.winners]
        if len(set(labels)) < len(labels):
            raise NasError(f"winners: labels {', '.join(labels)} must differ.")

    @property
    def result(self) -> str:
        """The search in one paragraph: estimator, decision, baselines, then the figures."""
        sentences = (self.verdict, self.decision, *self.baseline_verdicts, self._trials_text)
        return " ".join(filter(None, sentences))

    @property
    def verdict(self) -> str:
        """Whether the estimator ordered the networks; empty where all are trained."""
        if not self.estimator:
            return ""
        check = EstimatorCheck.of(self.rows)
        return str(check) if check else "Nothing is known of the estimator yet: no anchor is trained."

    @property
    def _trials_text(self) -> str:
        """What became of the candidates, in terms of the task's score."""
        return self.score.named(search_summary(self.rows, self.reward))

    @property
    def accuracy_note(self) -> str:
        """What the accuracy of the report is, and whether it is shown to rank networks."""
        definition = f" ({self.score.definition})" if self.score.definition else ""
        kind = f"{self.score.title}{definition} is that of the proxy, not that after full training"
        known = next((one for one in self.longer_trainings if one.kendall_tau is not None), None)
        if known is None:
            return f"{kind}. Whether it ranks networks as a longer training does is not known (see Proxy validation)."
        is_shown = (known.kendall_tau or 0.0) > 0 and (known.p_value or 0.0) < SIGNIFICANCE_LEVEL
        shown = "It ranked" if is_shown else "It is not shown to rank"
        return f"{kind}. {shown} networks as a longer training does: {self.score.named(str(known))}."

    @property
    def score(self) -> TaskScore:
        """What accuracies are of, in the task of the search."""
        return TASK_SCORES[self.task]

    @property
    def latency_note(self) -> str:
        """Of what the latencies are, where a network is more than a classifier."""
        scope = latency_scope(self.task)
        return f"Latency, MACs and parameters are of {scope}." if scope else ""

    @property
    def decision(self) -> str:
        """Which winner to take, and how certain that is; empty without winners."""
        return search_decision(self.winners, self.rows, self.reward)

    @property
    def table(self) -> tuple[WinnerRow, ...]:
        """Rows of the table of winners: these, then the baselines."""
        return (*self.winners, *self.baselines)

    @property
    def other_rows(self) -> tuple[TrialRecord, ...]:
        """Rows of the baselines."""
        return tuple(baseline.row for baseline in self.baselines)

    @property
    def baseline_verdicts(self) -> tuple[str, ...]:
        """Whether the search was worth it, by each baseline."""
        return baseline_verdicts(self.baselines, self.winners, self.rows)

    @property
    def baseline_note(self) -> str:
        """What the comparison with baselines means; empty without any."""
        return BASELINE_NOTE if self.baselines else ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the result as a whole."""
        winners = [winner.row for winner in self.winners]
        limit = None if self.refined else self.limit_ms
        return tuple(filter(None, (limit_warning(self.rows, winners, limit, self.command, self.recalibration),)))

    @property
    def data_words(self) -> str:
        """Settings of the images in the command that a full training needs, too.

        Of those the folder depends on where the command runs, and others concern proxies alone.
        """
        words = shlex.split(self.command)
        needed = [one for one in words if one.startswith("data.") and one.partition("=")[0] not in _OWN_DATA]
        return "".join(f" {shlex.quote(word)}" for word in needed)

    @property
    def label_of(self) -> dict[int, str]:
        """Trial number to label of the winners."""
        return {winner.row.number: winner.label for winner in self.winners}

    @property
    def agreement(self) -> LatencyAgreement:
        """Predicted and measured latency of all measured networks."""
        return latency_agreement(
            self.rows,
            self.label_of,
            scale=self.latency_scale,
            refined=self.refined,
            recalibration=self.recalibration,
        )


def render_search_report(data: SearchReport, drawn: str | None = None) -> str:
    """Render the whole page as HTML text.

    Plot, winners, drawings, tables and style are inside; no URL is fetched.

    ``drawn``: the result of ``search_plot`` for the same data, if available.
    """
    on_front = {row.number for row in pareto_front(data.rows)}
    shown, left_out = table_rows(data.rows, on_front | data.label_of.keys() | data.published.keys())
    by_class = class_rows(data.class_names, {one.label: [one.row] for one in data.table})
    return _template().render(
        data=data,
        class_rows=by_class,
        class_columns=class_columns(by_class),
        summary=data.summary,
        warnings=data.warnings,
        losses=losses(data.rows),
        shown=shown,
        left_out=left_out,
        on_front=on_front,
        label_of=data.label_of,
        winner_columns=shown_winner_columns(data.table, data.reward, *_WINNER_COLUMNS),
        candidate_columns=candidate_columns(data.reward, has_estimates=bool(data.estimator), score=data.score),
        agreement_columns=AGREEMENT_COLUMNS,
        metric_names=METRIC_NAMES,
        progress_plots=progress_svgs(data.progress) if data.progress else (),
        curves_plot=curves_svg(data.curves, data.rows, data.label_of),
        prediction_plot=prediction_svg(data.model.validation, data.score)
        if data.model and data.model.validation
        else "",
        most_rows=MAX_ROWS,
        plot=drawn or search_plot(data),
        agreement=data.agreement,
        agreement_plot=agreement_svg(data.agreement, data.limit_ms),
        drawings={winner.label: winner_drawing(winner) for winner in data.winners},
    )


def search_plot(data: SearchReport) -> str:
    """The Pareto plot of the page as an SVG of its own."""
    rows, winners = list(data.rows), {winner.label: winner.row for winner in data.winners}
    if data.refined:  # intervals belong to predictions, and these are measurements
        rows = [_without_interval(row) for row in rows]
        winners = {label: _without_interval(row) for label, row in winners.items()}
    return pareto_svg(
        rows,
        winners,
        published=data.published,
        baselines=data.baselines,
        limit_ms=data.limit_ms,
        latency="measured" if data.refined else "predicted",
        expected=data.model.front if data.model else (),
    )


def _without_interval(row: TrialRecord) -> TrialRecord:
    return replace(row, latency_low_ms=None, latency_high_ms=None)


def winner_drawing(winner: Winner) -> str:
    """Draw a winner with the latency share of each block.

    Kernel latencies are scaled so that they sum to the predicted latency of the whole network.
    """
    return draw(winner.arch, latency_by_path=winner.latency_by_path, total_ms=winner.row.predicted_ms)


@cache
def _template() -> Template:
    filters: dict[str, Any] = {
        "interval": _interval,
        "measured": _measured,
        "address": _address,
        "row_id": trial_row_id,
        "baseline_row_id": baseline_row_id,
        "capitalised": sentence_case,
    }
    return template("nas.reporting", "search.html", filters)


def _interval(row: TrialRecord) -> str:
    return interval(row.latency_low_ms, row.latency_high_ms)


def _measured(row: TrialRecord) -> str:
    """Measured latency with standard error and spread; the prediction's error in %."""
    if row.measured_ms is None:
        return "not measured"
    text = ms_with_error(row.measured_ms, row.measured_error_ms)
    if row.measured_spread_ms is not None:
        text += f" (spread {row.measured_spread_ms:.2f})"
    if row.predicted_ms and row.measured_ms:
        text += f"; prediction {100 * (row.predicted_ms / row.measured_ms - 1):+.1f}%"
    return text


def _address(path: str) -> str:
    """A path as a relative URL.

    Colons are quoted so that a prefix is not read as a URL scheme.
    """
    return quote(path)
