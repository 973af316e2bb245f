"""``python -m nas.bench arch=mixnet_s,mixnet_m``: compare exported networks.

Every network is exported to every runtime and precision, and all take turns on this machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.cli import app, hydra_config
from nas.cli.help_layout import option_lines, paragraph
from nas.cli.resolve.networks import is_spec_file, known_networks, resolve_arch
from nas.cli.resolve.weights import own_weights, pretrained_weights, resolve_weights
from nas.core.errors import NasError, quoted
from nas.core.streams import write_lines

if TYPE_CHECKING:
    from rich.console import Console

    from nas.data.sources import DataSettings
    from nas.exporters.deployment.plan import ExportPlan
    from nas.latency.bench.plan import BenchNetwork, BenchPlan
    from nas.latency.bench.results import BenchResult
    from nas.reporting.bench_report import BenchReport

_NAME: Final = "bench"
_FOLDER: Final = "benchmarks"
_LISTS: Final = ("arch", "runtime", "precision", "rewrite")
_KEYS: Final = (
    *_LISTS, "weights", "data", "resolution_px", "tolerance", "threads", "batch", "rounds", "seed", "name", "runs_dir",
    "json",
)  # fmt: skip
_NUMBERS: Final = ("tolerance", "threads", "batch", "rounds", "seed")


def main() -> None:
    """Console entry point."""
    app.run_command(command)


def command(arguments: list[str]) -> int:
    """Measure networks in several forms, or go on, and report."""
    if app.answer_option(_NAME, arguments, _help):
        return 0
    plan, as_json = _plan_of(arguments)
    from rich.console import Console

    report = run_plan(plan, Console(stderr=as_json))
    if as_json:
        write_lines(_json(plan, report))
    return 0


def make_plan(arguments: Sequence[str]) -> BenchPlan:
    """Build the checked plan of a benchmark; loads no torch but for ``timm/NAME``.

    Raises: NasError.
    """
    return _plan_of(arguments)[0]


def run_plan(plan: BenchPlan, console: Console) -> BenchReport:
    """Measure, write the files and print the table. Raises: NasError."""
    from nas.core.console import print_lines, progress_bar
    from nas.core.formatting import shown_path
    from nas.latency.bench.measurement_files import write_measurement_files
    from nas.latency.bench.results import common_speed
    from nas.latency.bench.session import run_benchmark
    from nas.reporting.bench_report import BENCH_DISPENSABLE, bench_columns
    from nas.reporting.columns import print_columns

    if any(network.export.weights is not None for network in plan.networks):
        app.import_heavy("nas.model.weights.source")
    for form in plan.left_out:
        print_lines(console, f"note: {form.runtime} has no {form.precision}, which is left out")
    with progress_bar(console, "exporting and measuring") as progress:
        found = run_benchmark(plan, say=lambda line: print_lines(console, line), progress=progress)
    named = [replace(result, name=label) for result, label in zip(found, plan.labels, strict=True)]
    results = common_speed(named)
    report = _report(plan, results)
    files = [*report.write(plan.folder), *write_measurement_files(plan.folder, plan.networks, plan.forms, results)]
    lines = report.lines
    print_columns(console, report.title, bench_columns(lines), lines, dispensable=BENCH_DISPENSABLE)
    print_lines(console, *report.verdicts, *report.remarks)
    print_lines(console, f"open {shown_path(files[0])}; written: {', '.join(map(shown_path, files[1:]))}")
    return report


def _plan_of(arguments: Sequence[str]) -> tuple[BenchPlan, bool]:
    words, overrides = app.split_words(arguments)
    config = hydra_config.compose_config(_NAME, [as_list(override) for override in overrides])
    app.check_keys(config, _KEYS, optional=("data",))
    app.check_flags(config, "json")
    app.check_texts(config, "name", "weights")
    lists = {name: _texts(config, name) for name in _LISTS}
    folder = app.runs_dir(config)
    app.check_writable(folder)
    from nas.core.credentials import masked_command
    from nas.latency.bench.plan import BenchPlan, bench_forms

    networks = _networks([*words, *lists["arch"]], config, folder)
    forms, left_out = bench_forms(lists["runtime"], lists["precision"], lists["rewrite"])
    plan = BenchPlan(
        networks=networks,
        forms=forms,
        left_out=left_out,
        **{name: config[name] for name in _NUMBERS},
        folder=folder / _FOLDER / _folder_name(config["name"]),
        command=masked_command(["python", "-m", "nas.bench", *arguments]),
    )
    return plan, config["json"]


def as_list(override: str) -> str:
    """``arch=a,b`` as ``arch=[a,b]``; anything else as it is."""
    name, _, value = override.partition("=")
    return f"{name}=[{value}]" if name in _LISTS and value and value[0] not in "[\"'" else override


def _texts(config: Mapping[str, Any], name: str) -> list[str]:
    """A list of names, or a single one. Raises: NasError."""
    value = config[name]
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise NasError(f"{name} {quoted(value)}: must be a list such as {name}=a,b.")
    return values


def _folder_name(name: object) -> str:
    if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
        raise NasError(f"name {quoted(name)}: must be the name of a folder, such as bench.")
    return name


def _networks(names: Sequence[str], config: Mapping[str, Any], runs_dir: Path) -> tuple[BenchNetwork, ...]:
    """Resolve the networks, their weights and images. Raises: NasError."""
    from nas.core.dataclass_io import from_mapping
    from nas.data.dense import DENSE_TASKS
    from nas.data.sources import DataSettings, check_data
    from nas.latency.bench.plan import BenchNetwork

    if not names:
        raise NasError(
            "which networks? Add arch= with published networks, timm/NAME or spec files, such as "
            "arch=mixnet_s,mobilenetv2_100; --help lists them."
        )
    task = (config.get("data") or {}).get("name")
    if task in DENSE_TASKS:
        raise NasError(
            f"data {task}: nas.bench scores classifiers alone; leave data out, which measures detectors and segmenters "
            "on noise, and nas.export scores their files."
        )
    data = None if config.get("data") is None else from_mapping(DataSettings, config["data"], "data")
    if data is not None:
        check_data(data)
    return tuple(BenchNetwork(given=name, export=_export_plan(name, config, data, runs_dir)) for name in names)


def _export_plan(name: str, config: Mapping[str, Any], data: DataSettings | None, runs_dir: Path) -> ExportPlan:
    """How a network is exported. Raises: NasError."""
    from nas.arch.files import load_spec_file
    from nas.exporters.deployment.plan import ExportPlan

    arch, spec_file = resolve_arch(name), Path(name) if is_spec_file(name) else None
    return ExportPlan(
        arch=arch,
        name=arch.name,
        format="onnx",
        out=runs_dir,
        runs_dir=runs_dir,
        weights=_weights(name, spec_file, config["weights"]),
        resolution_px=config["resolution_px"],
        batch=config["batch"],
        threads=config["threads"],
        seed=config["seed"],
        data=data,
        origin={} if spec_file is None else load_spec_file(spec_file).provenance,
    )


def _weights(name: str, spec_file: Path | None, value: str | None) -> str | None:
    """The weights of a network, in a form of ``nas.train weights=``. Raises: NasError."""
    from nas.model.weights.files import PRETRAINED

    if value not in (None, PRETRAINED):
        raise NasError(
            f"weights {quoted(value)}: must be {PRETRAINED} (timm's, and those beside spec files), or null; a file "
            "of weights is named by the spec file beside it, in arch=."
        )
    return resolve_weights(own_weights(spec_file) if value is None else pretrained_weights(name))


def _report(plan: BenchPlan, results: Sequence[BenchResult]) -> BenchReport:
    from nas.arch.complexity import complexity
    from nas.reporting.bench_report import BenchReport

    costs = [complexity(network.arch) for network in plan.networks]
    return BenchReport(
        networks=results,
        costs=[(cost.macs, cost.params) for cost in costs],
        remarks=_remarks(plan, results),
        facts=_facts(plan),
        command=plan.command,
    )


def _remarks(plan: BenchPlan, results: Sequence[BenchResult]) -> list[str]:
    """Caveats of the table."""
    from nas.latency.measure.system_load import is_busy

    busy = [result for result in results if is_busy(result.other_cores)]
    remarks = [*dict.fromkeys(remark for result in results for remark in result.remarks)]
    remarks.append(
        "±: standard error; ratios are of interleaved runs, to the network's first row; (≈): not separated from it by "
        "the noise (5%, Bonferroni)"
    )
    if busy:
        most = max(result.other_cores or 0.0 for result in busy)
        remarks.append(
            f"other programs used up to {most:.1f} cores meanwhile, which slows runs down by an unknown amount: close "
            "them and choose another name= to measure again"
        )
    return remarks


def _facts(plan: BenchPlan) -> list[tuple[str, str]]:
    devices = dict.fromkeys(str(form.device(plan.threads, plan.batch)) for form in plan.forms)
    facts = [("device", device) for device in devices]
    for network in plan.networks:
        if network.export.weights is not None:
            facts.append((f"weights of {network.given}", network.export.weights))
    data = plan.networks[0].export.data
    return [*facts, *([] if data is None else [("images", f"{data.name}, {data.root or 'of a package'}")])]


def _json(plan: BenchPlan, report: BenchReport) -> str:
    from nas.reporting.bench_report import BENCH_FIGURES
    from nas.reporting.columns import plain_record

    rows = [plain_record(BENCH_FIGURES, line) for line in report.lines]
    return json.dumps(
        {"folder": str(plan.folder), "rows": rows, "verdicts": report.verdicts, "remarks": list(report.remarks)}
    )


def _help() -> str:
    settings = option_lines(
        _NAME,
        (
            "arch=A,B,C",
            "networks: mixnet_s, timm/fbnetc_100, or spec files such as runs/my-study/winners/winner_1.yaml",
        ),
        ("runtime=onnxruntime,litert", "runtimes to export to, each with its extra installed"),
        ("precision=float32,int8", "int8: static quantisation; mixed: but for layers that it costs accuracy"),
        ("rewrite=none,auto", "plain blocks, and the fastest exact rewrite of each network, measured"),
        ("weights=pretrained", "timm's, and those beside spec files; without it those beside spec files, else random"),
        ("data=imagefolder", "images: train images calibrate int8, validation images give the accuracy; data.root=..."),
        ("tolerance=0.01", "of mixed: largest loss of accuracy, a share"),
        ("resolution_px=160", "input side in px"),
        ("rounds=10 threads=1 batch=1", "of the measurement"),
        ("name=bench runs_dir=runs", "where: <runs_dir>/benchmarks/<name>/; the same name resumes"),
        ("json=true", "the result as one JSON object on stdout, all else on stderr"),
    )
    return f"{paragraph(__doc__ or '')}\n\n{settings}\n\n{known_networks()}"


if __name__ == "__main__":
    main()
