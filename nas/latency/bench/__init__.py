"""Exported networks side by side: runtimes and precisions, interleaved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.latency.bench.comparison import compare_int8
    from nas.latency.bench.measurement_files import write_measurement_files
    from nas.latency.bench.plan import BenchNetwork, BenchPlan, bench_forms
    from nas.latency.bench.results import NO_REWRITE, BenchResult, BenchRow, common_speed, form_label
    from nas.latency.bench.session import run_benchmark
    from nas.latency.bench.verdicts import Int8Verdict, int8_verdicts, is_separated, verdict_lines
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "comparison": ["compare_int8"],
            "verdicts": ["Int8Verdict", "int8_verdicts", "is_separated", "verdict_lines"],
            "session": ["run_benchmark"],
            "results": ["BenchRow", "NO_REWRITE", "BenchResult", "common_speed", "form_label"],
            "plan": ["BenchNetwork", "BenchPlan", "bench_forms"],
            "measurement_files": ["write_measurement_files"],
        },
    )

__all__ = [
    "compare_int8",
    "verdict_lines",
    "is_separated",
    "int8_verdicts",
    "Int8Verdict",
    "run_benchmark",
    "form_label",
    "common_speed",
    "BenchResult",
    "NO_REWRITE",
    "BenchRow",
    "bench_forms",
    "BenchPlan",
    "BenchNetwork",
    "write_measurement_files",
]
