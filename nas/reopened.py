"""A study that was begun, opened again from its storage and its folder, for nas.report and nas.dashboard."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.spaces import make_space
from nas.studies import find_study

if TYPE_CHECKING:
    import optuna

    from nas.study.begun import Begun


class Reopened(NamedTuple):
    """A study with its ``plan`` and how it was begun; ``results`` tells it again: the module of its kind of study."""

    plan: Any
    begun: Begun
    study: optuna.Study
    results: ModuleType


def reopen(name: str, storage: str | None, runs_dir: Path) -> Reopened:
    """The study ``name``, which is only read, in ``storage`` or else where its folder says. Raises: NasError."""
    from nas.study import begun

    study, storage, folder, known_begun = find_study(name, runs_dir, storage)
    found = known_begun or begun.read(folder)  # an unknown study is told before a folder that is missing
    settings = {**found.settings, "study": {**found.settings["study"], "name": name, "storage": storage}}
    known: dict[str, Any] = {"runs_dir": runs_dir, "command": found.command}
    if "space" in settings:
        from nas.study.search_plan import SearchPlan

        space = settings["space"]
        plan: Any = SearchPlan.of(settings, space=make_space(space), space_config=space, **known)
        return Reopened(plan, found, study, import_module("nas.study.results"))
    from nas.arch.files import load
    from nas.compound.plan import BASELINE_FILE, CompoundPlan

    plan = CompoundPlan.of(settings, baseline=load(folder / BASELINE_FILE), **known)
    return Reopened(plan, found, study, import_module("nas.compound.results"))
