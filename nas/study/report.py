"""``report.html``: what a search tried and found, in one file that opens offline and fetches nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import quote

from nas.arch.complexity import Complexity, complexity
from nas.arch.errors import NasError, unknown
from nas.arch.spec import ArchSpec
from nas.study.drawing import draw
from nas.study.objective import KINDS
from nas.study.plots import pareto_svg
from nas.study.rows import Outcome, TrialRow, counts, pareto_front

if TYPE_CHECKING:
    from jinja2 import Template

_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_NAMED_TRIALS: Final = 12
_MISSING: Final = "–"  # noqa: RUF001


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """A network to ship, with its row and what was found out about it since.

    ``latency_by_path``: predicted ms by operation path; may be empty. ``measured_ms``, ``measured_spread_ms``: of the
    whole network on the search's device, None where it was not measured. ``proxy_note``: what its accuracy is worth.
    ``files``: caption to path relative to the report. ``proxy``: the network that was trained in its place;
    ``sample_logits``: first outputs of that, with its weights, for a ramp from -1 to 1 over its input.
    """

    label: str
    arch: ArchSpec
    row: TrialRow
    latency_by_path: Mapping[str, float] = field(default_factory=dict)
    measured_ms: float | None = None
    measured_spread_ms: float | None = None
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

    def __post_init__(self) -> None:
        if self.objective not in KINDS:
            raise unknown("objective", self.objective, KINDS)
        labels = [winner.label for winner in self.winners]
        if len(set(labels)) < len(labels):
            raise NasError(f"winners: labels {', '.join(labels)} must differ.")


class Loss(NamedTuple):
    """Candidates that fell out for reasons that differ in numbers alone; ``reason`` is the first one's."""

    outcome: Outcome
    reason: str
    candidates: int
    trials: str


def render_report(data: ReportData) -> str:
    """The whole page as text: plot, winners, drawings, tables and style inside, no address to fetch anything from."""
    return _template().render(
        data=data,
        summary=summary(data),
        losses=losses(data.rows),
        on_front={row.number for row in pareto_front(data.rows)},
        label_of={winner.row.number: winner.label for winner in data.winners},
        plot=plot(data),
        drawings={winner.label: _drawing(winner) for winner in data.winners},
    )


def plot(data: ReportData) -> str:
    """The Pareto plot of the page as an SVG of its own."""
    winner_rows = {winner.label: winner.row for winner in data.winners}
    return pareto_svg(data.rows, winner_rows, baselines=data.baselines, limit_ms=data.limit_ms)


def summary(data: ReportData) -> str:
    """The search in one paragraph of plain words."""
    count = counts(data.rows)
    trained = [row for row in data.rows if row.outcome is Outcome.TRAINED and row.accuracy is not None]
    text = f"{_plural(len(data.rows), 'candidate')} tried: {count[Outcome.TRAINED]:,} trained, "
    text += (
        f"{count[Outcome.INFEASIBLE]:,} infeasible and not trained, {_plural(count[Outcome.DUPLICATE], 'duplicate')}, "
    )
    text += f"{count[Outcome.FAILED]:,} failed"
    text += f", {count[Outcome.RUNNING]:,} still running when this was written." if count[Outcome.RUNNING] else "."
    if not trained:
        return f"{text} No candidate was trained, so there is no accuracy to show yet."
    best = max(trained, key=lambda row: (row.accuracy or 0.0, -row.number))
    text += f" Best accuracy: {_percent(best.accuracy)} at {_ms(best.latency_ms)} (trial {best.number})."
    timed = [row for row in trained if row.latency_ms is not None]
    if timed:
        fastest = min(timed, key=lambda row: (row.latency_ms or 0.0, row.number))
        text += (
            f" Fastest trained: {_ms(fastest.latency_ms)} with {_percent(fastest.accuracy)} (trial {fastest.number})."
        )
        text += f" {_plural(len(pareto_front(trained)), 'network')} on the Pareto front."
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


def _drawing(winner: Winner) -> str:
    """The drawing, with kernel latencies scaled so that they sum to the predicted latency of the whole network."""
    total_ms = sum(winner.latency_by_path.values())
    scale = winner.row.latency_ms / total_ms if winner.row.latency_ms and total_ms else 1.0
    latency = {path: scale * value for path, value in winner.latency_by_path.items()}
    return draw(winner.arch, latency_by_path=latency or None)


@cache
def _template() -> Template:
    """The page's template; jinja2 is imported here so that tables and commands do not wait for it."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters: dict[str, Any] = {
        "ms": _ms, "percent": _percent, "decimal": _decimal, "millions": _millions, "megabytes": _megabytes,
        "interval": _interval, "measured": _measured, "address": _address,
    }  # fmt: skip
    environment.filters |= filters
    return environment.from_string((files("nas.study") / "templates" / "report.html").read_text(encoding="utf-8"))


def _ms(value: float | None) -> str:
    return _MISSING if value is None else f"{value:.2f} ms"


def _percent(value: float | None) -> str:
    return _MISSING if value is None else f"{100 * value:.2f}%"


def _decimal(value: float | None, digits: int = 2) -> str:
    return _MISSING if value is None else f"{value:.{digits}f}"


def _millions(value: int) -> str:
    """Rounded, and in full: a figure to read and one to compare."""
    return f"{value / 1e6:.2f} M ({value:,})"


def _megabytes(value: int) -> str:
    return f"{value / 1e6:.2f} MB ({value:,} bytes)"


def _interval(row: TrialRow) -> str:
    if row.latency_low_ms is None or row.latency_high_ms is None:
        return ""
    return f"{row.latency_low_ms:.2f} to {row.latency_high_ms:.2f}"


def _measured(winner: Winner) -> str:
    """Measured latency, its spread, and how far the prediction was off."""
    if winner.measured_ms is None:
        return "not measured"
    text = _ms(winner.measured_ms)
    if winner.measured_spread_ms is not None:
        text += f" (spread {winner.measured_spread_ms:.2f})"
    if winner.row.latency_ms and winner.measured_ms:
        text += f"; prediction {100 * (winner.row.latency_ms / winner.measured_ms - 1):+.1f}%"
    return text


def _address(path: str) -> str:
    """A path as a relative link; quoting its colons keeps it from being read as another scheme."""
    return quote(path)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
