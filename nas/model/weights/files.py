"""Forms of ``weights=``, and files of weights beside their specs; without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nas.core.errors import NasError
from nas.core.formatting import first_names

PRETRAINED: Final = "pretrained"
TIMM_PREFIX: Final = "timm/"
SAFETENSORS: Final = ".safetensors"
WEIGHT_SUFFIXES: Final = (SAFETENSORS, ".pth", ".pt", ".bin", ".tar")
SPEC_SUFFIXES: Final = (".yaml", ".yml")


def weights_folder(runs_dir: Path) -> Path:
    """Return the folder in which pretrained weights are looked for first."""
    return runs_dir / "weights"


def spec_beside(weights: Path) -> Path | None:
    """Return the spec file beside a file of weights, or None."""
    return next((path for suffix in SPEC_SUFFIXES if (path := weights.with_suffix(suffix)).is_file()), None)


def has_weights_beside(spec: Path) -> bool:
    """Whether there is a file of weights beside a spec file."""
    return _beside(spec) is not None


def weights_beside(spec: Path, field: str = "weights") -> Path:
    """Return the file of weights beside a spec file.

    ``field``: the setting's name, for errors.

    Raises: NasError if there is none, naming specs of the folder that have one.
    """
    if not spec.is_file():
        raise NasError(f"{field} {str(spec)!r}: no such spec file.")
    found = _beside(spec)
    if found is None:
        others = [other.name for other in sorted(spec.parent.glob("*.yaml")) if _beside(other)]
        those = f"; choose from {first_names(others)}" if others else ""
        raise NasError(f"{field} {str(spec)!r}: has no weights beside it ({spec.stem}{SAFETENSORS}){those}.")
    return found


def _beside(spec: Path) -> Path | None:
    return next((path for suffix in WEIGHT_SUFFIXES if (path := spec.with_suffix(suffix)).is_file()), None)
