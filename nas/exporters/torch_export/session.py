"""Files of ``torch.export`` (.pt2), and torch programs that run them on the CPU."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, Final

import torch

from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically
from nas.exporters.formats import Run
from nas.exporters.graph import InferenceGraph
from nas.exporters.model_files import read_model, unopened
from nas.exporters.reference import torch_runner
from nas.exporters.torch_program import exported_program

_TENSORS: Final = ".pt"  # members that torch.load reads
_OBJECTS: Final = ("custom_obj", "opaque_obj")  # members that hold Python objects


def write_model(graph: InferenceGraph, path: Path) -> tuple[Path, ...]:
    """Write ``graph`` as a program of ``torch.export``; returns ``(path,)``."""
    stream = io.BytesIO()
    torch.export.save(exported_program(graph), stream, extra_files=dict(graph.metadata))
    write_bytes_atomically(path, stream.getvalue())
    return (path,)


def open_model(path: Path, threads: int = 1) -> Run:
    """Open a program of ``torch.export``.

    Raises: NasError if it cannot be read, or holds Python objects, which could run code.
    """
    content = read_model(path)
    try:
        _check_tensors_only(content, path)
        return torch_runner(torch.export.load(io.BytesIO(content)).module(), threads)
    except NasError:
        raise
    except Exception as error:  # of a damaged file torch raises whatever its readers run into
        raise unopened(path, "torch.export", error) from None


def open_graph(graph: InferenceGraph, threads: int = 1) -> Run:
    """Open ``graph`` as a program of ``torch.export``, in memory."""
    return torch_runner(exported_program(graph).module(), threads)


def _check_tensors_only(content: bytes, path: Path) -> None:
    """Check that torch reads nothing of a file but tensors and plain data.

    ``torch.export.load`` unpickles whatever else there is. Raises: NasError.
    """
    refused = NasError(f"{path}: holds Python objects, which are never loaded because they can run code.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            if member.file_size > len(content):  # torch stores members as they are
                raise NasError(f"{path}: {member.filename} is compressed; torch.export writes no such file.")
            name = member.filename.rpartition("/")[2]
            if name.startswith(_OBJECTS):
                raise refused
            if name.endswith(_TENSORS):
                try:
                    torch.load(io.BytesIO(archive.read(member)), weights_only=True, map_location="cpu")
                except Exception:
                    raise refused from None
            if name.endswith(".json") and _has_pickled(json.loads(archive.read(member))):
                raise refused


def _has_pickled(data: Any) -> bool:
    """Whether an archive's configuration says that a payload is pickled."""
    if isinstance(data, dict):
        return bool(data.get("use_pickle")) or any(map(_has_pickled, data.values()))
    return isinstance(data, list) and any(map(_has_pickled, data))
