"""``python -m nas.supernet +space=mixnet``: train a supernet, or show one.

It is the first step of a search with estimator=supernet, which finds it ready.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.cli import app, hydra_config
from nas.cli.help_layout import entries, option_lines, paragraph
from nas.cli.search_plan import make_search_plan, spaces_help
from nas.core.errors import NasError, quoted
from nas.core.streams import write_lines

if TYPE_CHECKING:
    from rich.console import Console

    from nas.estimators.supernet import SupernetFile, SupernetScorer
    from nas.methods.search.config import SearchPlan

_NAME: Final = "supernet"
_FILE_PATTERN: Final = "**/supernet.safetensors"
_LIBRARIES: Final = ("torch", "timm", "nas")
_TRAINING: Final = ("epochs", "batch_size", "optimizer", "lr", "weight_decay", "warmup_epochs", "networks", "sandwich")
_PROXY: Final = ("resolution_px", "width_multiplier", "depth_multiplier", "min_map_px")
_ESTIMATOR: Final = "estimator"  # which nas.search chooses otherwise
_RANK: Final = "RANK"  # environment variable of processes that torchrun started


def main() -> None:
    """Console entry point."""
    app.run_command(command)


def command(arguments: list[str]) -> int:
    """Train the supernets of a search's settings, or show those of ``show=``."""
    if app.answer_option(_NAME, arguments, _help):
        return 0
    config = hydra_config.compose_config(_NAME, arguments)
    app.check_texts(config, *({"show"} & config.keys()))
    if config.get("show") is not None:
        app.check_flags(config, "json")
        _show(_files(Path(config["show"]).expanduser()), as_json=config["json"])
        return 0
    _train(_plan_of(config, arguments), arguments, as_json=config["json"])
    return 0


def make_plan(arguments: list[str]) -> SearchPlan:
    """Build the checked plan of the search whose supernet is trained.

    Imports neither torch nor Optuna. Raises: NasError.
    """
    return _plan_of(hydra_config.compose_config(_NAME, arguments), arguments)


def _plan_of(config: Mapping[str, Any], arguments: Sequence[str]) -> SearchPlan:
    plan = make_search_plan(config, ["python", "-m", "nas.supernet", *arguments], more_keys=("show",))
    if plan.estimator.name != _NAME:
        raise NasError(f"estimator.name {quoted(plan.estimator.name)}: has no supernet; leave estimator= out.")
    return plan


def _train(plan: SearchPlan, arguments: Sequence[str], *, as_json: bool) -> None:
    """Train what is not trained yet, and print what there is.

    Of the processes that torchrun started only the first prints, and holds the folder. Raises: NasError.
    """
    if _RANK not in os.environ:
        app.check_writable(plan.runs_dir)
    session = app.import_heavy("nas.study.session")
    from nas.core.console import StudyConsole
    from nas.estimators.scorers import supernets_of
    from nas.study.storage.ownership import exclusive_ownership
    from nas.training import is_first_process

    is_first = is_first_process()
    console = StudyConsole(stderr=as_json, quiet=not is_first)
    with exclusive_ownership(plan.folder, console) if is_first else nullcontext():
        evaluator = session.load_evaluator(
            plan, console, keep_weights=False, estimator=plan.estimator, space=plan.space
        )
        supernets = supernets_of(evaluator.scorer)
        for scorer in supernets:
            _prepare(scorer, console)
    if is_first:
        _show([scorer.path for scorer in supernets], as_json=as_json)
    if is_first and not as_json:
        write_lines(f"search with it: {search_command(arguments)}")


def _prepare(scorer: SupernetScorer, console: Console) -> None:
    from nas.core.console import print_lines, progress_bar

    if scorer.path.is_file():
        print_lines(console, f"{scorer.path}: is already trained")
    with progress_bar(console, f"training {scorer.names[0]}") as progress:
        scorer.prepare(progress, lambda text: print_lines(console, text))


