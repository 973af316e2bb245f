"""Kernel-sum predictor: summed kernel times, corrected by a factor per class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np

from nas.arch.ops.network import network_ops
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.validation import check_figures, check_number
from nas.exporters.rewriting.forms import Forms
from nas.exporters.rewriting.network import plain_path
from nas.latency.arrays import FloatArray, Indices
from nas.latency.device import Device
from nas.latency.kernels.kernel import Context, contextual_kernels, kernel_class
from nas.latency.kernels.network_times import NetworkTimes
from nas.latency.kernels.ort_lowering import Kernel, network_calls
from nas.latency.predictors.base import LatencyEstimate, rewrites_of
from nas.latency.predictors.held_out import (
    MAX_NOISE,
    HeldOutCheck,
    HeldOutError,
    checks_of,
    prediction_interval,
    scaled_checks,
)
from nas.latency.predictors.kernel_times import KernelTimes
from nas.latency.speed import MachineSpeed, known_speed

# Ridge penalties: variance of one network's error over the prior variance of a class's factor, and of the common one.
_CLASS_RIDGE: Final = 1.0
_COMMON_RIDGE: Final = 0.5
_BATCH: Final = 1000  # networks that are priced at once


class KernelPredictor:
    """Predictor that sums kernel times, each multiplied by a factor of its class.

    The factors fit the sums to whole networks: profiled kernels include recording overhead, and kernels of a network do
    not overlap. ``checks``: networks that neither times nor factors were fitted to; they give error and interval (if
    empty, both are unknown). ``speed``: of the machine during the calibration, at whose typical value the latencies
    hold; ``noise``: relative error of one measurement there; None for both in files of older versions. ``spent_s``: CPU
    seconds of the calibration; ``others``: mean number of cores that other programs used during it, None if unknown.
    ``rewrites``: whether networks are priced with every block in its fastest form, as they are exported, instead of the
    plain one; calibrations of older versions saw plain blocks only, and price those.
    """

    kind: ClassVar[str] = "kernels"

    def __init__(
        self,
        *,
        device: Device,
        times: KernelTimes,
        factors: Mapping[str, float],
        checks: Sequence[HeldOutCheck],
        spent_s: float,
        speed: MachineSpeed | None = None,
        noise: float | None = None,
        others: float | None = None,
        rewrites: bool = False,
    ) -> None:
        self.rewrites = rewrites
        self.device, self.times, self.factors, self.checks = device, times, dict(factors), tuple(checks)
        self.speed, self.noise, self.spent_s, self.others = speed, noise, spent_s, others
        self.error = HeldOutError.of(self.checks, noise) if self.checks else None
        ratios = [check.measured_ms / check.predicted_ms for check in self.checks]
        self._low, self._high = prediction_interval(ratios) if ratios else (1.0, 1.0)
        self._common = float(np.median(list(self.factors.values())))
        self._networks = NetworkTimes(self._corrected_ms, times.lane, rewrites=rewrites)

    def predict(self, spec: ArchSpec, resolution_px: int | None = None) -> LatencyEstimate:
        """Latency of ``spec`` at ``resolution_px`` (default: its own)."""
        (estimate,) = self._estimates([(spec, resolution_px)])
        return estimate

    def predict_many(self, specs: Iterable[ArchSpec]) -> list[LatencyEstimate]:
        """Latencies at each spec's own resolution, in order.

        New kernels of 1,000 networks at a time are evaluated in one batch.
        """
        requests = [(spec, None) for spec in specs]
        batches = [requests[first : first + _BATCH] for first in range(0, len(requests), _BATCH)]
        return [estimate for batch in batches for estimate in self._estimates(batch)]

    def layer_ms(self, spec: ArchSpec) -> list[tuple[str, float]]:
        """(path, ms) per operation in execution order; they sum to the prediction.

        Operations of a rewritten block count to those that they replace.
        """
        layers = {op.path: 0.0 for op in network_ops(spec)}
        calls = network_calls(spec, self.times.lane, self.forms(spec))
        for call, ms in zip(calls, self._networks.of_kernels(spec).tolist(), strict=True):
            layers[plain_path(call.op, layers)] += ms
        return list(layers.items())

    def forms(self, spec: ArchSpec, resolution_px: int | None = None) -> Forms | None:
        """Forms of the blocks of ``spec`` that are priced; None for plain ones."""
        return self._networks.forms(spec, resolution_px)

    def with_rewrites(self, rewrites: bool) -> KernelPredictor:
        """This predictor with every block in its fastest form, or in the plain one."""
        return self._copy(factors=self.factors, checks=self.checks, rewrites=rewrites)()

    def ms_in_forms(self, spec: ArchSpec, forms: Forms | None) -> float:
        """Latency in ms of ``spec`` with its blocks in ``forms``, None for plain ones."""
        (sums,) = class_sums([spec], self.times, [forms])
        return sum(ms * self.factors.get(name, self._common) for name, ms in sums.items())

    def unmeasured(self, spec: ArchSpec) -> dict[str, float]:
        """Shares of the latency of ``spec``, by class of kernels without measurements."""
        (sums,) = class_sums([spec], self.times, [self.forms(spec)])
        ms = {name: value * self.factors.get(name, self._common) for name, value in sums.items()}
        total_ms = sum(ms.values())
        return {name: value / total_ms for name, value in ms.items() if not self.times.has(name)}

    def with_checks(self, unseen: Sequence[tuple[ArchSpec, Forms | None, Sequence[float]]]) -> KernelPredictor:
        """Copy of this predictor with its error on ``unseen`` networks.

        ``unseen``: networks, the forms of their blocks, and their measurements in ms.
        """
        checks = [
            HeldOutCheck.of(spec.name, measured_ms, self.ms_in_forms(spec, forms))
            for spec, forms, measured_ms in unseen
        ]
        return self._with(factors=self.factors, checks=checks)

    def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> KernelPredictor:
        """New predictor whose factors have learned from networks and their measured ms.

        Its error and interval remain those of the calibration.
        """
        if not measured:
            return self
        specs = [spec for spec, _ in measured]
        sums = class_sums(specs, self.times, [self.forms(spec) for spec in specs])
        factors = class_factors(sums, [ms for _, ms in measured], self.factors)
        return self._with(factors=factors, checks=self.checks)

    def at_speed(self, typical_ms: float) -> KernelPredictor:
        """This predictor for another speed of the machine.

        ``typical_ms``: what the speed probe takes there. Errors and intervals keep their width relative to the
        latency.

        Raises: NasError if its own speed is not known.
        """
        speed = known_speed(self)
        factor = speed.slowdown(typical_ms)
        return self._copy(
            factors={name: value * factor for name, value in self.factors.items()},
            checks=scaled_checks(self.checks, factor),
            speed=speed.around(typical_ms),
        )()

    def to_dict(self) -> dict[str, Any]:
        """The predictor as plain data.

        The error is for human readers; ``from_dict`` recomputes it from the checks.
        """
        return {
            "kind": self.kind,
            "device": self.device.to_dict(),
            "error": asdict(self.error) if self.error else None,
            "speed": self.speed and self.speed.to_dict(),
            "noise": self.noise,
            "spent_s": self.spent_s,
            "others": self.others,
            "rewrites": self.rewrites,
            "factors": self.factors,
            "checks": [asdict(check) for check in self.checks],
            "times": self.times.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> KernelPredictor:
        """Predictor from the plain data of ``to_dict``.

        Raises: NasError, KeyError, TypeError or ValueError for other data.
        """
        factors = check_figures("factors", data["factors"], low=1e-6, high=1e6)
        if not factors:
            raise NasError("factors: must have a factor for at least one class of kernels.")
        check_number("noise", data.get("noise"), low=0, high=MAX_NOISE, optional=True)
        check_number("spent_s", data["spent_s"], low=0)
        check_number("others", data["others"], low=0, optional=True)
        return cls(
            device=Device.from_dict(data["device"]),
            times=KernelTimes.from_dict(data["times"]),
            factors=factors,
            checks=checks_of(data["checks"]),
            speed=MachineSpeed.from_dict(data.get("speed")),
            noise=data.get("noise"),
            spent_s=data["spent_s"],
            others=data["others"],
            rewrites=rewrites_of(data),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without caches: another process computes its own."""
        return self._copy(factors=self.factors, checks=self.checks), ()

    def _with(self, *, factors: Mapping[str, float], checks: Sequence[HeldOutCheck]) -> KernelPredictor:
        return self._copy(factors=factors, checks=checks)()

    def _copy(self, **changes: Any) -> partial[KernelPredictor]:
        return partial(
            KernelPredictor,
            **{
                "device": self.device,
                "times": self.times,
                "speed": self.speed,
                "noise": self.noise,
                "spent_s": self.spent_s,
                "others": self.others,
                "rewrites": self.rewrites,
                **changes,
            },
        )

    def _estimates(self, networks: Sequence[tuple[ArchSpec, int | None]]) -> list[LatencyEstimate]:
        """Latencies of networks at a side in px, or at their own."""
        low, high = self._low, self._high
        return [
            LatencyEstimate(latency_ms=ms, low_ms=ms * low, high_ms=ms * high)
            for ms in self._networks.totals(networks).tolist()
        ]

    def _corrected_ms(
        self, kernels: Sequence[Kernel], contexts: Sequence[Context], rows: Indices, columns: Indices
    ) -> FloatArray:
        """Corrected ms of ``kernels[rows]`` in ``contexts[columns]``, shape (rows,)."""
        factors = np.array([self.factors.get(kernel_class(kernel), self._common) for kernel in kernels])
        times_us = self.times.in_contexts(kernels, contexts, rows, columns)
        return np.asarray(times_us * factors[rows] * 1e-3)


