"""Per-kernel times of whole networks, from ONNX Runtime's profiles."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from nas.arch.spec import ArchSpec
from nas.exporters.onnx.session import onnx_session
from nas.exporters.rewriting.forms import Forms
from nas.latency.arrays import FloatArray
from nas.latency.measure.backends import random_images

# Durations are whole microseconds, rounded down.
_HALF_US: Final = 0.5
# A kernel's time is the mean of its runs between these quantiles, each at the typical speed of the machine:
# interference only adds time, and of whole microseconds a mean tells more than a quantile.
_QUANTILES: Final = (0.1, 0.5)

Event = Mapping[str, Any]


class ProfiledNetwork:
    """A network whose every run is profiled, kernel by kernel.

    ``forms``: of its blocks, None for plain ones.
    """

    def __init__(self, spec: ArchSpec, *, threads: int, batch: int, seed: int, forms: Forms | None = None) -> None:
        from nas.exporters.graph import inference_graph
        from nas.exporters.onnx.graph import INPUT, onnx_model

        self._folder = tempfile.TemporaryDirectory(prefix="nas-profile-")
        graph = inference_graph(spec, batch=batch, seed=seed, forms=forms)
        model = onnx_model(graph).SerializeToString()
        self._session = onnx_session(model, threads, str(Path(self._folder.name) / "run"))
        self._feed = {INPUT: random_images(spec, batch, seed)}
        self._runs = 0

    def run(self) -> None:
        """Run the network once, on one batch of ``random_images``."""
        self._session.run(None, self._feed)
        self._runs += 1

    def finish(self, slowdowns: Sequence[float]) -> list[tuple[Event, float]]:
        """Kernels of one run in order: (event of the profile, time in microseconds).

        ``slowdowns``: for each run, how much slower than typical the machine was during it; NaN for a run that does not
        count, as further runs do not.
        """
        path = Path(self._session.end_profiling())
        nodes = [event for event in json.loads(path.read_text(encoding="utf-8")) if event["cat"] == "Node"]
        self._folder.cleanup()
        durations_us = np.array([node["dur"] for node in nodes], dtype=float).reshape(self._runs, -1)
        times_us = typical_times_us(durations_us[: len(slowdowns)], np.asarray(slowdowns)).tolist()
        return list(zip(nodes[: len(times_us)], times_us, strict=True))


def typical_times_us(durations_us: FloatArray, slowdowns: FloatArray) -> FloatArray:
    """Microseconds of kernels at the machine's typical speed, shape (kernels,).

    ``durations_us``: whole microseconds, shape (runs, kernels); ``slowdowns``: shape (runs,), see
    ``ProfiledNetwork.finish``.
    """
    is_counted = ~np.isnan(slowdowns)
    times_us = np.sort((durations_us[is_counted] + _HALF_US) / slowdowns[is_counted, None], axis=0)
    low, high = (round(quantile * len(times_us)) for quantile in _QUANTILES)
    return np.asarray(times_us[low : max(high, low + 1)].mean(axis=0))
