"""Predictor of a device of which only latencies of whole networks are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from nas.arch.spec import ArchSpec
from nas.core.progress import ProgressCallback
from nas.latency.device import Device
from nas.latency.predictors.base import LatencyPredictor
from nas.latency.predictors.held_out import HeldOutCheck
from nas.latency.predictors.op_fit import fit_robust_prices
from nas.latency.predictors.op_regression import PricePredictor
from nas.latency.predictors.queue_fit import NOISE
from nas.latency.predictors.queue_model import QueuePredictor, fit_queue_predictor

WholeNetworkPredictor: TypeAlias = QueuePredictor | PricePredictor


def fit_whole_networks(
    device: Device,
    measured: Sequence[tuple[ArchSpec, float]],
    *,
    bases: Sequence[LatencyPredictor] = (),
    noise: float | None = None,
    measurements: int = 1,
    progress: ProgressCallback | None = None,
) -> WholeNetworkPredictor:
    """Fit a predictor for ``device`` to networks and their latencies in ms.

    There are two models: the queue law, of GPUs and of any device of which little is known, and prices of operations on
    a CPU with vectors (``op_features.py``). The one that predicts held-out networks better in cross-validation is
    taken. ``bases``, ``progress``: see ``fit_queue_predictor``. ``noise``: relative error of one measurement (RMS),
    where it is known; each latency is of as many ``measurements``.

    Raises: NasError for fewer than ten networks.
    """
    law = fit_queue_predictor(device, measured, bases=bases, progress=progress)
    prices, held_out_ms = fit_robust_prices([spec for spec, _ in measured], [ms for _, ms in measured], device.backend)
    checks = [
        HeldOutCheck(name=spec.name, measured_ms=ms, predicted_ms=predicted_ms, measurements=measurements)
        for (spec, ms), predicted_ms in zip(measured, held_out_ms, strict=True)
    ]
    if _loss(checks) >= _loss(law.checks):
        return law
    return PricePredictor(device=device, prices=prices, checks=checks, noise=noise)


def _loss(checks: Sequence[HeldOutCheck]) -> float:
    """Negative log-likelihood under Cauchy noise, up to a constant."""
    errors = np.log([check.measured_ms / check.predicted_ms for check in checks]) / NOISE
    return float(np.log1p(errors**2).sum())
