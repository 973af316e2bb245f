"""``python -m nas.train arch=mixnet_s data=imagefolder``: train a network in full.

The network is a published one, one of timm, or a spec file such as a winner's. With task=detection or
task=segmentation it gets a head that finds boxes or classes of pixels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from nas.cli import app, hydra_config
from nas.cli.help_layout import entries, option_lines, paragraph
from nas.cli.resolve.networks import is_spec_file, known_networks, resolve_arch
from nas.cli.resolve.weights import resolve_teacher, resolve_weights
from nas.core.streams import write_lines

if TYPE_CHECKING:
    from nas.methods.full_training import TrainedDenseNetwork, TrainedNetwork, TrainingPlan

_NAME: Final = "train"
_KEYS: Final = (
    "task",
    "arch",
    "weights",
    "teacher",
    "teacher_weights",
    "distillation",
    "head",
    "data",
    "recipe",
    "run",
    "json",
    "runs_dir",
)
_RANK: Final = "RANK"  # environment variable of processes that torchrun started


def main() -> None:
    """Console entry point."""
    app.run_command(command)


def command(arguments: list[str]) -> int:
    """Train a network, or go on; a finished training prints its result."""
    if app.answer_option(_NAME, arguments, _help):
        return 0
    config = hydra_config.compose_config(_NAME, arguments)
    plan = _plan_of(config, arguments)
    result = finished_or_trained(plan, to_stderr=config["json"])
    if result is not None and os.environ.get(_RANK, "0") == "0":
        _show(plan, result, as_json=config["json"])
    return 0


def make_plan(arguments: list[str]) -> TrainingPlan:
    """Build the checked plan of a training; loads no torch but for ``timm/NAME``.

    Raises: NasError.
    """
    return _plan_of(hydra_config.compose_config(_NAME, arguments), arguments)


def _plan_of(config: Mapping[str, Any], arguments: Sequence[str]) -> TrainingPlan:
    app.check_keys(config, _KEYS)
    app.check_flags(config, "json")
    app.check_texts(config, "task", "arch", "weights", "teacher", "teacher_weights")
    from nas.arch.files import load_spec_file
    from nas.core.credentials import masked_command
    from nas.methods.full_training import TrainingPlan

    arch = resolve_arch(config["arch"])
    plan = TrainingPlan.of(
        config,
        arch=arch,
        origin=load_spec_file(config["arch"]).provenance if is_spec_file(config["arch"]) else None,
        weights=resolve_weights(config["weights"]),
        teacher=resolve_teacher(config["teacher"], config["teacher_weights"]),
        runs_dir=app.runs_dir(config),
        command=masked_command(["python", "-m", "nas.train", *arguments]),
    )
    app.check_images(plan.data)
    return plan


def _finished(plan: TrainingPlan) -> TrainedNetwork | TrainedDenseNetwork | None:
    """The result of a training that is finished, without loading torch.

    Raises: NasError if the folder belongs to another one.
    """
    from nas.methods.full_training.results import read_results
    from nas.methods.full_training.run_folder import RunFolder

    folder = RunFolder(path=plan.folder)
    return read_results(folder.results) if folder.is_begun(plan.identity()) and folder.results.is_file() else None


def finished_or_trained(
    plan: TrainingPlan, *, to_stderr: bool, quiet: bool = False
) -> TrainedNetwork | TrainedDenseNetwork | None:
    """The result of a training, which is finished already or trained now.

    ``to_stderr``: progress goes there. None in all but the first of the processes that torchrun started, which alone
    prints. Raises: NasError.
    """
    if (result := _finished(plan)) is not None:
        return result
    if _RANK not in os.environ:
        app.check_writable(plan.runs_dir)
    session = app.import_heavy("nas.methods.full_training.session")
    from nas.core.console import StudyConsole
    from nas.training import is_first_process

    console = StudyConsole(stderr=to_stderr, quiet=quiet or not is_first_process())
    trained: TrainedNetwork | TrainedDenseNetwork | None = session.run_training(plan, console)
    return trained


def _show(plan: TrainingPlan, result: TrainedNetwork | TrainedDenseNetwork, *, as_json: bool) -> None:
    from nas.core.formatting import shown_path
    from nas.methods.full_training.results import result_lines
    from nas.methods.full_training.run_folder import RunFolder

    if as_json:
        write_lines(json.dumps({"folder": str(plan.folder), **_facts(result)}))
        return
    write_lines(*result_lines(result, plan.folder), f"open {shown_path(RunFolder(path=plan.folder).report)}")


def _facts(result: TrainedNetwork | TrainedDenseNetwork) -> dict[str, Any]:
    from nas.methods.full_training.results import TrainedNetwork

    facts = asdict(result)
    for stem in ("last", "best"):
        del facts[stem]["confusion"]
    if isinstance(result, TrainedNetwork):
        for stem, scored in (("last", result.last), ("best", result.best)):
            facts[stem]["standard_error"] = scored.standard_error
            facts[stem]["class_correct"] = [correct for correct, _ in scored.class_counts(len(result.class_names))]
    return facts


def _help() -> str:
    settings = entries(
        ("task=TASK", "detection (boxes) or segmentation (masks) of data.root; also selects recipe=TASK"),
        ("arch=NAME", "mixnet_s, timm/fbnetc_100, or a spec file such as runs/my-study/winners/winner_1.yaml"),
        ("weights=pretrained", "weights to begin with: timm's; of another network: timm/NAME, SPEC.yaml; a file"),
        ("teacher=timm/NAME", "a network to learn from, or SPEC.yaml with its weights; teacher_weights=FILE"),
        ("distillation.temperature distillation.share", "of the teacher's soft targets"),
        ("head.halve head.output_stride", "of detection and segmentation: the head, see --cfg job for all"),
        ("recipe.epochs recipe.batch_size recipe.lr", "the training, see conf/recipe/ for all"),
        ("recipe.resolution_px=160", "input side in px; without it the network's own"),
        ("data.root data.subset", "the images; all are used, unless data.subset limits them"),
        ("run.name run.seed runs_dir", "where: <runs_dir>/<run.name>/; the same name resumes"),
    )
    return f"""{paragraph(__doc__ or "")}

Recipes:
{hydra_config.describe_choices("recipe", hydra_config.choices("recipe"), "recipe=")}

Choices:
{hydra_config.choices_help("data")}

Settings (name=value):
{settings}
{option_lines(_NAME, ("json=true", "the result as one JSON object on stdout, all else on stderr"))}

Results are in <runs_dir>/<run.name>/: report.html, log.csv, and weights with
their spec after the last and the best epoch. Interrupted or killed, the same
command resumes. With several GPUs:
torchrun --nproc-per-node=2 -m nas.train arch=mixnet_s data=imagefolder ...

{known_networks()}"""


if __name__ == "__main__":
    main()
