"""Reopening of a study from storage and folder, for report and dashboard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.cli.resolve.spaces import make_space
from nas.cli.resolve.studies import resolve_study
from nas.core.errors import NasError

if TYPE_CHECKING:
    import optuna

    from nas.study.kind import StudyKind
    from nas.study.manifest import StudyManifest


class ReopenedStudy(NamedTuple):
    """A stored study with its ``plan``, ``manifest`` and study ``kind``.

    The kind renders its report again.
    """

    plan: Any
    manifest: StudyManifest
    study: optuna.Study
    kind: StudyKind


def reopen_study(name: str, storage: str | None, runs_dir: Path) -> ReopenedStudy:
    """Open the study ``name`` read-only from ``storage`` or its folder's storage.

    Raises: NasError.
    """
    from nas.methods import kind_of
    from nas.study import manifest as manifests

    found = resolve_study(name, runs_dir, storage)
    # An unknown study is reported before a missing folder.
    stored = found.manifest or manifests.read_manifest(found.folder)
    group = stored.settings.get("study", {})
    settings = {**stored.settings, "study": {**group, "name": name, "storage": found.storage}}
    manifest = replace(stored, settings=settings)
    kind = kind_of(settings, name)
    try:
        plan = kind.plan_of(manifest, found.folder, make_space, runs_dir=runs_dir, command=stored.command)
    except KeyError as error:
        raise NasError(
            f"{found.folder / manifests.CONFIG_FILE}: {error.args[0]}: missing; run the study's command again."
        ) from None
    except NasError as error:
        raise NasError(f"{found.folder / manifests.CONFIG_FILE}: {error}") from None
    return ReopenedStudy(plan, manifest, found.study, kind)
