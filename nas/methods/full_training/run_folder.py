"""Folder of a full training: names of its files, and whom it belongs to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from nas.core.credentials import mask_settings
from nas.core.errors import NasError, quoted
from nas.core.files import write_text_atomically
from nas.core.parsing import MAX_YAML_CHARACTERS, parse_yaml, read_text
from nas.data.summary import ImageSummary
from nas.methods.full_training.config import TrainingPlan
from nas.study.manifest import CONFIG_FILE, REPORT_FILE, library_versions

RUN_FORMAT: Final = "nas.training/1"
LAST, BEST = "last", "best"  # stems of the weights and specs after the last and the best epoch
_ABSENT: Final = "(absent)"
_LEFTOVER: Final = re.compile(r"\.\w+\.\w+\.[0-9a-f]{8}")  # of write_bytes_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """Paths of a training's files."""

    path: Path

    @property
    def config(self) -> Path:
        """Command, versions, images, settings."""
        return self.path / CONFIG_FILE

    @property
    def checkpoint(self) -> Path:
        """State from which an interrupted training resumes."""
        return self.path / "checkpoint.pt"

    @property
    def log(self) -> Path:
        """A row per epoch."""
        return self.path / "log.csv"

    @property
    def results(self) -> Path:
        """Results of a finished training."""
        return self.path / "results.json"

    @property
    def report(self) -> Path:
        """The report page."""
        return self.path / REPORT_FILE

    def weights(self, stem: str) -> Path:
        """Weights after the last or best epoch."""
        return self.path / f"{stem}.safetensors"

    def spec(self, stem: str) -> Path:
        """Spec of those weights."""
        return self.path / f"{stem}.yaml"

    def remove_leftovers(self) -> None:
        """Delete what a process left that was killed while it wrote."""
        for path in self.path.glob(".*.*.*"):
            if _LEFTOVER.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def is_begun(self, identity: Mapping[str, Any]) -> bool:
        """Whether a training of the same settings was begun here.

        Raises: NasError naming what differs if another one was, or if the folder is a study's.
        """
        if not self.config.is_file():
            return False
        known = self._stored()
        if known.get("format") != RUN_FORMAT or not isinstance(known.get("identity"), dict):
            raise NasError(f"{self.path}: is not the folder of a training; choose another run.name.")
        before = known["identity"]
        changed = [key for key in {**before, **identity} if before.get(key, _ABSENT) != identity.get(key, _ABSENT)]
        if changed:
            key, *others = changed
            more = f" (and {len(others)} more: {', '.join(others[:3])})" if others else ""
            raise NasError(
                f"run {self.path.name!r} was begun with {key} = {quoted(before.get(key))}, now it is "
                f"{quoted(identity.get(key))}{more}; choose another run.name, or restore it."
            )
        return True

    def write_config(self, plan: TrainingPlan, images: ImageSummary) -> None:
        """Write what the run is, before its first step. Raises: NasError."""
        facts = {
            "format": RUN_FORMAT,
            "command": plan.command,
            "versions": library_versions(),
            "images": asdict(images),
            **plan.settings,
            "identity": plan.identity(),
        }
        plain = json.loads(json.dumps(facts))  # tuples are lists, which YAML writes without a tag
        text = yaml.safe_dump(mask_settings(plain), sort_keys=False, default_flow_style=None)
        write_text_atomically(self.config, text)

    def _stored(self) -> dict[str, Any]:
        try:
            found = parse_yaml(read_text(self.config, max_characters=MAX_YAML_CHARACTERS))
        except (OSError, UnicodeDecodeError, NasError) as error:
            raise NasError(f"{self.config}: cannot be read ({error}); choose another run.name, or delete it.") from None
        return found if isinstance(found, dict) else {}
