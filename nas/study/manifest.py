"""A study's ``config.yaml``: command, versions, images and settings.

Reports are rendered from it without loading the images.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import yaml

from nas.core.credentials import mask_settings
from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, quoted
from nas.core.files import write_text_atomically
from nas.core.parsing import MAX_YAML_CHARACTERS, parse_yaml, read_text
from nas.core.version import __version__
from nas.data.summary import ImageSummary as Images
from nas.study.storage.study_format import STUDY_FORMAT, check_study_format, with_present_names

CONFIG_FILE: Final = "config.yaml"
PREDICTOR_FILE: Final = "latency.json"
REPORT_FILE: Final = "report.html"
_FORMAT: Final = "format"
_OTHER_FOLDER: Final = "give the folder of a study; networks that were trained are files in theirs, such as best.yaml"
_LIBRARIES: Final = ("torch", "timm", "optuna", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyManifest:
    """The content of a study's ``config.yaml``.

    The command that runs the study, library versions by name, its images, and ``settings`` by group.

    The file begins with the format of the study, see ``study_format``.
    """

    command: str
    versions: Mapping[str, str]
    images: Images
    settings: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Put it into ``folder``, whole or not at all."""
        facts = {
            _FORMAT: STUDY_FORMAT,
            "command": self.command,
            "versions": dict(self.versions),
            "images": asdict(self.images),
        }
        shown = mask_settings(_plain({**facts, **self.settings}))
        text = yaml.safe_dump(shown, sort_keys=False, default_flow_style=None)
        write_text_atomically(folder / CONFIG_FILE, text)


def read_manifest(folder: Path) -> StudyManifest:
    """What the study of ``folder`` keeps.

    Raises: NasError if the file is missing, is no such file, or is of a newer format.
    """
    path = folder / CONFIG_FILE
    try:
        settings = _read_yaml(path)
    except FileNotFoundError:
        raise NasError(
            f"{path}: does not exist, so that nothing is known of the study but its trials. Give the runs_dir that it "
            "was run with; a study that was killed before its first trial has to be resumed first."
        ) from None
    except (OSError, UnicodeDecodeError, NasError) as error:
        raise NasError(f"{path}: cannot be read: {error}") from None
    check_study_format(str(path), settings.pop(_FORMAT, None), _OTHER_FOLDER)
    missing = [name for name in ("command", "versions", "images") if name not in settings]
    if missing:
        raise NasError(f"{path}: {', '.join(missing)} missing; run the study's command again, which writes it anew.")
    images = from_mapping(Images, settings.pop("images"), f"{path}: images")
    groups = [name for name in ("versions", "study") if not isinstance(settings.get(name, {}), dict)]
    if groups:
        raise NasError(f"{path}: {groups[0]}: must be a mapping, not {quoted(settings[groups[0]])}.")
    return StudyManifest(
        command=str(settings.pop("command")),
        versions=settings.pop("versions"),
        images=images,
        settings=with_present_names(settings),
    )


def check_manifest_format(folder: Path) -> None:
    """Refuse a ``folder`` of a study of a newer format.

    A file that cannot be read is rewritten later.

    Raises: NasError.
    """
    path = folder / CONFIG_FILE
    try:
        settings = _read_yaml(path)
    except (OSError, UnicodeDecodeError, NasError):
        return
    check_study_format(str(path), settings.get(_FORMAT))


def _read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in the file; an empty one where it holds anything else."""
    found = parse_yaml(read_text(path, max_characters=MAX_YAML_CHARACTERS))
    return found if isinstance(found, dict) else {}


def library_versions() -> dict[str, str]:
    """Versions of this project and of what its results depend on, by name."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"nas": __version__, **libraries, "python": platform.python_version()}


def _plain(value: Any) -> Any:
    """``value`` with its tuples as lists, which YAML writes without a tag."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
