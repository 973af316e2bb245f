"""A benchmark from its plan to its results; measured networks are kept."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from nas.core.files import file_sha256
from nas.core.formatting import ms_with_error, plural
from nas.core.progress import ProgressCallback
from nas.exporters.deployment.network import load_exported_network
from nas.latency.bench.forms import OpenedForm, open_forms
from nas.latency.bench.plan import BenchNetwork, BenchPlan
from nas.latency.bench.results import BenchResult, BenchRow, read_bench, write_bench
from nas.latency.measure.backends import random_images
from nas.latency.measure.side_by_side import measure_side_by_side
from nas.latency.measure.system_load import SystemLoad
from nas.latency.measure.timer import RUNS
from nas.model.weights.files import SPEC_SUFFIXES, weights_beside

RESULTS_FILE: Final = "results.json"
Say = Callable[[str], object]


def run_benchmark(plan: BenchPlan, *, say: Say, progress: ProgressCallback | None = None) -> list[BenchResult]:
    """Measure what ``plan`` asks for and its folder lacks.

    Returns the results in the order of the networks.

    Each network is written in every form, and the forms take turns (``measure_side_by_side``). ``say`` gets a line for
    each network, ``progress(done, total)`` counts of forms. What was measured is stored after each network.

    Raises: NasError in one line for what cannot be written, opened or run.
    """
    path = plan.folder / RESULTS_FILE
    stored = {result.key: result for result in read_bench(path)}
    keys = [result_key(plan, network) for network in plan.networks]
    left = [(network, key) for network, key in zip(plan.networks, keys, strict=True) if key not in stored]
    if len(left) < len(keys):
        say(f"{len(keys) - len(left)} of {plural(len(keys), 'network')} measured already")
    started, forms = time.monotonic(), len(plan.forms)
    for done, (network, key) in enumerate(left):
        step = _counter(progress, done * forms, len(left) * forms)
        stored[key] = result = _measure(plan, network, key, step)
        write_bench(path, list(stored.values()))
        say(f"{_line(result)}{_time_left(time.monotonic() - started, done + 1, len(left))}")
    return [stored[key] for key in keys]


def result_key(plan: BenchPlan, network: BenchNetwork) -> str:
    """Hash of all that the results of a network depend on."""
    export = network.export
    facts: dict[str, Any] = {
        "arch_id": network.arch.arch_id,
        "name": network.arch.name,
        "weights": _weights_identity(export.weights),
        "data": export.data and asdict(export.data),
        "forms": [str(form) for form in plan.forms],
        "devices": [form.device(plan.threads, plan.batch).to_dict() for form in plan.forms],
        "settings": [plan.rounds, plan.seed, plan.tolerance],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _weights_identity(weights: str | None) -> list[str] | None:
    """What tells weights from others: the hash of their file, where it is a file."""
    if weights is None:
        return None
    path = Path(weights).expanduser()
    if path.suffix in SPEC_SUFFIXES:
        path = weights_beside(path)
    return [weights, file_sha256(path) if path.is_file() else ""]


def _measure(plan: BenchPlan, network: BenchNetwork, key: str, progress: Callable[[int], object]) -> BenchResult:
    """Write, open, score and time ``network`` in all forms."""
    loaded = load_exported_network(network.export)
    images = random_images(loaded.arch, plan.batch, plan.seed)
    with TemporaryDirectory(prefix="nas-bench-") as folder:
        opened, remarks = open_forms(plan, network, loaded, images, Path(folder), progress)
        before = SystemLoad.now()
        timed = measure_side_by_side(
            [_runner(one, images) for one in opened],
            [one.form.device(plan.threads, plan.batch) for one in opened],
            rounds=plan.rounds,
            runs=RUNS,
        )
        others = SystemLoad.now().others_since(before)
    rows = [
        BenchRow(
            runtime=one.form.runtime,
            precision=one.form.precision,
            rewrite=one.form.rewrite,
            device=measured.device,
            latency_ms=measured.latency_ms,
            error_ms=measured.error_ms,
            spread_ms=measured.spread_ms,
            runs=measured.runs,
            size_bytes=one.size_bytes,
            accuracy=one.accuracy,
            float_layers=one.float_layers,
        )
        for one, measured in zip(opened, timed.measurements, strict=True)
    ]
    return BenchResult(
        key=key,
        name=loaded.arch.name,
        given=network.given,
        arch_id=loaded.arch.arch_id,
        resolution_px=loaded.arch.resolution_px,
        weights=network.export.weights or "",
        probe_ms=timed.measurements[0].probe_ms,
        other_cores=others,
        rows=tuple(rows),
        ratio_errors=timed.ratio_errors,
        remarks=tuple(remarks),
    )


def _runner(opened: OpenedForm, images: Any) -> Callable[[], Any]:
    return lambda: opened.run(images)


def _counter(progress: ProgressCallback | None, done: int, total: int) -> Callable[[int], object]:
    """Callback with the number of forms of one network that are done, of ``total``."""
    return (lambda count: None) if progress is None else (lambda count: progress(done + count, total))


def _line(result: BenchResult) -> str:
    forms = (f"{row.label} {ms_with_error(row.latency_ms, row.error_ms)}" for row in result.rows)
    return f"{result.name}: {', '.join(forms)}"


def _time_left(spent_s: float, done: int, total: int) -> str:
    if done == total:
        return ""
    seconds = spent_s / done * (total - done)
    return f"; about {seconds / 60:.0f} min left" if seconds >= 90 else f"; about {seconds:.0f} s left"
