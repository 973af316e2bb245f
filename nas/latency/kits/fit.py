"""Predictor of a device from the results of a kit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from nas.core.errors import NasError
from nas.core.formatting import first_names, plural
from nas.core.progress import ProgressCallback
from nas.latency.calibration.whole_networks import WholeNetworkPredictor, fit_whole_networks
from nas.latency.kits.manifest import load_kit
from nas.latency.kits.results import RESULTS, KitResults, read_results
from nas.latency.predictors.base import LatencyPredictor
from nas.latency.predictors.held_out import HeldOutCheck, outliers_of
from nas.latency.predictors.queue_model import MIN_NETWORKS

# A network that the others predict so much faster or slower was disturbed, or its kernels are unlike all others'.
_FAR: Final = 0.3
_DEVIATIONS: Final = 4.0  # and by so many standard deviations of the bulk


@dataclass(frozen=True, slots=True, kw_only=True)
class KitFit:
    """Predictor fitted to the results of a kit.

    ``notes``: lines on the device's speed, and on what was left out and why.
    """

    predictor: WholeNetworkPredictor
    notes: tuple[str, ...]


def fit_kit(
    folder: Path,
    results_folder: Path | None = None,
    *,
    bases: Sequence[LatencyPredictor] = (),
    progress: ProgressCallback | None = None,
) -> KitFit:
    """Fit a predictor to the results of the kit in ``folder``.

    ``results_folder``: default is the kit's own. ``bases``, ``progress``: see ``fit_whole_networks``. Networks during
    which the device changed its speed, and those far off what all others say, are left out.

    Raises: NasError as ``load_kit`` and ``read_results``, and for fewer than ten networks.
    """
    kit = load_kit(folder)
    results_folder = results_folder or folder / RESULTS
    results = read_results(kit, results_folder)
    pairs = results.pairs
    if len(pairs) < MIN_NETWORKS:
        raise NasError(
            f"{results_folder}: {plural(len(pairs), 'network')} of {len(kit.networks)} can be used, too few for a "
            f"predictor: at least {MIN_NETWORKS} are needed. {' '.join(_notes(results))} Run run.sh there again."
        )
    fit = partial(
        fit_whole_networks,
        results.device,
        bases=bases,
        noise=results.noise,
        measurements=kit.settings.protocol.passes,
        progress=progress,
    )
    predictor, notes = fit(pairs), _notes(results)
    outliers = outliers_of(predictor.checks, deviations=_DEVIATIONS, least=_FAR)
    if outliers and len(pairs) - len(outliers) >= MIN_NETWORKS:
        notes += [_outlier_line(check) for check in outliers]
        names = {check.name for check in outliers}
        predictor = fit([(spec, ms) for spec, ms in pairs if spec.name not in names])
    if results.noise is not None and predictor.error.sources is None:
        notes.append(f"one measurement errs by {results.noise:.1%} (RMS, from networks that were measured repeatedly).")
    return KitFit(predictor=predictor, notes=tuple(notes))


def _notes(results: KitResults) -> list[str]:
    """Lines on the device's speed, and on networks that are not used."""
    slowdowns = [slowdown for one in results.networks for slowdown in one.slowdowns] or [1.0]
    notes = [
        f"{plural(len(results.networks), 'network')} measured ({results.statistic} of the runs); the reference network "
        f"took {min(slowdowns):.2f} to {max(slowdowns):.2f} times its median meanwhile, which is divided out."
    ]
    if results.missing:
        notes.append(f"{plural(len(results.missing), 'network')} not measured: {first_names(results.missing)}.")
    for number, line in list(results.failed.items())[:3]:
        notes.append(f"the tool failed on network {number}: {line}")
    for number, change in results.unsteady.items():
        notes.append(f"network {number} left out: the device's speed changed by {change:.0%} while it was measured.")
    return notes


def _outlier_line(check: HeldOutCheck) -> str:
    return (
        f"{check.name} left out: {check.measured_ms:.3g} ms measured, where the others predict "
        f"{check.predicted_ms:.3g} ms."
    )