def class_sums(
    specs: Sequence[ArchSpec],
    times: KernelTimes,
    forms: Sequence[Forms | None] | None = None,
) -> list[dict[str, float]]:
    """Uncorrected ms per class of kernels, for each of ``specs``.

    ``forms``: of the blocks of each, None for plain ones.
    """
    forms = forms or [None] * len(specs)
    networks = [contextual_kernels(spec, times.lane, own) for spec, own in zip(specs, forms, strict=True)]
    distinct = list({kernel for kernels in networks for kernel in kernels})
    times_us = dict(zip(distinct, times.microseconds(distinct).tolist(), strict=True))
    sums: list[dict[str, float]] = []
    for kernels in networks:
        by_class: dict[str, float] = {}
        for kernel in kernels:
            name = kernel_class(kernel[0])
            by_class[name] = by_class.get(name, 0.0) + times_us[kernel] * 1e-3
        sums.append(by_class)
    return sums


def class_factors(
    sums: Sequence[Mapping[str, float]], latencies_ms: Sequence[float], before: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Factors per class that fit ``sums`` to measured latencies of the same networks.

    ``sums``: ms per class for each network, see ``class_sums``. ``latencies_ms``: one per network. First all factors of
    ``before`` (default 1) are multiplied by one common factor, the median of measured / predicted; then each is fitted
    to the rest by ridge regression on relative errors.
    """
    names = sorted({name for by_class in sums for name in by_class} | set(before or ()))
    start = np.array([(before or {}).get(name, 1.0) for name in names])
    # ms, (networks, classes)
    table = np.array([[by_class.get(name, 0.0) for name in names] for by_class in sums]) * start
    measured = np.asarray(latencies_ms)
    common = float(np.median(measured / table.sum(axis=1)))
    if before:  # shrunk: few measurements here, against the many of the calibration
        common **= len(measured) / (len(measured) + _COMMON_RIDGE)
    shares = table * common / measured[:, None]
    ridge = np.sqrt(_CLASS_RIDGE)
    corrections = np.linalg.lstsq(
        np.vstack([shares, ridge * np.eye(len(names))]),
        np.concatenate([1 - shares.sum(axis=1), np.zeros(len(names))]),
        rcond=None,
    )[0]
    return dict(zip(names, (start * common * np.clip(1 + corrections, 0.5, 2.0)).tolist(), strict=True))
