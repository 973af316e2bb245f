"""A study that was begun, opened again from its storage and its folder, for nas.report and nas.dashboard."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.cli.resolve.spaces import make_space
from nas.cli.resolve.studies import resolve_study

if TYPE_CHECKING:
    import optuna

    from nas.study.manifest import StudyManifest


class ReopenedStudy(NamedTuple):
    """A study with its ``plan`` and how it was begun; ``results`` tells it again: the module of its kind of study."""

    plan: Any
    manifest: StudyManifest
    study: optuna.Study
    results: ModuleType


def reopen_study(name: str, storage: str | None, runs_dir: Path) -> ReopenedStudy:
    """The study ``name``, which is only read, in ``storage`` or else where its folder says. Raises: NasError."""
    from nas.study import manifest

    study, storage, folder, known = resolve_study(name, runs_dir, storage)
    found = known or manifest.read_manifest(folder)  # an unknown study is told before a folder that is missing
    settings = {**found.settings, "study": {**found.settings["study"], "name": name, "storage": storage}}
    common: dict[str, Any] = {"runs_dir": runs_dir, "command": found.command}
    if "space" in settings:
        from nas.methods.search.config import SearchPlan

        space = settings["space"]
        plan: Any = SearchPlan.of(settings, space=make_space(space), space_config=space, **common)
        return ReopenedStudy(plan, found, study, import_module("nas.methods.search.conclude"))
    from nas.arch.files import load_spec
    from nas.methods.scaling.config import BASELINE_FILE, ScalingPlan

    plan = ScalingPlan.of(settings, baseline=load_spec(folder / BASELINE_FILE), **common)
    return ReopenedStudy(plan, found, study, import_module("nas.methods.scaling.conclude"))
