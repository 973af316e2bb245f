"""``report.html``: what a search tried and found, in one file that opens offline and fetches nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import quote

from nas.arch.complexity import Complexity, complexity
from nas.arch.errors import NasError, unknown
from nas.arch.spec import ArchSpec
from nas.study.agreement import Agreement, Pair, compare, pair_of
from nas.study.drawing import draw
from nas.study.objective import KINDS
from nas.study.page import template
from nas.study.plots import agreement_svg, pareto_svg
from nas.study.rows import Outcome, TrialRow, counts, pareto_front
from nas.study.units import interval, ms, percent, plural

if TYPE_CHECKING:
    from jinja2 import Template

_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_NAMED_TRIALS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """A network to ship, with its row and what was found out about it since.

    ``latency_by_path``: predicted ms by operation path; may be empty. ``proxy_note``: what its accuracy is worth.
    ``files``: caption to path relative to the report. ``proxy``: the network that was trained in its place;
    ``sample_logits``: first outputs of that, with its weights, for a ramp from -1 to 1 over its input.
    """

    label: str
    arch: ArchSpec
    row: TrialRow
    latency_by_path: Mapping[str, float] = field(default_factory=dict)
    proxy_note: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    proxy: ArchSpec | None = None
    sample_logits: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for caption, path in self.files.items():
            if PurePosixPath(path).is_absolute() or not path:
                raise NasError(f"files {caption!r}: {path!r} must be a path relative to the report.")

    @property
    def cost(self) -> Complexity:
        """Cost of the network itself."""
        return complexity(self.arch)

    def remarks(self, limit_ms: float | None) -> list[str]:
        """What its measured latency has to say against it, in words."""
        pair = pair_of(self.row, self.label)
        return pair.remarks(limit_ms) if pair else []

    @property
    def spec_file(self) -> str | None:
        """The first of the files that is a spec, to load the network from."""
        return self._file(".yaml")

    @property
    def proxy_file(self) -> str | None:
        """The spec of the proxy."""
        return self._file(".proxy.yaml")

    @property
    def weights_file(self) -> str | None:
        """The trained weights of the proxy."""
        return self._file(".safetensors")

    def _file(self, ending: str) -> str | None:
        return next((path for path in self.files.values() if path.endswith(ending)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything that a report says.

    ``command`` resumes the search. ``facts``: pairs of name and value on space, data, proxy, device, predictor and
    versions. ``baselines``: trial number to name of a published network. ``reward``: by trial number, mnasnet only.
    ``refined``: latencies were measured before training, and predictions learned from that.
    """

    title: str
    command: str
    facts: tuple[tuple[str, str], ...]
    rows: tuple[TrialRow, ...]
    winners: tuple[Winner, ...] = ()
    baselines: Mapping[int, str] = field(default_factory=dict)
    objective: Literal["pareto", "mnasnet"] = "pareto"
    limit_ms: float | None = None
    reward: Mapping[int, float] | None = None
    refined: bool = False

    def __post_init__(self) -> None:
        if self.objective not in KINDS:
            raise unknown("objective", self.objective, KINDS)
        labels = [winner.label for winner in self.winners]
        if len(set(labels)) < len(labels):
            raise NasError(f"winners: labels {', '.join(labels)} must differ.")

    @property
    def label_of(self) -> dict[int, str]:
        """Trial number to label of the winners."""
        return {winner.row.number: winner.label for winner in self.winners}

    @property
    def agreement(self) -> Agreement:
        """Predicted beside measured latency of all networks that were measured."""
        return compare(self.rows, self.label_of, refined=self.refined)


class Loss(NamedTuple):
    """Candidates that fell out for reasons that differ in numbers alone; ``reason`` is the first one's."""

    outcome: Outcome
    reason: str
    candidates: int
    trials: str


def render_report(data: ReportData, drawn: str | None = None) -> str:
    """The whole page as text: plot, winners, drawings, tables and style inside, no address to fetch anything from.

    ``drawn``: the ``plot`` of the same data where it was drawn already.
    """
    return _template().render(
        data=data,
        summary=summary(data),
        losses=losses(data.rows),
        on_front={row.number for row in pareto_front(data.rows)},
        label_of=data.label_of,
        plot=drawn or plot(data),
        agreement=data.agreement,
        agreement_plot=agreement_svg(data.agreement, data.limit_ms),
        drawings={winner.label: drawing(winner) for winner in data.winners},
    )


