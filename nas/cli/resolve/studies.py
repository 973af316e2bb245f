"""Resolution of study names: one in ``runs_dir``, or a folder with a slash."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nas.core.credentials import MASK
from nas.core.errors import NasError, quoted

if TYPE_CHECKING:
    import optuna

    from nas.study.manifest import StudyManifest


class FoundStudy(NamedTuple):
    """A started study in ``storage`` (None: that of its runs_dir).

    ``manifest``: the metadata in its ``folder``; None where that is missing.
    """

    study: optuna.Study
    storage: str | None
    folder: Path
    manifest: StudyManifest | None


def resolve_study(text: str, runs_dir: Path, storage: str | None) -> FoundStudy:
    """Open the study that ``text`` names, read-only.

    ``storage``: its URL, where its folder does not record one.

    Raises: NasError that lists the existing studies.
    """
    from nas.study import catalog, manifest
    from nas.study.config import RecordSettings

    folder = Path(text).expanduser() if "/" in text else runs_dir / text
    known = manifest.read_manifest(folder) if (folder / manifest.CONFIG_FILE).is_file() else None
    stored = known.settings.get("study", {}).get("storage") if known else None
    if not isinstance(stored, str | None):
        raise NasError(f"{folder / manifest.CONFIG_FILE}: study.storage: {quoted(stored)} is not a string or null.")
    if storage is None and MASK in (stored or ""):
        raise NasError(f"study {text!r}: is in {stored}, whose password is not kept; give the whole URL as storage=.")
    storage = storage or stored
    url = RecordSettings(storage=storage).url(folder.parent)
    return FoundStudy(catalog.load_study(url, folder.name), storage, folder, known)
