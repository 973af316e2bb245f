"""Folder of an export, which is there whole or not at all."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from nas.core.errors import NasError

CARD_FILE: Final = "model_card.md"
LABELS_FILE: Final = "labels.txt"
PREPROCESSING_FILE: Final = "preprocess.json"
SPEC_FILE: Final = "network.yaml"
_HOST: Final = hashlib.sha256(platform.node().encode()).hexdigest()[:6]  # process ids are those of one machine


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Check that ``folder`` may be written.

    Raises: NasError if it holds an export already, unless ``overwrite``, or anything else, and for a place that cannot
    be replaced as a whole.
    """
    if folder.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise NasError(f"out {str(folder)!r}: is the current folder, or above it; give a folder of its own.")
    if folder.is_file():
        raise NasError(f"out {str(folder)!r}: is a file; give a folder.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / CARD_FILE).is_file() or not (folder / PREPROCESSING_FILE).is_file():
        raise NasError(f"out {str(folder)!r}: holds files that are no export; choose another folder.")
    if not overwrite:
        raise NasError(f"out {str(folder)!r}: holds an export already; overwrite=true replaces it, or choose another.")


@contextmanager
def staged_folder(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Context with an empty folder, which becomes ``folder`` if nothing is raised.

    It lies beside ``folder`` and is removed otherwise; one that a killed process of this machine left there is removed
    first. Raises: NasError as ``check_free``, and if it cannot be written.
    """
    check_free(folder, overwrite=overwrite)
    _remove_abandoned(folder)
    staged = folder.with_name(f".{folder.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}")
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        staged.mkdir(parents=True)
        yield staged
        check_free(folder, overwrite=overwrite)
        _replace(staged, folder)
    except OSError as error:
        reason = error.strerror or error
        raise NasError(f"out {str(folder)!r}: cannot be written to: {reason}; choose another.") from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        with suppress(OSError):  # of an export that failed; otherwise the first is not empty
            for parent in made:
                parent.rmdir()


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed exports to ``folder`` left beside it, on this machine."""
    for staged in folder.parent.glob(f".{glob.escape(folder.name)}.{_HOST}-*-*"):
        pid = staged.name.removeprefix(f".{folder.name}.{_HOST}-").partition("-")[0]
        if pid.isdecimal() and not _is_running(int(pid)):
            shutil.rmtree(staged, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _replace(staged: Path, folder: Path) -> None:
    """Move ``staged`` to ``folder``, whose earlier content is removed afterwards."""
    earlier = folder.with_name(f"{staged.name}.earlier")
    if folder.exists():
        folder.rename(earlier)
    try:
        staged.rename(folder)
    except OSError:
        if earlier.exists():
            earlier.rename(folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
