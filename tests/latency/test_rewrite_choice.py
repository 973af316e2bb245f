"""Forms that are measured for an export differ in their operations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.arch import zoo
from nas.exporters.rewriting.forms import FormChoice
from nas.exporters.rewriting.network import rewritten_ops
from nas.latency import rewrite_choice
from nas.latency.host import describe


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What would be measured, by name."""
    found: list[dict[str, object]] = []

    def take(spec: object, device: object, rivals: dict[str, object], seed: int) -> FormChoice:
        found.append(rivals)
        return FormChoice(None, "")

    monkeypatch.setattr(rewrite_choice, "_fastest", take)
    return found


def test_networks_without_anything_to_rewrite_are_not_measured(measured: list[dict[str, object]]) -> None:
    rewrite_choice.fastest_forms(zoo.get("mobilenetv2_100"), describe("onnxruntime"))
    assert measured == [{}]


def test_what_only_crops_kernels_is_called_so_and_measured_once(measured: list[dict[str, object]]) -> None:
    # Hidden channels are multiples of 16 or have no other form; at 32 px the last maps are smaller than the kernels.
    spec = replace(zoo.get("mobilenetv3_small_100"), resolution_px=32)
    rewrite_choice.fastest_forms(spec, describe("onnxruntime"))
    assert next(iter(measured[0])) == "crop_kernels"
    assert "merge_mixconv" not in measured[0] and "split_mixconv" not in measured[0]


def test_mixnets_have_many_forms_and_all_differ(measured: list[dict[str, object]]) -> None:
    spec = zoo.get("mixnet_s")
    rewrite_choice.fastest_forms(spec, describe("onnxruntime"))
    ops = [rewritten_ops(spec, forms)[0] for forms in measured[0].values()]  # type: ignore[arg-type]
    assert len(ops) == len(set(ops)) >= 8
