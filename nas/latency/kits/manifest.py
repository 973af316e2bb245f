"""Manifest of a kit: networks, protocol, and hashes of files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from nas.arch.files import dump_spec, parse_spec
from nas.arch.spec import ArchSpec
from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, quoted
from nas.core.files import write_text_atomically
from nas.core.parsing import MAX_JSON_CHARACTERS, parse_json, read_text
from nas.core.validation import MAX_SEED, MAX_THREADS, check_number
from nas.latency.kits.runtimes import kit_runtime
from nas.latency.predictors.queue_model import MIN_NETWORKS

KIT_FORMAT: Final = "nas.kit/1"
MANIFEST: Final = "manifest.json"
NETWORKS: Final = "networks"  # folder
REFERENCE: Final = "reference"  # number of the reference network
_NUMBER: Final = re.compile(rf"\d{{3,9}}|{REFERENCE}")
_PATH: Final = re.compile(rf"{NETWORKS}/[\w-][\w.-]{{0,99}}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_MAX_NETWORKS: Final = 2000
MAX_PASSES: Final = 9
_MAX_BATCH: Final = 1024
_MAX_PAUSE_S: Final = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How each network is measured.

    ``passes``: how often, one time after all others. Each: ``warmup_runs``, then at least ``runs`` and for at least
    ``seconds``, with ``pause_s`` between networks in which the device cools.

    Raises: NasError for values out of range.
    """

    threads: int = 1
    batch: int = 1
    passes: int = 2
    warmup_runs: int = 5
    runs: int = 20
    seconds: float = 0.5
    pause_s: int = 2

    def __post_init__(self) -> None:
        check_number("threads", self.threads, low=1, high=MAX_THREADS, whole=True)
        check_number("batch", self.batch, low=1, high=_MAX_BATCH, whole=True)
        check_number("pause_s", self.pause_s, low=0, high=_MAX_PAUSE_S, whole=True)
        check_number("seconds", self.seconds, low=0, high=1000, open_low=True)
        check_number("passes", self.passes, low=1, high=MAX_PASSES, whole=True)
        for name in ("warmup_runs", "runs"):
            check_number(name, getattr(self, name), low=1, high=1000, whole=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class KitSettings:
    """What a kit is for.

    ``runtime``, ``accelerator`` and ``precision``: see ``runtimes.py``. ``n``: number of networks; ``seed``: of their
    choice.

    Raises: NasError for values out of range, and for what the runtime's tool does not run.
    """

    runtime: str
    accelerator: str
    precision: str
    n: int = 100
    seed: int = 0
    protocol: Protocol = field(default_factory=Protocol)

    def __post_init__(self) -> None:
        runtime = kit_runtime(self.runtime)
        runtime.mode(self.accelerator, self.precision)
        check_number("n", self.n, low=MIN_NETWORKS, high=_MAX_NETWORKS, whole=True)
        check_number("seed", self.seed, low=0, high=MAX_SEED, whole=True)
        if runtime.most_images is not None and self.protocol.batch > runtime.most_images:
            raise NasError(
                f"batch {self.protocol.batch}: runtime={runtime.name} runs one image at a time; leave it out."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class KitNetwork:
    """A network of a kit.

    ``number``: three digits or more, by which results name it. ``files``: hashes (SHA-256) by path in the kit, that of
    the network first.
    """

    number: str
    spec: ArchSpec
    files: Mapping[str, str]

    @property
    def file(self) -> str:
        """Path in the kit of the file that the runtime opens."""
        return next(iter(self.files))

    def to_dict(self) -> dict[str, Any]:
        """The network as plain data."""
        return {
            "number": self.number,
            "arch_id": self.spec.arch_id,
            "spec": dump_spec(self.spec),
            "files": dict(self.files),
        }

    @classmethod
    def from_dict(cls, data: Any, where: str) -> KitNetwork:
        """Network from the plain data of ``to_dict``. Raises: NasError naming the field."""
        if not isinstance(data, Mapping) or set(data) != {"number", "arch_id", "spec", "files"}:
            raise NasError(f"{where}: must have number, arch_id, spec and files.")
        number, files = data["number"], data["files"]
        if not isinstance(number, str) or not _NUMBER.fullmatch(number):
            raise NasError(f"{where}.number {quoted(number)}: must be three digits or more, or {REFERENCE}.")
        if not isinstance(data["spec"], str):
            raise NasError(f"{where}.spec: must be the text of a spec file.")
        if not isinstance(files, Mapping) or not files or not all(map(_is_file, files.items())):
            raise NasError(f"{where}.files: must be hashes (SHA-256) by path below {NETWORKS}/.")
        spec = parse_spec(data["spec"]).arch
        if spec.arch_id != data["arch_id"]:
            raise NasError(f"{where}.spec: is network {spec.arch_id}, not {quoted(data['arch_id'])}.")
        return cls(number=number, spec=spec, files=dict(files))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """A kit; ``reference`` is measured beside each of ``networks``."""

    settings: KitSettings
    reference: KitNetwork
    networks: tuple[KitNetwork, ...]

    @property
    def kit_id(self) -> str:
        """Hash of what is measured and how, hex; see ``kit_id_of``."""
        return kit_id_of(self.settings, self.reference.spec, [network.spec for network in self.networks])

    @property
    def files(self) -> tuple[str, ...]:
        """Paths in the kit of all networks' files."""
        return tuple(path for network in (self.reference, *self.networks) for path in network.files)

    def save(self, folder: Path) -> None:
        """Write the manifest into ``folder``."""
        data = {
            "format": KIT_FORMAT,
            "kit_id": self.kit_id,
            "settings": asdict(self.settings),
            "reference": self.reference.to_dict(),
            "networks": [network.to_dict() for network in self.networks],
        }
        write_text_atomically(folder / MANIFEST, json.dumps(data, indent=1) + "\n")


def _is_file(item: tuple[object, object]) -> bool:
    """Whether an item of ``files`` is a path in the kit and a hash."""
    path, digest = item
    return isinstance(path, str) and isinstance(digest, str) and bool(_PATH.fullmatch(path) and _HASH.fullmatch(digest))


def kit_id_of(settings: KitSettings, reference: ArchSpec, specs: Sequence[ArchSpec]) -> str:
    """Hash of what a kit measures and how, ten hex digits."""
    data = [KIT_FORMAT, asdict(settings), reference.arch_id, [[spec.arch_id, spec.resolution_px] for spec in specs]]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:10]


def load_kit(folder: Path) -> Kit:
    """Kit in ``folder``.

    Raises: NasError if there is none, or its manifest is of another version or damaged.
    """
    path = folder / MANIFEST
    try:
        data = parse_json(read_text(path, max_characters=MAX_JSON_CHARACTERS))
    except FileNotFoundError:
        raise NasError(f"path {str(folder)!r}: no kit ({MANIFEST} is missing); device=bundle writes one.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise NasError(f"{path}: cannot be read: {reason}.") from None
    except NasError as error:
        raise NasError(f"{path}: {error}") from None
    if not isinstance(data, dict) or data.get("format") != KIT_FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise NasError(f"{path}: format {quoted(found)} is not {KIT_FORMAT}; write the kit anew.")
    try:
        kit = _kit(data)
    except NasError as error:
        raise NasError(f"{path}: {error}") from None
    if kit.kit_id != data.get("kit_id"):
        raise NasError(
            f"{path}: kit_id {quoted(data.get('kit_id'))}: the content is that of {kit.kit_id}; it was changed."
        )
    return kit


def _kit(data: Mapping[str, Any]) -> Kit:
    settings, networks = data.get("settings"), data.get("networks")
    if not isinstance(settings, Mapping) or not isinstance(networks, list):
        raise NasError("settings and networks are missing.")
    protocol = from_mapping(Protocol, settings.get("protocol"), "settings.protocol")
    return Kit(
        settings=from_mapping(KitSettings, {**settings, "protocol": protocol}, "settings"),
        reference=KitNetwork.from_dict(data.get("reference"), "reference"),
        networks=tuple(KitNetwork.from_dict(one, f"networks[{index}]") for index, one in enumerate(networks)),
    )
