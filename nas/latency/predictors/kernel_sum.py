"""The predictor that is calibrated kernel by kernel: a network takes the time of its kernels, corrected by class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any, ClassVar, Final

import numpy as np

from nas.arch.blocks import BlockSpec
from nas.arch.parts import SqueezeExcite
from nas.arch.spec import ArchSpec
from nas.latency.device import Device
from nas.latency.kernels.kernel import Context, Placed, common_context, kernel_class, moved_mb, placed_kernels
from nas.latency.kernels.ort_lowering import Call, block_calls, head_calls, network_calls, stem_calls
from nas.latency.predictors.base import HeldOutCheck, HeldOutError, LatencyEstimate, prediction_interval
from nas.latency.predictors.kernel_times import KernelTimes

# Variances, as ratios: that of one network's error to that of a class's own factor, and to that of the common one.
_CLASS_RIDGE: Final = 1.0
_COMMON_RIDGE: Final = 0.5
_REMEMBERED: Final = 1_000_000  # kernels in contexts, some 200 MB


class KernelPredictor:
    """Latency as the sum of its kernels' times, each class of kernels times a factor.

    The factors make sums agree with whole networks: profiled kernels pay for being recorded, and in a network they
    overlap with nothing. ``checks`` are networks that neither times nor factors have seen: they give the error and the
    interval (none: they are not known). ``reference_ms``: latency of the reference network
    (``nas.latency.measure.timer.REFERENCE``) meanwhile. ``spent_s``: CPU seconds of the calibration;
    ``others``: cores that other programs kept busy meanwhile, None where that is not known.
    """

    kind: ClassVar[str] = "kernels"

    def __init__(
        self,
        *,
        device: Device,
        times: KernelTimes,
        factors: Mapping[str, float],
        checks: Sequence[HeldOutCheck],
        reference_ms: float,
        spent_s: float,
        others: float | None = None,
    ) -> None:
        self.device, self.times, self.factors, self.checks = device, times, dict(factors), tuple(checks)
        self.reference_ms, self.spent_s, self.others = reference_ms, spent_s, others
        self.error = HeldOutError.of(self.checks) if self.checks else None
        ratios = [check.measured_ms / check.predicted_ms for check in self.checks]
        self._low, self._high = prediction_interval(ratios) if ratios else (1.0, 1.0)
        self._common = float(np.median(list(self.factors.values())))
        self._placed_ms: dict[Placed, float] = {}
        self._part_ms: dict[tuple[_Part, Context], float] = {}
        self._part = lru_cache(maxsize=65536)(partial(_Part, lane=times.lane))
        self._block = lru_cache(maxsize=65536)(self._block_part)

    def predict(self, spec: ArchSpec, resolution_px: int | None = None) -> LatencyEstimate:
        """Latency of ``spec`` at ``resolution_px`` (default: its own)."""
        parts = self._parts(spec, resolution_px)
        try:
            latency_ms = self._sum_ms(parts)
        except KeyError:  # a kernel that was never asked for
            self._learn(_placed(parts))
            latency_ms = self._sum_ms(parts)
        return LatencyEstimate(latency_ms=latency_ms, low_ms=latency_ms * self._low, high_ms=latency_ms * self._high)

    def predict_many(self, specs: Iterable[ArchSpec]) -> list[LatencyEstimate]:
        """Latencies at each spec's own resolution, in order; the kernels of all are priced at once."""
        asked = list(specs)
        networks = [self._parts(spec, None) for spec in asked]
        self._learn(placed for parts in networks for placed in _placed(parts))
        return [self.predict(spec) for spec in asked]

    def layer_ms(self, spec: ArchSpec) -> list[tuple[str, float]]:
        """(path, ms) of every operation in execution order; they sum to the predicted latency."""
        placed = list(_placed(self._parts(spec, None)))
        self._learn(placed)
        layers: dict[str, float] = {}
        for call, one in zip(network_calls(spec, self.times.lane), placed, strict=True):
            layers[call.op] = layers.get(call.op, 0.0) + self._placed_ms[one]
        return list(layers.items())

    def checked(self, unseen: Sequence[tuple[ArchSpec, float]]) -> KernelPredictor:
        """This predictor with its error on ``unseen`` networks and their measured ms."""
        estimates = self.predict_many([spec for spec, _ in unseen])
        checks = [
            HeldOutCheck(name=spec.name, measured_ms=ms, predicted_ms=estimate.latency_ms)
            for (spec, ms), estimate in zip(unseen, estimates, strict=True)
        ]
        return self._with(factors=self.factors, checks=checks)

    def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> KernelPredictor:
        """A predictor whose factors have learned from networks and their measured ms.

        Its error and interval stay those of the calibration.
        """
        if not measured:
            return self
        sums = class_sums([spec for spec, _ in measured], self.times)
        factors = class_factors(sums, [ms for _, ms in measured], self.factors)
        return self._with(factors=factors, checks=self.checks)

    def to_dict(self) -> dict[str, Any]:
        """The predictor as plain data; the error is for people, a reader works it out from the checks."""
        return {
            "kind": self.kind,
            "device": self.device.to_dict(),
            "error": asdict(self.error) if self.error else None,
            "reference_ms": self.reference_ms,
            "spent_s": self.spent_s,
            "others": self.others,
            "factors": self.factors,
            "checks": [asdict(check) for check in self.checks],
            "times": self.times.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> KernelPredictor:
        """The predictor that ``to_dict`` wrote. Raises: KeyError, TypeError or ValueError for other data."""
        return cls(
            device=Device.from_dict(data["device"]),
            times=KernelTimes.from_dict(data["times"]),
            factors=data["factors"],
            checks=[HeldOutCheck(**check) for check in data["checks"]],
            reference_ms=data["reference_ms"],
            spent_s=data["spent_s"],
            others=data["others"],
        )

    def _with(self, *, factors: Mapping[str, float], checks: Sequence[HeldOutCheck]) -> KernelPredictor:
        return KernelPredictor(
            device=self.device,
            times=self.times,
            factors=factors,
            checks=checks,
            reference_ms=self.reference_ms,
            spent_s=self.spent_s,
            others=self.others,
        )

    def _parts(self, spec: ArchSpec, resolution_px: int | None) -> list[_Part]:
        """Stem, blocks and head of ``spec``."""
        lane = self.times.lane
        stem, px, blocked = stem_calls(spec, lane, resolution_px)
        parts = [self._part(stem)]
        for _, block, stride, channels in spec.placed_blocks():
            part, px, blocked = self._block(block, stride, channels, px, spec.activation, spec.squeeze_excite, blocked)
            parts.append(part)
        return [*parts, self._part(head_calls(spec, lane, px, blocked))]

    def _block_part(
        self, block: BlockSpec, stride: int, channels: int, px: int, activation: str, se: SqueezeExcite, blocked: bool
    ) -> tuple[_Part, int, bool]:
        calls, px, blocked = block_calls(block, stride, channels, px, activation, se, self.times.lane, blocked)
        return self._part(calls), px, blocked

    def _sum_ms(self, parts: Sequence[_Part]) -> float:
        """ms of a network's parts; blocks that were priced in such a network before are not summed again.

        Raises: KeyError for kernels that were not learnt.
        """
        total_ms, surroundings = 0.0, _surroundings(parts)
        for part in parts:
            cost_ms = self._part_ms.get((part, surroundings))
            if cost_ms is None:
                cost_ms = sum(self._placed_ms[call.kernel, surroundings] for call in part.calls)
                self._part_ms[part, surroundings] = cost_ms
            total_ms += cost_ms
        return total_ms

    def _learn(self, asked: Iterable[Placed]) -> None:
        needed = set(asked)
        placed = list(needed - self._placed_ms.keys())
        if placed:
            if len(self._placed_ms) > _REMEMBERED:
                self._placed_ms.clear()
                self._part_ms.clear()
                placed = list(needed)  # what was known of them is forgotten too
            factors = np.array([self.factors.get(kernel_class(kernel), self._common) for kernel, _ in placed])
            times_ms = self.times.microseconds(placed) * factors * 1e-3
            self._placed_ms.update(zip(placed, times_ms.tolist(), strict=True))


class _Part:
    """Kernel calls that networks share, with the 10^6 bytes of activations and of weights that they move."""

    __slots__ = ("calls", "moved_mb")

    def __init__(self, calls: tuple[Call, ...], lane: int) -> None:
        self.calls, self.moved_mb = calls, moved_mb(calls, lane)


def _surroundings(parts: Sequence[_Part]) -> Context:
    return common_context([part.moved_mb for part in parts])


def _placed(parts: Sequence[_Part]) -> Iterator[Placed]:
    surroundings = _surroundings(parts)
    return ((call.kernel, surroundings) for part in parts for call in part.calls)


def class_sums(specs: Sequence[ArchSpec], times: KernelTimes) -> list[dict[str, float]]:
    """ms of every class of kernels in each of ``specs``, uncorrected."""
    networks = [placed_kernels(spec, times.lane) for spec in specs]
    distinct = list({placed for members in networks for placed in members})
    priced_us = dict(zip(distinct, times.microseconds(distinct).tolist(), strict=True))
    sums: list[dict[str, float]] = []
    for members in networks:
        by_class: dict[str, float] = {}
        for placed in members:
            name = kernel_class(placed[0])
            by_class[name] = by_class.get(name, 0.0) + priced_us[placed] * 1e-3
        sums.append(by_class)
    return sums


def class_factors(
    sums: Sequence[Mapping[str, float]], latencies_ms: Sequence[float], before: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Factors of classes that make ``sums`` agree with measured latencies of the same networks.

    First all ``before`` (default 1) are moved by one factor, the median of measured / predicted, then each by what
    the networks ask for beyond that: ridge regression on relative errors.
    """
    names = sorted({name for by_class in sums for name in by_class} | set(before or ()))
    start = np.array([(before or {}).get(name, 1.0) for name in names])
    table = np.array([[by_class.get(name, 0.0) for name in names] for by_class in sums]) * start
    measured = np.asarray(latencies_ms)
    common = float(np.median(measured / table.sum(axis=1)))
    if before:  # few measurements move what many have found only part of the way
        common **= len(measured) / (len(measured) + _COMMON_RIDGE)
    shares = table * common / measured[:, None]
    pull = np.sqrt(_CLASS_RIDGE)
    bends = np.linalg.lstsq(
        np.vstack([shares, pull * np.eye(len(names))]),
        np.concatenate([1 - shares.sum(axis=1), np.zeros(len(names))]),
        rcond=None,
    )[0]
    return dict(zip(names, (start * common * np.clip(1 + bends, 0.5, 2.0)).tolist(), strict=True))
