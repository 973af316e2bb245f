"""What a benchmark of exported networks compares; checked without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import MAX_SEED, MAX_THREADS, check_number
from nas.exporters.deployment.plan import ExportPlan
from nas.exporters.formats import FORMATS, Format
from nas.latency.bench.results import BENCH_PRECISIONS, FLOAT, INT8, MIXED, NO_REWRITE, form_label
from nas.latency.device import Device
from nas.latency.host import describe
from nas.latency.settings import MEASURED_BACKENDS, PRECISIONS

BENCH_REWRITES: Final = (NO_REWRITE, "auto")
# Runtimes that a network can be exported to and measured in, with their formats.
_FORMATS: Final = {entry.backend: entry for entry in FORMATS.values() if entry.backend in MEASURED_BACKENDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchForm:
    """A form in which a network ships: runtime, precision, rewrite."""

    runtime: str
    precision: str = FLOAT
    rewrite: str = NO_REWRITE

    @property
    def format(self) -> Format:
        """Format of its file."""
        return _FORMATS[self.runtime]

    def device(self, threads: int, batch: int) -> Device:
        """This machine running the form.

        Raises: NasError for a missing package, and for threads or a batch that the runtime lacks.
        """
        try:
            return describe(self.runtime, threads, batch, FLOAT if self.precision == FLOAT else INT8)
        except NasError as error:
            raise NasError(str(error).removeprefix("latency.")) from None

    def __str__(self) -> str:
        return form_label(self.runtime, self.precision, self.rewrite)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchNetwork:
    """A network to measure.

    ``given``: as the user named it. ``export``: how it is exported, with its weights, and the images to measure its
    accuracy with; format and folder are not used.
    """

    given: str
    export: ExportPlan

    @property
    def arch(self) -> ArchSpec:
        """The network at the input side that it is exported for."""
        return replace(self.export.arch, resolution_px=self.export.side_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """Networks and forms to compare, and how.

    Every network is measured in every form, in ``rounds`` turns. ``left_out``: forms that a runtime lacks.
    ``tolerance``: largest loss of accuracy in precision ``mixed``, a share. ``folder``: of results.

    Raises: NasError for values out of range and networks that are the same.
    """

    networks: tuple[BenchNetwork, ...]
    forms: tuple[BenchForm, ...]
    left_out: tuple[BenchForm, ...] = ()
    threads: int = 1
    batch: int = 1
    rounds: int = 10
    seed: int = 0
    tolerance: float = 0.01
    folder: Path = field(default_factory=lambda: Path("runs/benchmarks/bench"))
    command: str = ""

    def __post_init__(self) -> None:
        check_number("threads", self.threads, low=1, high=MAX_THREADS, whole=True)
        check_number("batch", self.batch, low=1, high=1024, whole=True)
        check_number("rounds", self.rounds, low=2, high=1000, whole=True)
        check_number("seed", self.seed, low=0, high=MAX_SEED, whole=True)
        for form in self.forms:
            form.device(self.threads, self.batch)
        check_number("tolerance", self.tolerance, low=0, high=1, open_low=True)
        self._check_mixed()
        given: dict[str, str] = {}
        for network in self.networks:
            if network.arch.arch_id in given:
                first = given[network.arch.arch_id]
                raise NasError(f"arch {first!r} and {network.given!r}: are the same network; name it once.")
            given[network.arch.arch_id] = network.given

    @property
    def labels(self) -> list[str]:
        """Names of the networks; those that share one are named as they were given."""
        names = [network.arch.name for network in self.networks]
        return [
            network.given if names.count(name) > 1 else name for network, name in zip(self.networks, names, strict=True)
        ]

    def _check_mixed(self) -> None:
        """Refuse ``mixed`` without what layers are chosen by. Raises: NasError."""
        if not any(form.precision == MIXED for form in self.forms):
            return
        for network in self.networks:
            for setting, value in (("weights", network.export.weights), ("data", network.export.data)):
                if value is None:
                    raise NasError(
                        f"precision {MIXED}: chooses layers by their effect on accuracy, and {network.given} has no "
                        f"{setting}; add {setting}=, or leave {MIXED} out."
                    )


def bench_runtimes() -> tuple[str, ...]:
    """Runtimes that a network can be exported to and measured in."""
    return tuple(_FORMATS)


def bench_forms(
    runtimes: Sequence[str], precisions: Sequence[str], rewrites: Sequence[str]
) -> tuple[tuple[BenchForm, ...], tuple[BenchForm, ...]]:
    """Forms to measure, and those that their runtime lacks, in the order given.

    Raises: NasError for an unknown name, a missing package, and a runtime without any of the precisions.
    """
    for setting, values, allowed in (
        ("runtime", runtimes, bench_runtimes()),
        ("precision", precisions, BENCH_PRECISIONS),
        ("rewrite", rewrites, BENCH_REWRITES),
    ):
        for value in values:
            if value not in allowed:
                raise unknown_choice(setting, value, allowed)
        if not values or len(set(values)) < len(values):
            raise NasError(
                f"{setting} {quoted(list(values))}: must name one or more of {', '.join(allowed)}, each once."
            )
    forms = [
        BenchForm(runtime=runtime, precision=precision, rewrite=rewrite)
        for runtime in runtimes
        for rewrite in rewrites
        for precision in precisions
    ]
    found = [form for form in forms if _has_precision(form)]
    for runtime in runtimes:
        if not any(form.runtime == runtime for form in found):
            raise NasError(
                f"precision {', '.join(precisions)}: {runtime} runs {FLOAT}; add {FLOAT} to precision=, or leave "
                f"{runtime} out."
            )
    for form in found:
        form.format.check_installed()
    return tuple(found), tuple(form for form in forms if form not in found)


def _has_precision(form: BenchForm) -> bool:
    return form.precision == FLOAT or INT8 in PRECISIONS.get(form.runtime, ())