def plot(data: ReportData) -> str:
    """The Pareto plot of the page as an SVG of its own."""
    rows, winners = list(data.rows), {winner.label: winner.row for winner in data.winners}
    if data.refined:  # an interval stands around a prediction, and these are measurements
        rows = [_without_interval(row) for row in rows]
        winners = {label: _without_interval(row) for label, row in winners.items()}
    kind = "measured" if data.refined else "predicted"
    return pareto_svg(rows, winners, baselines=data.baselines, limit_ms=data.limit_ms, latency=kind)


def _without_interval(row: TrialRow) -> TrialRow:
    return replace(row, latency_low_ms=None, latency_high_ms=None)


def summary(data: ReportData) -> str:
    """The search in one paragraph of plain words."""
    count = counts(data.rows)
    trained = [row for row in data.rows if row.outcome is Outcome.TRAINED and row.accuracy is not None]
    text = f"{plural(len(data.rows), 'candidate')} tried: {count[Outcome.TRAINED]:,} trained, "
    text += f"{count[Outcome.STOPPED]:,} stopped early, " if count[Outcome.STOPPED] else ""
    text += (
        f"{count[Outcome.INFEASIBLE]:,} infeasible and not trained, {plural(count[Outcome.DUPLICATE], 'duplicate')}, "
    )
    text += f"{count[Outcome.FAILED]:,} failed"
    text += f", {count[Outcome.RUNNING]:,} still running when this was written." if count[Outcome.RUNNING] else "."
    if not trained:
        return f"{text} No candidate was trained, so there is no accuracy to show yet."
    best = max(trained, key=lambda row: (row.accuracy or 0.0, -row.number))
    text += f" Best accuracy: {percent(best.accuracy)} at {ms(best.latency_ms)} (trial {best.number})."
    timed = [row for row in trained if row.latency_ms is not None]
    if timed:
        fastest = min(timed, key=lambda row: (row.latency_ms or 0.0, row.number))
        text += f" Fastest trained: {ms(fastest.latency_ms)} with {percent(fastest.accuracy)} (trial {fastest.number})."
        text += f" {plural(len(pareto_front(trained)), 'network')} on the Pareto front."
    if data.reward:
        number = max(data.reward, key=lambda trial: data.reward[trial] if data.reward else 0.0)
        text += f" Highest reward: {data.reward[number]:.4f} (trial {number})."
    return text


def losses(rows: Iterable[TrialRow]) -> list[Loss]:
    """Failed and infeasible candidates by reason, failures first, the most frequent first."""
    groups: dict[tuple[Outcome, str], list[TrialRow]] = {}
    for row in rows:
        if row.outcome in (Outcome.FAILED, Outcome.INFEASIBLE):
            groups.setdefault((row.outcome, _NUMBER.sub("#", row.reason)), []).append(row)
    found = []
    for (outcome, _), members in groups.items():
        names = ", ".join(str(row.number) for row in members[:_NAMED_TRIALS])
        more = f" and {len(members) - _NAMED_TRIALS:,} more" if len(members) > _NAMED_TRIALS else ""
        found.append(Loss(outcome, members[0].reason or "no reason recorded", len(members), names + more))
    return sorted(found, key=lambda loss: (loss.outcome is not Outcome.FAILED, -loss.candidates))


def drawing(winner: Winner) -> str:
    """The drawing, with kernel latencies scaled so that they sum to the predicted latency of the whole network."""
    total_ms = sum(winner.latency_by_path.values())
    scale = winner.row.predicted_ms / total_ms if winner.row.predicted_ms and total_ms else 1.0
    latency = {path: scale * value for path, value in winner.latency_by_path.items()}
    return draw(winner.arch, latency_by_path=latency or None)


@cache
def _template() -> Template:
    filters: dict[str, Any] = {"interval": _interval, "ends": _ends, "measured": _measured, "address": _address}
    return template("nas.study", "report.html", filters)


def _interval(row: TrialRow) -> str:
    return interval(row.latency_low_ms, row.latency_high_ms)


def _ends(pair: Pair) -> str:
    return interval(pair.low_ms, pair.high_ms)


def _measured(row: TrialRow) -> str:
    """Measured latency, its spread, and how far the prediction was off."""
    if row.measured_ms is None:
        return "not measured"
    text = ms(row.measured_ms)
    if row.measured_spread_ms is not None:
        text += f" (spread {row.measured_spread_ms:.2f})"
    if row.predicted_ms and row.measured_ms:
        text += f"; prediction {100 * (row.predicted_ms / row.measured_ms - 1):+.1f}%"
    return text


def _address(path: str) -> str:
    """A path as a relative link; quoting its colons keeps it from being read as another scheme."""
    return quote(path)
