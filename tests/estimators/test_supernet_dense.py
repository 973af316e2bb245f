"""Supernets of detectors and segmenters: outputs, losses, scores, resuming, the file."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nas.arch import zoo
from nas.arch.heads import detector, segmenter
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.dense import VOID, DenseDataSettings, load_detection_data, load_segmentation_data
from nas.estimators.proxy.evaluator import TaskData
from nas.estimators.proxy.settings import ProxySettings
from nas.estimators.supernet.dense import DenseSupernet
from nas.estimators.supernet.file_header import read_supernet_file
from nas.estimators.supernet.layout import slot_shapes
from nas.estimators.supernet.scorer import SCORE, SupernetScorer
from nas.estimators.supernet.settings import SupernetSettings
from nas.estimators.supernet.task import make_supernet_task
from nas.model.build import build
from nas.training.distributed import ProcessGroup
from nas.training.tasks import Detection, DetectionSource, Segmentation, SegmentationSource
from search_spaces.blockwise import BlockwiseSpace
from tests.data.dense.builders import voc_xml
from tests.estimators.test_supernet_network import assert_equals_standalone
from tests.methods.search.tiny_masks import write_masks
from tests.training.tasks.boxed_images import BoxedSplit

TASKS: Final = ("detection", "segmentation")
CPU: Final = torch.device("cpu")
PROXY: Final = ProxySettings(
    width_multiplier=0.25, resolution_px=32, epochs=1, batch_size=6, lr=0.01, device="cpu", checkpoint_s=0
)
SETTINGS: Final = SupernetSettings(epochs=2, batch_size=6, networks=2, statistics_images=8)


def make_space(**fields: Any) -> BlockwiseSpace:
    return BlockwiseSpace(
        **{
            "name": "small",
            "resolution_px": 64,
            "stem": {"channels": 16},
            "head": {"channels": 32},
            "choices": {"kernel": [3, 5], "expansion": [2, 3]},
            "stages": [
                {"stride": 2, "channels": 16, "blocks": [{"expansion": 2, "kernel": 3}]},
                {"stride": 2, "channels": [16, 32], "blocks": [{}]},
                {"stride": 2, "channels": 32, "blocks": [{}, {"repeats": [0, 1]}]},
            ],
        }
        | fields
    )


def write_boxes(root: Path) -> None:
    """Drawn rectangles in the layout of Pascal VOC: 12 train and 6 validation images."""
    lists = root / "ImageSets" / "Main"
    for folder in (lists, root / "JPEGImages", root / "Annotations"):
        folder.mkdir(parents=True)
    for split, images in (("train", BoxedSplit(1, 12)), ("val", BoxedSplit(2, 6))):
        names = [f"{split}{row}" for row in range(len(images))]
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        for row, name in enumerate(names):
            Image.fromarray(images.image(row)).save(root / "JPEGImages" / f"{name}.png")
            boxes: list[Any] = [
                (("red", "blue")[label], *map(int, box))
                for box, label in zip(images.boxes(row), images.labels(row), strict=True)
            ]
            (root / "Annotations" / f"{name}.xml").write_text(voc_xml(boxes, size=(96, 64)), encoding="utf-8")


@pytest.fixture(scope="module")
def data_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TaskData]:
    """Small images of a task, loaded once."""

    @cache
    def load(task: str) -> TaskData:
        root = tmp_path_factory.mktemp("data") / task
        if task == "detection":
            write_boxes(root)
            return load_detection_data(DenseDataSettings(name="detection", root=str(root), first_pixel=0))
        write_masks(root)
        return load_segmentation_data(DenseDataSettings(name="segmentation", root=str(root)))

    return load


@pytest.fixture
def scorer_of(data_of: Callable[[str], TaskData], tmp_path: Path) -> Callable[..., SupernetScorer]:
    """Scorer of a task whose supernet is not trained yet."""

    def make(task: str, **changes: Any) -> SupernetScorer:
        return SupernetScorer(
            **{
                "data": data_of(task),
                "proxy": PROXY,
                "settings": SETTINGS,
                "space": make_space(),
                "largest_kernel": 5,
                "seed": 0,
                "folder": tmp_path / "supernet",
            }
            | changes
        )

    return make


def candidates(scorer: SupernetScorer, task: str, count: int) -> list[ArchSpec]:
    rng, attach = random.Random(0), detector if task == "detection" else segmenter
    return [attach(scorer.space.decode(scorer.space.sample(rng), classes=2), 2) for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "attach"),
    [
        ("mobilenetv3_small_050", detector),
        ("mixnet_s", partial(segmenter, output_stride=8)),
        ("mnasnet_small", partial(segmenter, low_stride=16)),
        ("mobilenetv1_025", partial(detector, output_stride=16, tap="output")),
    ],
)
def test_networks_have_the_outputs_of_their_standalone_modules(name: str, attach: Callable[..., ArchSpec]) -> None:
    """With weights of which a network of more classes needs more; LR-ASPP at one stride has no resize."""
    specs = [attach(zoo.get(name), classes, resolution_px=64, head_width=0.25) for classes in (3, 4)]
    assert_equals_standalone(specs[0], slot_shapes(specs, kernel_transform=True))


def test_heads_of_different_kinds_share_no_layer_of_their_own() -> None:
    trunk = zoo.get("mobilenetv3_small_050")
    specs = (trunk, detector(trunk, 3), segmenter(trunk, 3))  # a segmenter's last kernels are dilated
    shapes = [set(slot_shapes([spec])) for spec in specs]
    shared = shapes[0] & shapes[1] & shapes[2]
    assert all(slot.startswith(("blocks.", "conv_stem", "bn1")) for slot in shared)
    assert shapes[1] & shapes[2] == shared == shapes[0] & shapes[2] and shapes[0] & shapes[1] > shared


@pytest.mark.parametrize("task", TASKS)
def test_score_is_that_of_the_standalone_module_with_inherited_weights(
    scorer_of: Callable[..., SupernetScorer], task: str
) -> None:
    scorer = scorer_of(task)
    scorer.prepare()
    arch = candidates(scorer, task, 1)[0]
    spec = scorer.reduced(arch)
    module = build(spec)
    module.load_state_dict(scorer.inherited_state(arch))
    data: Any = scorer.data
    source: Any
    if task == "detection":
        source = DetectionSource(data, PROXY, resolution_px=32, seed=5, device=CPU)
        expected = Detection(spec, source, PROXY, CPU).score(module.eval(), source.val_batches())
    else:
        source = SegmentationSource(data, PROXY, resolution_px=32, seed=5, device=CPU)
        expected = Segmentation(source, PROXY, CPU).score(module.eval(), source.val_batches())
    found = scorer.evaluate(arch)
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    assert found.accuracy == pytest.approx(expected.accuracy, abs=1e-3)
    assert scorer.scores(arch) == {SCORE: -found.loss}  # without looking for boxes
    sent = pickle.dumps(scorer)
    scorer.path.unlink()
    assert pickle.loads(sent).scores(arch) == {SCORE: -found.loss}


@pytest.mark.parametrize(("task", "sandwich"), [("detection", True), ("segmentation", False)])
def test_interrupted_training_resumes_with_equal_weights(
    scorer_of: Callable[..., SupernetScorer], tmp_path: Path, task: str, sandwich: bool
) -> None:
    scorer = scorer_of(task, settings=replace(SETTINGS, sandwich=sandwich))
    unbroken = replace(scorer, folder=tmp_path / "unbroken")
    unbroken.prepare()

    def interrupt(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scorer.prepare(interrupt)
    resumed: list[int] = []
    scorer.prepare(lambda done, _: resumed.append(done))
    assert resumed == [3, 4]
    assert scorer.path.read_bytes() == unbroken.path.read_bytes()


def test_file_tells_task_images_and_classes_and_is_refused_for_another(
    scorer_of: Callable[..., SupernetScorer],
) -> None:
    scorer = scorer_of("detection", settings=replace(SETTINGS, epochs=1))
    scorer.prepare()
    file = read_supernet_file(scorer.path)
    assert file.classes == 2 and file.identity["task"] == "detection" and file.identity["data"][0] == [12]
    data: Any = scorer.data
    padded = replace(data, settings=replace(data.settings, fit="pad"))
    for other, name in ((scorer_of("segmentation"), "largest network"), (replace(scorer, data=padded), "data")):
        with pytest.raises(NasError, match=f"was trained with another {name}"):
            other.prepare()


@pytest.mark.parametrize("task", TASKS)
def test_training_lowers_the_loss(
    scorer_of: Callable[..., SupernetScorer], task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    original = DenseSupernet.loss

    def record(task: DenseSupernet, *given: Any) -> Tensor:
        loss = original(task, *given)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(DenseSupernet, "loss", record)
    # Detectors of 32 px and a quarter of the width learn too slowly to tell.
    scorer_of(
        task,
        settings=replace(SETTINGS, epochs=12, networks=1, lr=0.01),
        proxy=replace(PROXY, resolution_px=64, width_multiplier=1.0),
    ).prepare()
    before, after = np.mean(losses[:2]), np.mean(losses[-6:])
    assert len(losses) == 24 and after < 0.9 * before


def test_networks_of_a_step_see_the_same_images_at_their_resolutions(
    data_of: Callable[[str], TaskData], scorer_of: Callable[..., SupernetScorer]
) -> None:
    task = make_supernet_task(data_of("segmentation"), replace(PROXY, shift=0.1), seed=0, device=CPU)
    spec = scorer_of("segmentation").reduced(candidates(scorer_of("segmentation"), "segmentation", 1)[0])
    small = replace(spec, resolution_px=16)
    generator = torch.Generator()
    task.start_epoch(0, generator)
    first, small_first, small_second = task.batch(0, spec), task.batch(0, small), task.batch(1, small)
    second = task.batch(1, spec)
    for large, resized in ((first, small_first), (second, small_second)):
        # Halves of the sides: means of four pixels, with antialiasing that reaches beyond, and edges of one pixel.
        mean = torch.nn.functional.avg_pool2d(large.images, 2)
        assert (mean - resized.images).abs().mean() < 0.25 * (first.images - second.images).abs().mean()
    task.start_epoch(0, generator)
    again = task.batch(1, spec)  # without the first
    assert torch.equal(again.images, second.images)


def soft_loss_by_hand(logits: Any, probabilities: Any, mask: Any) -> float:
    """Loss of a segmenter with a teacher, by loops over images, rows and columns of positions."""
    total = weight = 0.0
    cell = mask.shape[1] // logits.shape[2]
    for image, row, column in np.ndindex(len(logits), *logits.shape[2:]):
        pixels = mask[image, row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
        share = float((pixels != VOID).mean())
        scores = logits[image, :, row, column]
        log_probabilities = scores - np.log(np.exp(scores).sum())
        total -= share * float((probabilities[image, :, row, column] * log_probabilities).sum())
        weight += share
    return total / weight


def test_segmenters_learn_from_a_teacher_where_pixels_are_not_void(data_of: Callable[[str], TaskData]) -> None:
    task: Any = make_supernet_task(data_of("segmentation"), PROXY, seed=0, device=CPU)
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(2, 3, 4, 4, generator=generator) for _ in range(2))
    mask = torch.randint(0, 3, (2, 16, 16), generator=generator)
    mask[0, :6] = VOID
    mask[1, :, 10:] = VOID
    soft = task.soft_targets(teacher)
    expected = soft_loss_by_hand(logits.double().numpy(), soft.double().numpy(), mask.numpy())
    assert task.soft_loss(logits, mask, soft).item() == pytest.approx(expected, rel=1e-5)
    at_void = logits.clone()
    at_void[0, :, 0] = 50.0
    assert task.soft_loss(at_void, mask, soft).item() == pytest.approx(expected, rel=1e-5)
    own = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(task.soft_loss(own, torch.full_like(mask, VOID), soft), own)
    assert not gradient.any()
    assert task.soft_loss(logits, mask, task.soft_targets(teacher[:, :, ::2, ::2])).isfinite()


def test_detectors_learn_from_the_labels_beside_a_teacher(
    scorer_of: Callable[..., SupernetScorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[Any] = []
    original = DenseSupernet.loss

    def record(task: DenseSupernet, spec: ArchSpec, outputs: Any, targets: Any) -> Tensor:
        losses.append(targets.labels)
        return original(task, spec, outputs, targets)

    monkeypatch.setattr(DenseSupernet, "loss", record)
    scorer_of("detection", settings=replace(SETTINGS, sandwich=True, epochs=1)).prepare()
    assert len(losses) == 2 * 4 and all(labels.dtype == torch.int64 for labels in losses)


def test_processes_share_batches(data_of: Callable[[str], TaskData], scorer_of: Callable[..., SupernetScorer]) -> None:
    spec = scorer_of("segmentation").reduced(candidates(scorer_of("segmentation"), "segmentation", 1)[0])
    whole, *parts = (
        make_supernet_task(data_of("segmentation"), PROXY, seed=0, device=CPU, processes=processes)
        for processes in (None, *(ProcessGroup(rank=rank, size=2) for rank in range(2)))
    )
    batches = []
    for task in (whole, *parts):
        task.start_epoch(0, torch.Generator())
        batches.append(task.batch(0, spec))
    assert torch.equal(torch.cat([part.images for part in batches[1:]]), batches[0].images)
    assert [part.weight for part in batches] == [1.0, 0.5, 0.5]
