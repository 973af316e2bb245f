"""``python -m nas.search +space=mixnet``: search a space for networks that are accurate and fast on this machine."""

from __future__ import annotations

import shlex
from typing import Any, Final

from nas import cli, composing, sweep
from nas.arch.errors import NasError
from nas.help_text import entries, options, paragraph
from nas.spaces import make_space

_SETTINGS: Final = ("data", "proxy", "latency", "objective", "constraint", "sampler", "pruner", "engine", "study")
_KEYS: Final = (*_SETTINGS, "space", "runs_dir", "json")


def main() -> None:
    """Console entry point."""
    cli.run(command)


def command(arguments: list[str]) -> int:
    """Check everything that can be checked in a moment, then load what is heavy and search."""
    return sweep.run(arguments, sweep.Command("search", make_plan, ("nas.study.results", "SEARCH"), _help))


def make_plan(arguments: list[str]) -> Any:
    """A checked ``SearchPlan`` from command-line overrides; loads neither torch nor Optuna. Raises: NasError."""
    config = composing.compose_config("search", arguments)
    cli.check_keys(config, _KEYS, optional=("space",))
    cli.check_flags(config, "json")
    if "space" in config and not config["space"]:
        raise NasError("space: the configuration is empty; see the README for what a space needs.")
    if not config.get("space"):
        raise NasError(f"which space? Add one of these:\n{_spaces()}")
    from nas.proxy.sources import check_data
    from nas.study.search_plan import SearchPlan
    from nas.study.urls import masked

    space_config = dict(config["space"])
    plan = SearchPlan.of(
        config,
        space=make_space(space_config),
        space_config=space_config,
        runs_dir=cli.runs_dir(config),
        command=masked(shlex.join(["python", "-m", "nas.search", *arguments])),
    )
    check_data(plan.data)
    return plan


def _spaces() -> str:
    return composing.listed("space", composing.choices("space"), "+space=")


def _help() -> str:
    groups = ("data", "proxy", "latency", "objective", "sampler", "pruner", "engine")
    settings = entries(
        ("study.name study.n_trials study.seed", "the study; the same name goes on where it stopped"),
        ("study.first=NAME", "the best networks of that study are trained first"),
        *sweep.STORAGE,
        *sweep.LIMITS,
        ("data.root proxy.epochs proxy.width_multiplier objective.target_ms runs_dir", "see --cfg job for all"),
        *sweep.WORKERS,
    )
    several = "space=mixnet,mobilenet_v3 study.seed=0,1,2"
    return f"""{paragraph(__doc__ or "")}

Spaces:
{_spaces()}

Experiments, complete and named after themselves:
{composing.listed("experiment", composing.presets("search"), "experiment=")}

Choices:
{composing.alternatives(*groups)}

Settings (name=value):
{settings}
{options("search", *sweep.options(several))}

Results stand in <runs_dir>/<study.name>/: winners/, trials.csv, report.html;
the study in <runs_dir>/optuna.db."""


if __name__ == "__main__":
    main()
