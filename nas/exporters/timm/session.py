"""Folders for ``timm.create_model``, and the networks that it makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch

from nas.core.errors import NasError
from nas.exporters.formats import Run
from nas.exporters.graph import InferenceGraph
from nas.exporters.model_files import unopened
from nas.exporters.reference import torch_runner
from nas.exporters.standalone import save_weights
from nas.model.timm_folder import TIMM_CONFIG, write_timm_folder


def write_model(graph: InferenceGraph, path: Path) -> tuple[Path, ...]:
    """Write the weights of ``graph`` to ``path``, and timm's config beside them.

    Returns both paths. Weights are as they are in the training, nothing is folded. Raises: NasError for random ones.
    """
    if graph.state is None:
        raise NasError("format timm: the weights are random ones of a graph; draw them for the network instead.")
    state = {name: torch.as_tensor(array) for name, array in graph.state.items()}
    facts = {name: json.loads(text) for name, text in graph.metadata.items()}
    model = write_timm_folder(
        graph.spec, state, path.parent, data_config=_data_config(graph, facts), class_names=facts.get("class_names")
    )
    save_weights(model, path, graph.metadata)
    return path, path.parent / TIMM_CONFIG


def open_model(path: Path, threads: int = 1) -> Run:
    """Open a folder in timm, by its weights at ``path``.

    Raises: NasError if timm cannot.
    """
    try:
        model = timm.create_model(f"local-dir:{path.parent}", pretrained=True)
    except Exception as error:  # of a damaged file timm raises whatever its readers run into
        raise unopened(path.parent, "timm", error) from None
    return torch_runner(model.eval(), threads)


def open_graph(graph: InferenceGraph, threads: int = 1) -> Run:
    """Open ``graph`` in timm, by files that do not stay.

    Raises: NasError for random weights.
    """
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="nas-timm-") as folder:
        return open_model(write_model(graph, Path(folder) / "model.safetensors")[0], threads)


def _data_config(graph: InferenceGraph, facts: dict[str, Any]) -> dict[str, Any]:
    """How images are prepared, in timm's words."""
    px = graph.resolution_px
    steps = {**facts.get("normalisation", {}), **facts.get("preprocessing", {})}
    config = {name: steps[name] for name in ("mean", "std", "crop_pct", "interpolation") if name in steps}
    return {"input_size": (graph.spec.in_channels, px, px), **config}
