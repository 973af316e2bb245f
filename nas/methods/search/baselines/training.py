"""Fine-tuning of a search's baselines, with the budget of its proxies."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from rich.console import Console
from torch import nn

from nas.arch.complexity import complexity
from nas.arch.files import dump_spec
from nas.arch.spec import ArchSpec
from nas.core.console import print_lines, progress_bar
from nas.core.errors import NasError
from nas.core.files import write_text_atomically
from nas.core.formatting import plural
from nas.core.progress import ProgressCallback
from nas.core.statistics import binomial_error
from nas.data.images import ImageData
from nas.data.summary import ImageSummary
from nas.estimators.base import network_seed
from nas.estimators.proxy import LEAST_NORM_MOMENTUM, last_map_px
from nas.exporters.metadata import input_metadata
from nas.exporters.standalone import save_weights
from nas.methods.search.baselines.checks import is_trained
from nas.methods.search.baselines.choice import BaselineChoice
from nas.methods.search.baselines.records import baseline_file, baseline_records, record_baseline
from nas.model.build import build
from nas.model.weights import InitialWeights, initial_state, weights_folder
from nas.study.trial_record import BaselineRecord, Outcome, TrialRecord
from nas.training.batches import InMemorySource
from nas.training.oom import named_out_of_memory
from nas.training.recipe import RecipeSettings
from nas.training.results import TrainResult
from nas.training.runtime import pick_device
from nas.training.trainer import TrainingHooks, train_network

if TYPE_CHECKING:
    from nas.methods.search.session import SearchSession


def train_baselines(session: SearchSession, study: optuna.Study, console: Console) -> None:
    """Fine-tune the baselines of the plan that ``study`` lacks, and record them.

    As many epochs as the proxies', on the same images at the same side, of the whole network with its pretrained
    weights, by the recipe of ``recipe=finetune``. Nothing is done while the search lacks trials. Killed, it resumes.
    What prevents it must not cost the user the results: it is told in a line.
    """
    plan = session.plan
    if not plan.baselines or not session.is_complete(study):
        return
    known = {one.published: one for one in baseline_records(study)}
    left = [choice for choice in plan.baselines if not is_trained(choice, known.get(choice.name))]
    if not left:
        return
    session.write_manifest()  # its settings and its command name them, also of a study that was finished before
    try:
        with progress_bar(console, f"fine-tuning {plural(len(left), 'baseline')}") as progress:
            for turn, choice in enumerate(left):
                place = known[choice.name].place if choice.name in known else len(known) + 1
                training = _Training.of(choice, place, session)
                try:
                    known[choice.name] = training.run(_StepProgress(progress, turn, len(left)))
                except NasError as error:  # of this network alone
                    print_lines(console, f"baseline {choice.name} was not fine-tuned: {error}")
                    continue
                record_baseline(study, known[choice.name])
                training.checkpoint.unlink(missing_ok=True)
    except KeyboardInterrupt:
        print_lines(console, "baselines were not all fine-tuned: interrupted; the same command goes on")


def baseline_networks(session: SearchSession) -> list[ArchSpec]:
    """The session's baselines as whole networks for its images."""
    return [choice.network(session.data.classes, session.data.channels) for choice in session.plan.baselines]


