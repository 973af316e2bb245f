"""Winners and baselines on the same validation images, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from rich.console import Console
from torch import Tensor

from nas.arch.files import load_spec_file
from nas.arch.inputs import input_facts
from nas.arch.spec import ArchSpec
from nas.core.console import announced, print_lines
from nas.core.errors import NasError
from nas.data.images import ImageData
from nas.exporters.standalone import load_weights
from nas.methods.search.baselines.records import baseline_file, baseline_records, record_pairs
from nas.model.build import build
from nas.study.trial_record import BaselineRecord, PairedCounts, TrialRecord
from nas.training.evaluation import correct_images

if TYPE_CHECKING:
    from nas.methods.search.session import SearchSession


def pair_with_winners(
    rows: Sequence[TrialRecord], session: SearchSession, study: optuna.Study, console: Console
) -> None:
    """Score baselines and the winners ``rows`` image by image, and record the counts.

    Winners that were trained. On the same images a difference of two accuracies has a smaller error than that of two
    independent ones. Only pairs that ``study`` lacks are scored; without a file of weights a pair is left out. What
    prevents it is told in a line.
    """
    images = _Images(session)
    trained = [row for row in rows if row.accuracy is not None and images.weights(row).is_file()]
    left = [
        (baseline, missing)
        for baseline in baseline_records(study)
        if images.files(baseline)[0].is_file()
        and (missing := [row for row in trained if row.arch_id not in baseline.paired])
    ]
    if not left:
        return
    try:
        with announced(console, "comparing winners with baselines image by image"):
            found = {row.arch_id: images.of_winner(row) for row in trained}
            for baseline, missing in left:
                own = images.of_baseline(baseline)
                record_pairs(study, baseline, {row.arch_id: _counts(found[row.arch_id], own) for row in missing})
    except NasError as error:
        print_lines(console, f"winners and baselines were not compared image by image: {error}")
    except KeyboardInterrupt:
        print_lines(console, "winners and baselines were not compared image by image: interrupted")


def _counts(winner: Tensor, baseline: Tensor) -> PairedCounts:
    """Count the images that one of the two alone classifies correctly; both bool (N,)."""
    return PairedCounts(int((winner & ~baseline).sum()), int((baseline & ~winner).sum()))


@dataclass(frozen=True, slots=True)
class _Images:
    """Which validation images the networks of a session classify correctly."""

    session: SearchSession

    def weights(self, row: TrialRecord) -> Path:
        """File of the weights of a winner's proxy."""
        return self.session.plan.folder / "weights" / f"{row.arch_id}.safetensors"

    def files(self, baseline: BaselineRecord) -> tuple[Path, Path]:
        """Spec and weights of a baseline."""
        folder, place = self.session.plan.folder, baseline.place
        return baseline_file(folder, place, ".yaml"), baseline_file(folder, place, ".safetensors")

    def of_winner(self, row: TrialRecord) -> Tensor:
        """Images that its proxy classifies correctly, bool (N,). Raises: NasError."""
        proxy = self.session.evaluator.proxy(self.session.pricer.decode(row.genotype)).spec
        return self._correct(proxy, self.weights(row), self.session.images)

    def of_baseline(self, baseline: BaselineRecord) -> Tensor:
        """Images that the baseline classifies correctly, bool (N,). Raises: NasError."""
        spec, weights = self.files(baseline)
        file = load_spec_file(spec)
        statistics = input_facts(file.arch, file.provenance)["normalisation"]
        data = replace(self.session.images, mean=tuple(statistics["mean"]), std=tuple(statistics["std"]))
        return self._correct(file.arch, weights, data)

    def _correct(self, arch: ArchSpec, weights: Path, data: ImageData) -> Tensor:
        model = build(arch)
        load_weights(model, weights)
        return correct_images(model, data.resized(arch.resolution_px), self.session.plan.proxy)
