"""Networks and weights of an adaptation's steps, in the study's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from nas.arch.files import dump_spec, load_spec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically, write_text_atomically


@lru_cache(maxsize=64)
def _load_spec(path: Path, _mtime_ns: int, _size: int) -> ArchSpec:
    return load_spec(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFiles:
    """Networks that the steps kept: ``steps/<step>.yaml`` and ``.safetensors``.

    ``folder``: of the study. ``facts``: provenance of the specs that are written, such as class names and
    normalisation. Evaluated networks leave their weights in ``weights/<arch_id>.safetensors``.
    """

    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights_dir(self) -> Path:
        """Folder of the weights of evaluated networks."""
        return self.folder / "weights"

    def spec_path(self, step: int) -> Path:
        """Spec of the network of ``step``."""
        return self.folder / "steps" / f"{step:03}.yaml"

    def weights_path(self, step: int) -> Path:
        """Weights of the network of ``step``."""
        return self.spec_path(step).with_suffix(".safetensors")

    def arch(self, step: int) -> ArchSpec:
        """The network of ``step``. Raises: NasError if its file is lost or damaged."""
        path = self.spec_path(step)
        try:
            written = path.stat()
        except OSError as error:
            raise _lost_file(path, error) from None
        return _load_spec(path, written.st_mtime_ns, written.st_size)

    def weights(self, step: int) -> bytes:
        """Content of the weights' file. Raises: NasError if it is lost."""
        return _read_bytes(self.weights_path(step))

    @property
    def given_weights(self) -> Path:
        """Weights of the seed network that came from elsewhere."""
        return self.folder / "seed.safetensors"

    def seed_weights(self) -> bytes:
        """Content of ``given_weights``. Raises: NasError if it is lost."""
        return _read_bytes(self.given_weights)

    def keep(self, step: int, arch: ArchSpec) -> None:
        """Make the evaluated ``arch`` the network of ``step``; idempotent.

        Another worker may have done so, and deleted the evaluated weights since. Raises: NasError if its own are lost.
        """
        if self._is_kept(step, arch):
            return
        content = _read_bytes(self.weights_dir / f"{arch.arch_id}.safetensors")
        write_bytes_atomically(self.weights_path(step), content)
        write_text_atomically(self.spec_path(step), dump_spec(arch, self.facts))

    def _is_kept(self, step: int, arch: ArchSpec) -> bool:
        try:
            return self.weights_path(step).is_file() and self.arch(step).arch_id == arch.arch_id
        except NasError:
            return False

    def discard_others(self) -> None:
        """Delete weights of evaluated networks that no step needs; idempotent."""
        for path in self.weights_dir.glob("*.safetensors"):
            path.unlink(missing_ok=True)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _lost_file(path, error) from None


def _lost_file(path: Path, error: OSError) -> NasError:
    return NasError(f"{path}: cannot be read ({error.strerror}); restore it, or begin a study of another name.")
