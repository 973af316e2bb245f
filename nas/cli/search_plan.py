"""Plan of a search from a composed configuration, for several commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from nas.cli import app, hydra_config
from nas.cli.resolve.spaces import make_space
from nas.cli.resolve.weights import resolve_baselines
from nas.core.errors import NasError

if TYPE_CHECKING:
    from nas.methods.search.config import SearchPlan

_KEYS: Final = (
    "data", "proxy", "estimator", "latency", "objective", "head", "constraint", "sampler", "pruner", "engine", "study",
    "space", "runs_dir", "json",
)  # fmt: skip


def make_search_plan(config: Mapping[str, Any], command: Sequence[str], *, more_keys: Sequence[str] = ()) -> SearchPlan:
    """Build a checked plan from ``config``.

    ``command``: the words that compose it again. ``more_keys``: of the command alone. Imports neither
    torch nor Optuna, but for baselines of timm. Raises: NasError.
    """
    app.check_keys(config, (*_KEYS, *more_keys), optional=("space",))
    app.check_flags(config, "json")
    if "space" in config and not config["space"]:
        raise NasError("space: the configuration is empty; see search_spaces/README.md for what a space needs.")
    if not config.get("space"):
        raise NasError("which space? Add one of these:", choices=spaces_help())
    from nas.core.credentials import masked_command
    from nas.methods.search.config import SearchPlan

    space_config = dict(config["space"])
    plan = SearchPlan.of(
        config,
        space=make_space(space_config),
        space_config=space_config,
        runs_dir=app.runs_dir(config),
        command=masked_command(list(command)),
    )
    app.check_images(plan.data)
    plan.check_files()
    return replace(plan, baselines=resolve_baselines(plan.study.baselines))  # last: timm/NAME loads torch


def spaces_help() -> str:
    """Help text of the spaces."""
    return hydra_config.describe_choices("space", hydra_config.choices("space"), "+space=")