def search_command(arguments: Sequence[str]) -> str:
    """Command of the search that finds the supernet of ``arguments`` ready."""
    from nas.core.credentials import masked_command

    given = {argument.lstrip("+").partition("=")[0] for argument in arguments}
    chosen = [] if _ESTIMATOR in given else [f"{_ESTIMATOR}={_NAME}"]
    words = [argument for argument in arguments if not argument.startswith(("json=", "show="))]
    return masked_command(["python", "-m", "nas.search", *words, *chosen])


def _files(path: Path) -> list[Path]:
    """The supernets at ``path``, a file or folder. Raises: NasError if there is none."""
    if not path.is_dir():
        return [path]
    found = sorted(path.glob(_FILE_PATTERN))
    if not found:
        raise NasError(f"show {quoted(str(path))}: there is no supernet in this folder; nas.supernet trains one.")
    return found


def _show(paths: Sequence[Path], *, as_json: bool) -> None:
    """Print what the supernets at ``paths`` were trained for. Raises: NasError."""
    from nas.estimators.supernet import read_supernet_file

    files = [read_supernet_file(path) for path in paths]
    if as_json:
        write_lines(json.dumps({"supernets": [_facts(file) for file in files]}))
        return
    from rich.console import Console

    from nas.core.console import print_lines

    for number, file in enumerate(files, start=1):
        member = f" (member {number} of {len(files)})" if len(files) > 1 else ""
        print_lines(Console(), f"{file.path}{member}", *(f"  {name}: {value}" for name, value in _lines(file)))


def _facts(file: SupernetFile) -> dict[str, Any]:
    return {
        "path": str(file.path),
        "size_bytes": file.size_bytes,
        "params": file.params,
        "tensors": len(file.shapes),
        "classes": file.classes,
        "identity": dict(file.identity),
    }


def _lines(file: SupernetFile) -> list[tuple[str, str]]:
    """What a person wants to know of a supernet, by name."""
    identity = file.identity
    versions = zip(_LIBRARIES, identity["versions"], strict=False)
    return [
        ("space", f"{identity['space']}, largest network {identity.get('largest network')}"),
        *([("task", identity["task"])] if "task" in identity else []),
        ("data", f"{_images(identity['data'])}, {file.classes} classes"),
        ("size", f"{file.params:,} parameters in {len(file.shapes):,} tensors, {file.size_bytes / 1e6:.2f} MB"),
        ("training", f"{_listed(identity['settings'], _TRAINING)}, seed {identity['seed']}"),
        ("networks", _listed(identity["settings"], _PROXY)),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions)),
    ]


def _images(data: Sequence[Any]) -> str:
    """Number and shape of the train images, from the file's identity."""
    shape = data[0] if data and isinstance(data[0], list) and data[0] else ["?"]
    size = f" of {'x'.join(map(str, shape[1:]))}" if shape[1:] else ""  # of detection and segmentation they differ
    return f"{shape[0]} train images{size}"


def _listed(settings: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {settings[name]}" for name in names if name in settings)


def _help() -> str:
    settings = entries(
        ("study.name study.seed runs_dir", "where: <runs_dir>/<study.name>/supernet/, as of the search of that name"),
        ("estimator.supernet.epochs estimator.supernet.members", "its training, see conf/estimator/supernet.yaml"),
        ("proxy.resolution_px proxy.width_multiplier proxy.min_map_px", "the size of its networks"),
        ("objective.task=segmentation data.root=/path/to/data", "networks of another task; detection, too"),
        ("data.root data.subset", "see --cfg job for all"),
        ("show=runs/mixnet-mnist_5k", "what a supernet was trained for: its file, or a folder with some"),
    )
    return f"""{paragraph(__doc__ or "")}

Spaces:
{spaces_help()}

Choices:
{hydra_config.choices_help("data", "proxy")}

Settings (name=value), those of nas.search and:
{settings}
{option_lines(_NAME, ("json=true", "what was trained or shown as one JSON object on stdout, all else on stderr"))}

Interrupted or killed, the same command resumes. With several GPUs:
torchrun --nproc-per-node=2 -m nas.supernet +space=mixnet"""


if __name__ == "__main__":
    main()
