"""Results of studies as Python objects, which the public API returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nas.arch.files import load_spec
from nas.core.errors import NasError
from nas.methods import NETADAPT, SCALING, SEARCH
from nas.methods.full_training import RunFolder
from nas.study.manifest import REPORT_FILE

if TYPE_CHECKING:
    import optuna

    from nas.arch.scaling.transform import Compound
    from nas.arch.spec import ArchSpec
    from nas.cli.resolve.reopened import ReopenedStudy
    from nas.methods.full_training import DenseScore, ScoredWeights, TrainedDenseNetwork, TrainedNetwork
    from nas.methods.netadapt.results.steps import AdaptationStep
    from nas.methods.scaling.ranking.conclusion import RaceConclusion
    from nas.methods.scaling.ranking.ranking import RankedNetwork, Ranking
    from nas.reporting.search_report import Winner
    from nas.study.trial_record import BaselineRecord, FineTuning, TrialRecord

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

    ``accuracy``: top-1 of its proxy on the validation split, in [0, 1], of detectors AP and of segmenters mIoU; of a
    grid the mean over its seeds; of an adaptation its own; of a search by estimates whose finalists are not trained
    yet, the estimate. ``standard_error``: of the accuracy: binomial, of a grid from the noise between seeds, of AP and
    mIoU by a jackknife, or of the estimate; None if it is unknown.
    ``latency_ms``: what the study counted with, on its device. ``paths``: files by ``spec`` (block strings),
    ``scaled_spec`` (coefficients), ``module`` (Python that needs timm alone), ``proxy_spec``, ``proxy_weights`` and
    ``fine_tuned_weights``, of an adaptation ``spec`` and ``weights``; empty until the study has written them.
    ``fine_tuning``: of a search with a supernet, accuracy of the proxy with inherited weights and trained on from them;
    else None.
    """

    name: str
    spec: ArchSpec = field(repr=False)
    accuracy: float
    standard_error: float | None
    latency_ms: float
    paths: Mapping[str, Path] = field(repr=False)
    fine_tuning: FineTuning | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """Result of a full training.

    ``spec``: the network, with the classes of its images. ``last`` and ``best``: the weights after the last epoch, and
    after that of the highest accuracy, which is biased upwards by choosing it; each with ``epoch``, ``accuracy``,
    ``standard_error``, ``val_loss`` and ``confusion``; of a detector or segmenter the accuracy is AP or mIoU, and there
    are ``metrics``, ``class_scores`` and ``class_errors``. ``paths``: files by ``last_weights``, ``last_spec``,
    ``best_weights``, ``best_spec``, ``log``. ``folder``: everything that was written.
    """

    spec: ArchSpec = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    epochs: int
    last: ScoredWeights | DenseScore = field(repr=False)
    best: ScoredWeights | DenseScore = field(repr=False)
    folder: Path
    paths: Mapping[str, Path] = field(repr=False)

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, AP or mIoU after the last epoch, in [0, 1]."""
        return self.last.accuracy

    @property
    def standard_error(self) -> float | None:
        """Standard error of ``accuracy``.

        Binomial, or by a jackknife over groups of images.
        """
        return self.last.standard_error

    @property
    def report(self) -> Path:
        """The report, an HTML page that needs no network."""
        return self.folder / REPORT_FILE


def training_result(folder: Path, trained: TrainedNetwork | TrainedDenseNetwork | None) -> TrainingResult:
    """The public result of a training in ``folder``.

    Raises: NasError in a process that torchrun started beside the first.
    """
    if trained is None:
        raise NasError("torchrun: the first process has the result; call it there, or use python -m nas.train.")
    run = RunFolder(path=folder)
    files = {f"{stem}_{kind}": getattr(run, kind)(stem) for stem in ("last", "best") for kind in ("weights", "spec")}
    return TrainingResult(
        spec=load_spec(run.spec("last")),
        class_names=trained.class_names,
        epochs=trained.epochs,
        last=trained.last,
        best=trained.best,
        folder=folder,
        paths={**files, "log": run.log},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineNetwork:
    """A pretrained network, fine-tuned to compare the winners of a search with.

    ``name``: B1, ...; ``network``: as ``study.baselines`` names it. ``accuracy``, ``standard_error``: top-1 on the
    validation split after ``epochs`` of fine-tuning on the images of the proxies, in [0, 1]. ``latency_ms``: what the
    search counted with, ``measured_ms`` None where nothing was measured. ``cpu_s``: of the fine-tuning. ``paths``:
    files by ``spec`` (with classes and normalisation) and ``weights``.
    """

    name: str
    network: str
    accuracy: float
    standard_error: float
    latency_ms: float
    measured_ms: float | None
    epochs: int
    cpu_s: float
    paths: Mapping[str, Path] = field(repr=False)


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
    """Result of a search; winners are its Pareto front or its highest rewards.

    ``baselines``: what the winners are compared with; ``baseline_verdicts``: whether the search was worth it, by each
    of them in words.
    """

    baselines: tuple[BaselineNetwork, ...] = ()
    baseline_verdicts: tuple[str, ...] = field(default=(), repr=False)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class NetAdaptResult(StudyResult):
    """Result of an adaptation; the winner is the network of its last step.

    ``seed``: the network that it began with, trained; None before it is. ``steps``: what each step changed, with
    losses, accuracy and cost, the seed network first. ``measure`` was to become at most ``target``.
    """

    seed: FoundNetwork | None
    steps: tuple[AdaptationStep, ...] = field(repr=False)
    measure: str
    target: float


def result_of(
    found: ReopenedStudy, *, interrupted: bool | None = None
) -> SearchResult | CompoundGridResult | NetAdaptResult:
    """Result of an opened study; ``interrupted``: None finds out.

    Raises: NasError for a study of another kind.
    """
    if interrupted is None:
        interrupted = not found.kind.is_finished(found.plan)
    if found.kind is SEARCH:
        return search_result(found, interrupted=interrupted)
    if found.kind is SCALING:
        return compound_grid_result(found, interrupted=interrupted)
    if found.kind is NETADAPT:
        return netadapt_result(found, interrupted=interrupted)
    raise NasError(f"study {found.plan.name!r}: is a {found.kind.name}, which has no result in Python yet.")


def search_result(found: ReopenedStudy, *, interrupted: bool) -> SearchResult:
    """Result of a search.

    Raises: NasError if its space no longer decodes to the networks of its trials.
    """
    from nas.methods.search.baselines.records import baseline_records
    from nas.methods.search.context import search_context
    from nas.methods.search.report_data import existing_winners
    from nas.reporting.baseline_verdict import baseline_verdicts
    from nas.study.objective import choose_winners

    plan, context = found.plan, search_context(found.plan, found.manifest)
    records = context.records(found.study)
    winners = existing_winners(choose_winners(records, plan.objective), plan.folder / "winners", context)
    baselines = baseline_records(found.study)
    return SearchResult(
        baselines=tuple(_baseline(one, plan.folder) for one in baselines),
        baseline_verdicts=baseline_verdicts(baselines, winners, records),
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


def netadapt_result(found: ReopenedStudy, *, interrupted: bool) -> NetAdaptResult:
    """The result of an adaptation. Raises: NasError."""
    from nas.methods.netadapt.context import netadapt_context
    from nas.methods.netadapt.report_data import adapted_paths, network_name
    from nas.methods.netadapt.results.steps import adaptation_steps

    plan, context = found.plan, netadapt_context(found.plan, found.manifest)
    records, measure = context.records(found.study), plan.target.measure
    steps = adaptation_steps(found.study, records, measure, plan.netadapt.criterion)
    networks = [_adapted(one, context.files.arch(one.step)) for one in steps]
    paths = adapted_paths(plan.folder)
    return NetAdaptResult(
        winners=tuple(replace(one, name=network_name(len(steps) - 1), paths=paths) for one in networks[-1:]),
        trials=tuple(records),
        folder=plan.folder,
        study=found.study,
        interrupted=interrupted,
        seed=networks[0] if networks else None,
        steps=steps,
        measure=measure,
        target=context.target,
    )


def _adapted(step: AdaptationStep, arch: ArchSpec) -> FoundNetwork:
    return FoundNetwork(
        name=f"step {step.step}" if step.step else "seed network",
        spec=arch,
        accuracy=step.row.accuracy or 0.0,
        standard_error=step.row.standard_error,
        latency_ms=step.row.latency_ms or 0.0,
        paths={},
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


def _baseline(one: BaselineRecord, folder: Path) -> BaselineNetwork:
    from nas.methods.search.baselines.records import baseline_file

    files = {"spec": ".yaml", "weights": ".safetensors"}
    paths = {name: baseline_file(folder, one.place, suffix) for name, suffix in files.items()}
    return BaselineNetwork(
        name=one.label,
        network=one.published,
        accuracy=one.row.accuracy or 0.0,
        standard_error=one.row.standard_error or 0.0,
        latency_ms=one.row.latency_ms or 0.0,
        measured_ms=one.row.measured_ms,
        epochs=one.epochs,
        cpu_s=one.row.cpu_s or 0.0,
        paths={name: path for name, path in paths.items() if path.is_file()},
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
