"""Tests of proxies of detectors and segmenters: what is reduced, and trainings that are killed and resumed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nas.arch import zoo
from nas.arch.heads import detector, segmenter
from nas.arch.ops import network_ops, output_ops
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.dense import DenseDataSettings, load_segmentation_data
from nas.estimators.proxy import ProxyEvaluator, ProxySettings
from nas.estimators.proxy.reduce import reduce_arch
from nas.estimators.zero_cost.scorer import ZeroCostScorer
from nas.training.results import EpochResult
from tests.methods.search.tiny_masks import write_masks

SETTINGS = ProxySettings(
    width_multiplier=0.25, resolution_px=64, divisor=2, epochs=2, batch_size=6, lr=0.01, checkpoint_s=0.0
)


@pytest.mark.parametrize(("make", "stride"), [(detector, 32), (segmenter, 16)])
def test_a_proxy_keeps_strides_and_outputs_and_narrows_network_and_head(make: object, stride: int) -> None:
    arch: ArchSpec = make(zoo.get("mobilenetv3_small_100"), 3)  # type: ignore[operator]
    proxy = reduce_arch(arch, SETTINGS, classes=3, largest_kernel=5)
    assert proxy.spec.task == arch.task and proxy.spec.resolution_px == 64 and proxy.final_map_px == 64 // stride
    assert output_ops(proxy.spec) == output_ops(arch)
    full, small = ({op.path: op for op in network_ops(spec)} for spec in (arch, proxy.spec))
    assert full.keys() == small.keys()
    assert all(small[path].stride == op.stride and small[path].dilation == op.dilation for path, op in full.items())
    outputs = set(output_ops(arch))
    for path in outputs:  # what is predicted does not become narrower
        assert small[path].out_channels == full[path].out_channels
    ratios = [small[path].out_channels / op.out_channels for path, op in full.items() if path not in outputs]
    assert math.exp(sum(map(math.log, ratios)) / len(ratios)) == pytest.approx(0.25, abs=0.1)


@pytest.fixture
def evaluator(tmp_path: Path) -> ProxyEvaluator:
    data = load_segmentation_data(DenseDataSettings(name="segmentation", root=str(write_masks(tmp_path / "masks"))))
    return ProxyEvaluator(data=data, settings=SETTINGS, largest_kernel=3, seed=3, checkpoints_dir=tmp_path / "ckpt")


def test_a_killed_training_of_a_segmenter_ends_as_an_uninterrupted_one(evaluator: ProxyEvaluator) -> None:
    arch = segmenter(zoo.get("mobilenetv1_025"), 2)
    whole = evaluator.with_folders(weights_dir=None, checkpoints_dir=None).evaluate(arch)
    assert whole.standard_error is not None and whole.constant_accuracy is not None
    assert len(whole.class_scores) == 2 and set(whole.metrics) == {"pixel_accuracy"} and not whole.class_images
    share = float(evaluator.data.val.pixels.sum(0)[:2].max() / evaluator.data.val.pixels.sum())  # type: ignore[union-attr]
    assert whole.constant_accuracy == pytest.approx(share / 2)  # the larger class is its share right, the other not

    def kill(result: EpochResult) -> None:
        if result.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate(arch, on_epoch=kill)
    epochs: list[int] = []
    resumed = evaluator.evaluate(arch, on_epoch=lambda result: epochs.append(result.epoch))
    assert epochs == [2]
    assert (resumed.accuracy, resumed.loss, resumed.class_scores) == (whole.accuracy, whole.loss, whole.class_scores)


def test_scores_without_training_are_those_of_the_network_without_its_head(evaluator: ProxyEvaluator) -> None:
    """Another head changes nothing, another network does; two scorers agree."""
    trunk = zoo.get("mobilenetv1_025")
    scorer = ZeroCostScorer(
        data=evaluator.data, settings=SETTINGS, largest_kernel=3, seed=3, names=("naswot", "synflow"), batch_size=6
    )
    found = scorer.scores(segmenter(trunk, 2))
    assert set(found) == {"naswot", "synflow"} and all(map(math.isfinite, found.values()))
    assert scorer.scores(segmenter(trunk, 2)) == found
    assert scorer.scores(segmenter(zoo.get("mobilenetv1_050"), 2)) != found


def test_images_with_masks_are_no_images_with_classes(evaluator: ProxyEvaluator) -> None:
    with pytest.raises(TypeError, match="boxes or masks"):
        _ = evaluator.images
    with pytest.raises(NasError, match="proxy"):
        evaluator.scores(segmenter(zoo.get("mobilenetv1_025"), 2))
