"""Notes and files of a study and its trials, stored for optuna-dashboard.

They are system attributes of the study, because finished trials accept no attributes. The format is optuna-dashboard's
(``save_note``, and its layout of uploaded artifacts), implemented here because a search runs without that package.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial

from nas.core.files import write_bytes_atomically
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.storage.optuna_private import study_id, trial_id

ARTIFACTS: Final = "artifacts"  # the folder below runs_dir
_STATE: Final = "nas:shown"
_NAMESPACE: Final = uuid.UUID("6b7d3c52-2f0e-5d1b-9c38-0c2a6f1b7e54")
_TYPES: Final = {
    ".svg": "image/svg+xml",
    ".yaml": "application/yaml",
    ".html": "text/html",
    ".csv": "text/csv",
    ".py": "text/x-python",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardBoard:
    """Notes and attached files of one ``study`` in optuna-dashboard.

    ``folder`` holds the files, each under its id. A ``trial`` of None in a method means the study itself.

    ``known`` caches the study's system attributes: they are read once and updated with each write.
    """

    study: optuna.Study
    folder: Path
    known: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, study: optuna.Study, folder: Path) -> DashboardBoard:
        """The board of ``study`` in its current state."""
        return cls(study=study, folder=folder, known=system_attributes(study))

    def note(self, trial: FrozenTrial | None = None) -> str:
        """The Markdown note of the study or ``trial``; empty if there is none."""
        start = f"{_prefix(trial)}note_str:"
        parts: list[str] = []
        while (part := self.known.get(f"{start}{len(parts)}")) is not None:
            parts.append(part)
        return "".join(parts)

    def write_note(self, text: str, trial: FrozenTrial | None = None) -> bool:
        """Write a note, unless it is unchanged or was edited by a person.

        Returns whether the note was written.
        """
        before, signed = self.note(trial), _signed(text)
        if before == signed or not (_is_ours(before) or not before):
            return False
        prefix = _prefix(trial)
        version = int(self.known.get(f"{prefix}note_ver", 0)) + 1  # the dashboard detects concurrent edits by it
        for key in [key for key in self.known if key.startswith(f"{prefix}note_str:") and not key.endswith(":0")]:
            self._set(key, "")  # parts of a note that the dashboard had split
        # A single write: a note cut off by a kill would have no valid digest and pass for one edited by a person.
        self._set(f"{prefix}note_str:0", signed)
        self._set(f"{prefix}note_ver", version)
        return True

    def set_facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Set (name, value) ``facts`` as user attributes of the study.

        The dashboard lists them on its first page.
        """
        before = self.study.user_attrs
        for name, value in facts:
            if before.get(name) != value:
                self.study.set_user_attr(name, value)

    def has(self, name: str, trial: FrozenTrial | None = None) -> bool:
        """Whether a file called ``name`` is attached to the study or ``trial``."""
        return self._key(name, trial) in self.known and (self.folder / self._id(name, trial)).is_file()

    def attach(self, name: str, content: bytes, trial: FrozenTrial | None = None) -> str:
        """Attach a file, replacing one of the same name; return its URL path."""
        path = self.folder / self._id(name, trial)
        write_bytes_atomically(path, content)
        mimetype = _TYPES.get(Path(name).suffix, "application/octet-stream")
        facts = {"artifact_id": path.name, "filename": name, "mimetype": mimetype, "encoding": None}
        self._set(self._key(name, trial), json.dumps(facts))
        return self.address(name, trial)

    def remove_except(self, names: Collection[str]) -> None:
        """Remove the study's attachments whose names are not in ``names``."""
        for key in [key for key in self.known if key.startswith("artifacts:")]:
            facts = json.loads(self.known[key])
            if facts and facts["filename"] not in names and key == self._key(facts["filename"], None):
                self._set(key, json.dumps(None))
                (self.folder / facts["artifact_id"]).unlink(missing_ok=True)

    def mark(self, state: str) -> None:
        """Record that notes and files are up to date at ``state``."""
        self._set(_STATE, state)

    def is_marked(self, state: str) -> bool:
        """Whether notes and files are up to date at ``state``, and the files exist."""
        attached = [json.loads(value) for key, value in self.known.items() if key.startswith("artifacts:")]
        files = (self.folder / facts["artifact_id"] for facts in attached if facts)
        return self.known.get(_STATE) == state and all(path.is_file() for path in files)

    def address(self, name: str, trial: FrozenTrial | None = None) -> str:
        """URL path of an attached file in the dashboard."""
        owner = f"{study_id(self.study)}" + (f"/{trial_id(trial)}" if trial else "")
        return f"/artifacts/{owner}/{self._id(name, trial)}"

    def _id(self, name: str, trial: FrozenTrial | None) -> str:
        """Deterministic file id from study, trial and name.

        A file that is written again replaces the previous one.
        """
        owner = "" if trial is None else str(trial.number)
        return str(uuid.uuid5(_NAMESPACE, f"{self.study.study_name}/{owner}/{name}"))

    def _key(self, name: str, trial: FrozenTrial | None) -> str:
        owner = "artifacts:" if trial is None else f"dashboard:artifacts:{trial_id(trial)}:"
        return owner + self._id(name, trial)

    def _set(self, key: str, value: str | int) -> None:
        """Write an attribute if it differs: every write is a database commit."""
        if self.known.get(key) != value:
            set_system_attribute(self.study, key, value)
            self.known[key] = value


def _prefix(trial: FrozenTrial | None) -> str:
    return "dashboard:" if trial is None else f"dashboard:{trial_id(trial)}:"


def _signed(text: str) -> str:
    """``text`` with its digest in a Markdown comment.

    The digest detects notes that were edited by hand.
    """
    body = text.rstrip() + "\n"
    data = body.encode(errors="backslashreplace")  # no database takes the surrogates of undecodable file names
    return f"{data.decode()}\n[//]: # (nas {sha256(data).hexdigest()[:12]})\n"


def _is_ours(note: str) -> bool:
    """Whether ``note`` was written by this module and not edited since."""
    body, mark, _ = note.rpartition("\n[//]: # (nas ")
    return bool(mark) and _signed(body) == note
