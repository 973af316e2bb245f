"""Fine-tuning of a search's winners: proxies trained on from a supernet's weights.

The training from scratch, by which winners are chosen and the estimator is checked, stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import optuna
from rich.console import Console

from nas.core.console import print_lines, progress_bar
from nas.core.errors import NasError
from nas.core.formatting import plural, shown_path
from nas.core.progress import ProgressCallback
from nas.core.statistics import binomial_error
from nas.estimators.base import Evaluation
from nas.estimators.proxy import ProxyEvaluator, ProxySettings
from nas.estimators.scorers import supernets_of
from nas.reporting.search_columns import winner_label
from nas.study.trial_attributes import record_fine_tuning
from nas.study.trial_record import FineTuning, TrialRecord
from nas.training.results import EpochResult, Score, TrainingError

if TYPE_CHECKING:
    from nas.estimators.supernet import SupernetScorer
    from nas.methods.search.session import SearchSession

FINE_TUNED_FOLDER: Final = "fine_tuned"  # in the study's folder: weights by network id, and unfinished trainings


def fine_tune_winners(
    rows: Sequence[TrialRecord], session: SearchSession, study: optuna.Study, console: Console
) -> None:
    """Train the proxies of the winners ``rows`` on from inherited weights.

    Results are recorded in ``study``, weights are in ``FINE_TUNED_FOLDER``. Nothing is done while the search lacks
    trials, and none is trained twice with the same settings. Killed, it resumes. What prevents it, such as a missing
    supernet, must not cost the user the results: it is told in a line.
    """
    plan = session.plan
    settings = plan.estimator.supernet.fine_tuning(plan.proxy)
    supernets = supernets_of(session.evaluator.scorer)
    if settings is None or not supernets or not session.is_complete(study):
        return
    supernet = supernets[0]
    folder = plan.folder / FINE_TUNED_FOLDER
    left = {winner_label(place): row for place, row in enumerate(rows) if not _is_done(row, settings, folder)}
    if not left:
        return
    if not supernet.path.is_file():
        print_lines(console, f"winners were not fine-tuned: there is no supernet {shown_path(supernet.path)}")
        return
    evaluator = replace(
        session.evaluator,
        settings=settings,
        weights_dir=folder,
        checkpoints_dir=folder,
        scorer=None,
        initial_state=supernet.inherited_state,
    )
    try:
        with progress_bar(console, f"fine-tuning {plural(len(left), 'winner')}") as progress:
            for place, (label, row) in enumerate(left.items()):
                try:
                    _fine_tune(row, session, study, supernet, evaluator, _EpochProgress(progress, place, len(left)))
                except TrainingError as error:  # of this network alone
                    text = str(error).replace("lower proxy.lr", "lower estimator.supernet.fine_tune_lr")
                    print_lines(console, f"{label} was not fine-tuned: {text}")
    except NasError as error:
        print_lines(console, f"winners were not fine-tuned: {error}")
    except KeyboardInterrupt:
        print_lines(console, "winners were not all fine-tuned: interrupted; the same command goes on")


def _is_done(row: TrialRecord, settings: ProxySettings, folder: Path) -> bool:
    known = row.fine_tuning
    return (
        known is not None
        and (known.epochs, known.lr) == (settings.epochs, settings.lr)
        and (folder / f"{row.arch_id}.safetensors").is_file()
    )


class _EpochProgress:
    """Progress in epochs, of the winner at ``place`` of ``count``."""

    def __init__(self, report: ProgressCallback, place: int, count: int) -> None:
        self.report, self.place, self.count = report, place, count

    def show(self, epoch: int, epochs: int) -> None:
        self.report(self.place * epochs + epoch, self.count * epochs)


def _fine_tune(
    row: TrialRecord,
    session: SearchSession,
    study: optuna.Study,
    supernet: SupernetScorer,
    evaluator: ProxyEvaluator,
    progress: _EpochProgress,
) -> None:
    """Train one winner on and record the result. Raises: TrainingError, NasError."""
    settings = evaluator.settings

    def on_epoch(result: EpochResult) -> None:
        progress.show(result.epoch, settings.epochs)

    progress.show(0, settings.epochs)
    arch = session.pricer.decode(row.genotype)
    inherited = supernet.evaluate(arch)
    tuned = evaluator.evaluate(arch, on_epoch=on_epoch)
    record_fine_tuning(
        study,
        row.arch_id,
        FineTuning(
            accuracy=round(tuned.accuracy or 0.0, 6),
            standard_error=round(_error(tuned, tuned.class_images), 6),
            val_loss=round(tuned.loss or 0.0, 6),
            inherited_accuracy=round(inherited.accuracy, 6),
            inherited_error=round(_error(inherited, tuned.class_images), 6),
            inherited_loss=round(inherited.loss, 6),
            epochs=settings.epochs,
            lr=settings.lr,
        ),
    )
    evaluator.discard_checkpoint(arch)


def _error(score: Evaluation | Score, class_images: Sequence[int]) -> float:
    """Standard error of a score; binomial of a share of images.

    0 for the score of a single image with boxes or a mask, of which it is unknown.
    """
    if class_images:
        return binomial_error(score.accuracy or 0.0, sum(class_images))
    return score.standard_error or 0.0
