"""Checks at the end of an adaptation: measured latency, accuracy by image.

What they find is stored in the study, so that a report that is made again needs neither.
"""

from __future__ import annotations

import optuna
import torch
from rich.console import Console
from safetensors.torch import load

from nas.core.console import announced, print_lines
from nas.core.errors import NasError
from nas.methods.netadapt.results.comparison import ChangedImages, record_comparison, stored_comparison
from nas.methods.netadapt.session import NetAdaptSession
from nas.methods.netadapt.state import steps_taken
from nas.model.build import build
from nas.study.measurement import at_calibrated_speed
from nas.study.trial_attributes import record_network_measurement
from nas.study.trial_record import TrialRecord
from nas.training.evaluation import correct_images


def measure_ends(
    session: NetAdaptSession, study: optuna.Study, seed: TrialRecord, adapted: TrialRecord, console: Console
) -> None:
    """Measure the latency of the seed network and the adapted one, interleaved, once.

    A machine that cannot measure must not cost the user the results, and neither must an interrupt.
    """
    if session.measure is None or None not in (seed.measured_ms, adapted.measured_ms):
        return
    try:
        archs = [session.files.arch(0), session.files.arch(len(steps_taken(study)) - 1)]
        with announced(console, "measuring the latency of the seed network and the adapted one"):
            for arch, found in zip(archs, session.measure(archs), strict=True):
                one = at_calibrated_speed(study, found, session.predictor)
                record_network_measurement(study, arch.arch_id, one)
    except NasError as error:
        print_lines(console, f"latency was not measured: {error}")
    except KeyboardInterrupt:
        print_lines(console, "latency was not measured: interrupted; the same command measures it")


def compare_ends(
    session: NetAdaptSession, study: optuna.Study, seed: TrialRecord, adapted: TrialRecord, console: Console
) -> None:
    """Count the validation images that only one of the two networks gets right.

    An interrupt costs the comparison alone.
    """
    if seed.number == adapted.number or stored_comparison(study, seed, adapted):
        return
    try:
        before, after = (_are_correct(session, step) for step in (0, len(steps_taken(study)) - 1))
    except NasError as error:
        print_lines(console, f"accuracies were not compared by image: {error}")
        return
    except KeyboardInterrupt:
        print_lines(console, "accuracies were not compared by image: interrupted; the same command compares them")
        return
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    record_comparison(study, seed, adapted, ChangedImages(lost, gained, len(before)))


def _are_correct(session: NetAdaptSession, step: int) -> torch.Tensor:
    """Whether the network of ``step`` is right, by validation image; bool (images,)."""
    arch = session.files.arch(step)
    model = build(arch)
    model.load_state_dict(load(session.files.weights(step)))
    return correct_images(model, session.images.resized(arch.resolution_px), session.plan.proxy)
