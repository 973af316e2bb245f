"""Tests of the results of an adaptation: layers, paired accuracies, names."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from nas.arch.files import parse_spec
from nas.methods.netadapt.results.comparison import (
    AccuracyChange,
    ChangedImages,
    accuracy_change,
    record_comparison,
)
from nas.methods.netadapt.results.layers import change_counts, layer_changes
from nas.methods.netadapt.results.steps import AdaptationStep
from nas.study.trial_record import Outcome, TrialRecord
from tests.methods.netadapt.tiny import SPEC


def test_layers_are_matched_by_their_path_in_timm() -> None:
    before = parse_spec(SPEC).arch
    smaller = (
        SPEC.replace("ir_r2_k3.5_s2_e4_c16", "ir_r1_k3_s2_e3_c16")
        .replace("c16]\nhead: {channels: 32", "c8]\nhead: {channels: 24")
        .replace("px: 16", "px: 12")
    )
    changes = layer_changes(before, parse_spec(smaller).arch)
    texts = {
        one.name: tuple(one.text(field) for field in ("hidden", "channels", "kernels", "side_px")) for one in changes
    }
    assert texts == {
        "input": ("", "", "", "16 → 12"),
        "stem": ("", "8", "3", ""),
        "blocks.0.0": ("8", "8", "3", ""),
        "blocks.1.0": ("32 → 24", "16", "3.5 → 3", ""),
        "blocks.1.1": ("64 → removed", "16 → removed", "3.5 → removed", ""),
        "blocks.2.0": ("64", "16 → 8", "5", ""),
        "blocks.2.1": ("64 → 32", "16 → 8", "5", ""),
        "head": ("", "32 → 24", "", ""),
    }
    assert change_counts(changes) == "Blocks: 3 of 5 smaller, 1 removed"
    assert change_counts(layer_changes(before, before)) == "Blocks: 0 of 5 smaller, none removed"


@pytest.mark.parametrize(("lost", "gained", "same"), [(7, 3, 90), (0, 0, 10), (1, 0, 9), (30, 60, 10)])
def test_the_error_of_a_paired_difference_is_that_of_a_mean_of_differences(lost: int, gained: int, same: int) -> None:
    differences = np.array([-1.0] * lost + [1.0] * gained + [0.0] * same)
    found = ChangedImages(lost, gained, len(differences)).change
    assert found.is_paired
    assert found.change == pytest.approx(differences.mean())
    assert found.error == pytest.approx(differences.std() / np.sqrt(len(differences)))


def trained(number: int, accuracy: float | None, error: float | None) -> TrialRecord:
    return TrialRecord(number=number, outcome=Outcome.TRAINED, accuracy=accuracy, standard_error=error)


def test_accuracies_compare_by_image_where_that_was_counted() -> None:
    study = optuna.create_study()
    seed, adapted = trained(0, 0.9, 0.03), trained(5, 0.8, 0.04)
    assert accuracy_change(study, seed, adapted) == AccuracyChange(pytest.approx(-0.1), pytest.approx(0.05), False)
    record_comparison(study, seed, adapted, ChangedImages(12, 2, 100))
    change = accuracy_change(study, seed, adapted)
    assert change == ChangedImages(12, 2, 100).change
    assert str(change) == "-10.0 ± 3.6 points (on the same images)"  # sqrt(0.14 - 0.01) / 10
    later = trained(9, 0.7, None)  # of which nothing was counted
    assert str(accuracy_change(study, seed, later)) == "-20.0 points"
    assert accuracy_change(study, seed, trained(9, None, None)) is None


def test_a_step_with_many_changes_has_a_short_name() -> None:
    def step(*changes: str) -> AdaptationStep:
        return AdaptationStep(step=1, changes=changes, row=trained(1, 0.5, 0.1), share=0.9, proposals=())

    assert step("a", "b", "c", "d", "e").short_label == "a; b; c; 2 more"
    assert step("a", "b", "c").short_label == step("a", "b", "c").label == "a; b; c"
    assert step().label == step().short_label == "seed network"
