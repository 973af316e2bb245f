"""Results of studies as Python objects, which the public API returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nas.core.errors import NasError
from nas.methods import SCALING, SEARCH
from nas.study.manifest import REPORT_FILE

if TYPE_CHECKING:
    import optuna

    from nas.arch.scaling.transform import Compound
    from nas.arch.spec import ArchSpec
    from nas.cli.resolve.reopened import ReopenedStudy
    from nas.methods.scaling.ranking.conclusion import RaceConclusion
    from nas.methods.scaling.ranking.ranking import RankedNetwork, Ranking
    from nas.reporting.search_report import Winner
    from nas.study.trial_record import FineTuning, TrialRecord

# Files of a winner: the end of their names, and what each is called here.
_FILES: Final[Mapping[str, str]] = {
    "yaml": "spec",
    "efficientnet.yaml": "scaled_spec",
    "py": "module",
    "proxy.yaml": "proxy_spec",
    "proxy.safetensors": "proxy_weights",
    "finetuned.safetensors": "fine_tuned_weights",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundNetwork:
    """A network that a study found.

    ``accuracy``: top-1 of its proxy on the validation split, in [0, 1]; of a grid the mean over its seeds; of a search
    by estimates whose finalists are not trained yet, the estimate. ``standard_error``: of the accuracy: binomial, of a
    grid from the noise between seeds, or of the estimate; None if it is unknown. ``latency_ms``: what the study counted
    with, on its device. ``paths``: files by ``spec`` (block strings), ``scaled_spec`` (coefficients), ``module``
    (Python that needs timm alone), ``proxy_spec``, ``proxy_weights`` and ``fine_tuned_weights``; empty until the study
    has written them. ``fine_tuning``: of a search with a supernet, accuracy of the proxy with inherited weights and
    trained on from them; else None.
    """

    name: str
    spec: ArchSpec = field(repr=False)
    accuracy: float
    standard_error: float | None
    latency_ms: float
    paths: Mapping[str, Path] = field(repr=False)
    fine_tuning: FineTuning | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """What a study holds, finished or not.

    ``winners``: of a Pareto front the fastest first, otherwise the best first. ``trials``: every candidate, as in
    ``trials.csv``. ``folder``: everything that was written. ``study``: Optuna's own, for its plots and its samplers.
    ``interrupted``: some trials are left to run.
    """

    winners: tuple[FoundNetwork, ...]
    trials: tuple[TrialRecord, ...] = field(repr=False)
    folder: Path
    study: optuna.Study = field(repr=False)
    interrupted: bool

    @property
    def report(self) -> Path:
        """The report, an HTML page that needs no network."""
        return self.folder / REPORT_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult(StudyResult):
    """Result of a search; winners are its Pareto front or its highest rewards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompoundGridResult(StudyResult):
    """Result of a grid of compound scalings, of a comparison of rules or of a table.

    ``winners``: the best network, and those statistically indistinguishable from it (Tukey-Kramer).
    ``coefficients``: those of the best network; None if it has none, or no network was trained to the end.
    ``ranking``: all networks with accuracy, validation loss, errors and p-value. ``conclusion``: why the race of a grid
    ended, and what would separate its finalists; None for comparisons and tables, which have no race. ``family``: spec
    files of phi 0 to 7.
    """

    coefficients: Compound | None
    ranking: Ranking = field(repr=False)
    conclusion: RaceConclusion | None = field(repr=False)
    family: tuple[Path, ...] = field(repr=False)


def result_of(found: ReopenedStudy, *, interrupted: bool | None = None) -> SearchResult | CompoundGridResult:
    """Result of an opened study; ``interrupted``: None finds out.

    Raises: NasError for a study of another kind.
    """
    if interrupted is None:
        interrupted = not found.kind.is_finished(found.plan)
    if found.kind is SEARCH:
        return search_result(found, interrupted=interrupted)
    if found.kind is SCALING:
        return compound_grid_result(found, interrupted=interrupted)
    raise NasError(f"study {found.plan.name!r}: is a {found.kind.name}, which has no result in Python yet.")


def search_result(found: ReopenedStudy, *, interrupted: bool) -> SearchResult:
    """Result of a search.

    Raises: NasError if its space no longer decodes to the networks of its trials.
    """
    from nas.methods.search.context import search_context
    from nas.methods.search.report_data import existing_winners
    from nas.study.objective import choose_winners

    plan, context = found.plan, search_context(found.plan, found.manifest)
    records = context.records(found.study)
    winners = existing_winners(choose_winners(records, plan.objective), plan.folder / "winners", context)
    return SearchResult(
        winners=tuple(_winner(one, plan.folder) for one in winners),
        trials=tuple(records),
        folder=plan.folder,
        study=found.study,
        interrupted=interrupted,
    )


def compound_grid_result(found: ReopenedStudy, *, interrupted: bool) -> CompoundGridResult:
    """The result of a grid, a comparison of rules or a table. Raises: NasError."""
    from nas.analysis.significance import chance_level
    from nas.methods.scaling.context import scaling_context
    from nas.methods.scaling.family_files import FAMILY_FOLDER
    from nas.methods.scaling.report_data import grid_conclusion, study_ranking

    plan, context = found.plan, scaling_context(found.plan, found.manifest, found.study)
    records = context.records(found.study)
    ranking = study_ranking(context.entries, found.study, chance_level(records))
    best = () if ranking.best is None else (ranking.best, *ranking.peers)
    return CompoundGridResult(
        winners=tuple(map(_ranked, best)),
        trials=tuple(records),
        folder=plan.folder,
        study=found.study,
        interrupted=interrupted,
        coefficients=ranking.best.entry.scaled.compound if ranking.best else None,
        ranking=ranking,
        conclusion=None if plan.compare else grid_conclusion(found.study, plan.race),
        family=tuple(sorted((plan.folder / FAMILY_FOLDER).glob("phi_*.yaml"))),
    )


def _winner(winner: Winner, folder: Path) -> FoundNetwork:
    paths = {_FILES[Path(path).name.partition(".")[2]]: folder / path for path in winner.files.values()}
    return FoundNetwork(
        name=winner.label,
        spec=winner.arch,
        accuracy=winner.row.ranked_accuracy or 0.0,
        standard_error=winner.row.ranked_error,
        latency_ms=winner.row.latency_ms or 0.0,
        paths=paths,
        fine_tuning=winner.row.fine_tuning,
    )


def _ranked(one: RankedNetwork) -> FoundNetwork:
    return FoundNetwork(
        name=one.entry.label,
        spec=one.entry.arch,
        accuracy=one.mean or 0.0,
        standard_error=one.error,
        latency_ms=one.entry.latency.latency_ms,
        paths={},
    )