class _StepProgress:
    """Progress in steps, of the training at ``turn`` of ``count``."""

    def __init__(self, report: ProgressCallback, turn: int, count: int) -> None:
        self.report, self.turn, self.count = report, turn, count

    def show(self, step: int, steps: int) -> None:
        self.report(self.turn * steps + step, self.count * steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """Training of one baseline.

    ``whole``: the network at its own resolution, as latencies are of; ``network``: on images of the proxies' side.
    """

    choice: BaselineChoice
    place: int
    session: SearchSession
    whole: ArchSpec
    network: ArchSpec
    recipe: RecipeSettings

    @classmethod
    def of(cls, choice: BaselineChoice, place: int, session: SearchSession) -> _Training:
        whole, proxy = choice.network(session.data.classes, session.data.channels), session.plan.proxy
        momentum = LEAST_NORM_MOMENTUM if whole.norm.momentum < LEAST_NORM_MOMENTUM else None
        recipe = RecipeSettings.fine_tuning(proxy, resolution_px=proxy.resolution_px, bn_momentum=momentum)
        return cls(
            choice=choice, place=place, session=session, whole=whole, network=recipe.network(whole), recipe=recipe
        )

    @property
    def seed(self) -> int:
        return network_seed(self.whole, self.session.plan.study.seed)

    @property
    def checkpoint(self) -> Path:
        return self.file(".pt")

    def file(self, suffix: str) -> Path:
        return baseline_file(self.session.plan.folder, self.place, suffix)

    def run(self, progress: _StepProgress) -> BaselineRecord:
        """Train the network, or go on with it, and write its files. Raises: NasError."""
        initial = initial_state(
            self.network,
            self.choice.weights,
            seed=self.seed,
            folder=weights_folder(self.session.plan.runs_dir),
            class_names=self.session.data.class_names,
        )
        data = self.session.images.resized(self.network.resolution_px)
        if initial.mean:
            data = replace(data, mean=initial.mean, std=initial.std)
        model = build(self.network)
        model.load_state_dict(initial.state)
        result = self._train(model, data, progress)
        record = self._record(result, data, initial)
        self._write(model, record, data, initial)
        return record

    def _train(self, model: nn.Module, data: ImageData, progress: _StepProgress) -> TrainResult:
        source = InMemorySource(data, self.recipe, seed=self.seed, device=pick_device(self.recipe))
        hooks = TrainingHooks(on_step=progress.show)
        with named_out_of_memory(
            f"proxy.batch_size {self.recipe.batch_size}", "lower it or proxy.resolution_px under another study.name"
        ):
            return train_network(model, source, self.recipe, seed=self.seed, checkpoint=self.checkpoint, hooks=hooks)

    def _record(self, result: TrainResult, data: ImageData, initial: InitialWeights) -> BaselineRecord:
        cost, predictor = complexity(self.whole), self.session.predictor
        latency = predictor.predict(self.whole)
        interval: dict[str, Any] = {
            "latency_low_ms": round(latency.low_ms, 6),
            "latency_high_ms": round(latency.high_ms, 6),
        }
        images = data.val_class_images
        row = TrialRecord(
            number=-self.place,
            outcome=Outcome.BASELINE,
            arch_id=self.whole.arch_id,
            accuracy=result.accuracy,
            standard_error=round(binomial_error(result.accuracy, sum(images)), 6),
            majority_accuracy=round(max(images) / sum(images), 6),
            val_loss=round(result.loss, 6),
            class_correct=result.class_correct,
            class_images=images,
            predicted_ms=round(latency.latency_ms, 6),
            macs_m=round(cost.macs / 1e6, 6),
            params_m=round(cost.params / 1e6, 6),
            peak_memory_mb=round(cost.peak_memory_bytes / 1e6, 6),
            cpu_s=round(result.cpu_s, 2),
            blocks="; ".join(" ".join(stage) for stage in self.whole.strings),
            **(interval if predictor.error is not None else {}),
        )
        return BaselineRecord(
            published=self.choice.name,
            row=row,
            epochs=len(result.epochs),
            resolution_px=self.network.resolution_px,
            last_map_px=last_map_px(self.network, self.network.resolution_px),
            weights_sha256=str(initial.origin.get("sha256", "")),
        )

    def _write(self, model: nn.Module, record: BaselineRecord, data: ImageData, initial: InitialWeights) -> None:
        """Write the trained weights and their spec. Raises: NasError."""
        plan, row = self.session.plan, record.row
        provenance = {
            **ImageSummary.of(data).input_facts,
            "baseline_of": plan.name,
            "accuracy": row.accuracy,
            "standard_error": row.standard_error,
            "val_loss": row.val_loss,
            "begun_with": dict(initial.origin),
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "command": plan.command,
        }
        save_weights(model, self.file(".safetensors"), input_metadata(self.network, provenance))
        write_text_atomically(self.file(".yaml"), dump_spec(self.network, provenance))
