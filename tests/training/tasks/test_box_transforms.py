"""Changes of images with boxes against torchvision's transforms."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional
from torchvision.tv_tensors import BoundingBoxes, Image

from nas.training.tasks.box_transforms import BoxTransform, RandomBoxCrop
from nas.training.tasks.detection_loss import IGNORED

DRAW = np.random.default_rng(0)
IMAGE = np.kron(DRAW.integers(0, 255, (12, 16, 3)), np.ones((10, 10, 1))).astype(np.uint8)  # 160 x 120 px, smooth
BOXES = np.array([[10.0, 20, 60, 70], [100, 50, 150, 118], [3, 3, 20, 20]])
LABELS = np.array([2, 0, 1])
PLAIN = {"crop_scale": None, "flips": False}


def test_a_whole_image_is_torchvisions_resize() -> None:
    square, boxes = BoxTransform(side_px=64).whole(IMAGE, BOXES)
    expected = functional.resize(torch.from_numpy(IMAGE).permute(2, 0, 1).contiguous(), [64, 64], antialias=True)
    assert torch.equal(square, expected)
    torch.testing.assert_close(boxes, torch.from_numpy(BOXES / [160, 120, 160, 120]).float())


def test_a_padded_image_keeps_its_shape_in_the_middle() -> None:
    square, boxes = BoxTransform(side_px=80, pads=True, fill=(1, 2, 3)).whole(IMAGE, BOXES)
    assert (square[:, :10] == torch.tensor([1, 2, 3])[:, None, None]).all()
    assert torch.equal(square[:, 10:70], functional.resize(torch.from_numpy(IMAGE).permute(2, 0, 1), [60, 80]))
    torch.testing.assert_close(boxes[0], torch.tensor([10, 20 + 20, 60, 70 + 20]) / 160)


def test_without_draws_training_shows_the_whole_image() -> None:
    square, boxes, labels = BoxTransform(side_px=64, **PLAIN).train(IMAGE, BOXES, LABELS)
    whole, expected = BoxTransform(side_px=64).whole(IMAGE, BOXES)
    assert torch.equal(square, whole)
    assert torch.equal(boxes, expected)
    assert labels.tolist() == [2, 0, 1]


def test_flips_mirror_image_and_boxes() -> None:
    transform, found = BoxTransform(side_px=64, crop_scale=None), {}
    whole, boxes = transform.whole(IMAGE, BOXES)
    for seed in range(20):
        torch.manual_seed(seed)
        square, moved, _ = transform.train(IMAGE, BOXES, LABELS)
        found[torch.equal(square, whole)] = square, moved
    mirrored = functional.horizontal_flip(BoundingBoxes(boxes * 64, format="XYXY", canvas_size=(64, 64)))
    assert torch.equal(found[False][0], functional.horizontal_flip(whole))
    torch.testing.assert_close(found[False][1], mirrored.as_subclass(torch.Tensor) / 64)


@pytest.mark.parametrize("seed", range(4))
def test_zoom_and_crop_are_those_of_torchvision_one_after_the_other(seed: int) -> None:
    """torchvision enlarges the canvas, crops it and resizes; here the pixels are resized once."""
    torch.manual_seed(seed)
    transform = BoxTransform(side_px=96, zoom_out=1.0, crop_scale=0.3**2, flips=False, fill=(0, 0, 0))
    drawn = {}

    def remembered(cls: type[v2.Transform]) -> mock._patch[object]:
        make = cls.make_params

        def make_params(self: v2.Transform, inputs: list[object]) -> dict[str, object]:
            drawn[cls] = self, make(self, inputs)
            return drawn[cls][1]

        return mock.patch.object(cls, "make_params", make_params)

    with remembered(v2.RandomZoomOut), remembered(RandomBoxCrop):
        square, boxes, labels = transform.train(IMAGE, BOXES, LABELS)
    image = Image(torch.from_numpy(IMAGE).permute(2, 0, 1))
    moved = BoundingBoxes(torch.from_numpy(BOXES), format="XYXY", canvas_size=(120, 160))
    for cls in (v2.RandomZoomOut, RandomBoxCrop):
        made, params = drawn[cls]
        image, moved = made.transform(image, params), made.transform(moved, params)
    resize, clamp, clean = v2.Resize((96, 96)), v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes()
    theirs = clean({"image": resize(image), "boxes": clamp(resize(moved)), "labels": torch.from_numpy(LABELS)})
    assert labels.tolist() == theirs["labels"].tolist()
    assert (boxes * 96 - theirs["boxes"].as_subclass(torch.Tensor)).abs().max() <= 1.01  # pasted at whole px
    difference = (square.float() - theirs["image"].as_subclass(torch.Tensor).float()).abs()
    assert difference.mean() < 12  # of 255: edges between plain fields, up to half a pixel apart


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.7])
def test_a_crop_is_the_first_trial_that_torchvision_allows(overlap: float) -> None:
    ours, theirs = RandomBoxCrop(), v2.RandomIoUCrop(sampler_options=[overlap])
    boxes = BoundingBoxes(torch.from_numpy(BOXES), format="XYXY", canvas_size=(120, 160))
    for seed in range(30):
        draws = np.random.default_rng(seed).random((40, 4))
        found = ours.first_allowed(BOXES, (120, 160), draws, overlap)
        sides = (0.3 + 0.7 * draws[:, :2]) * [160, 120]
        ratio = sides[:, 0].astype(int) / sides[:, 1].astype(int)
        # torchvision draws the place of a trial only if its shape is allowed.
        served = iter(
            [torch.from_numpy(pair) for one, shape in zip(draws, ratio, strict=True)
             for pair in ((one[:2], one[2:]) if 0.5 <= shape <= 2 else (one[:2],))]
        )  # fmt: skip
        with mock.patch("torch.rand", lambda *_: next(served)):  # noqa: B023
            try:
                expected = theirs.make_params([boxes])
            except StopIteration:
                expected = None  # it would draw another overlap
        if expected is None:
            assert found is None
        else:
            assert found is not None
            assert found.pop("is_within_crop_area").tolist() == expected.pop("is_within_crop_area").tolist()
            assert found == expected


def test_crops_have_at_least_the_share_of_the_area() -> None:
    areas = []
    with mock.patch.object(BoxTransform, "_placed", lambda self, image, area, boxes: areas.append(area) or (0, boxes)):
        for seed in range(40):
            torch.manual_seed(seed)
            BoxTransform(side_px=64, crop_scale=0.25, flips=False).train(IMAGE, BOXES, LABELS)
    shares = [math.sqrt(area.width * area.height / (160 * 120)) for area in areas]
    assert min(shares) >= 0.49
    assert max(shares) == 1.0  # one overlap in seven means the whole image
    assert len(set(shares)) > 20


def test_colours_change_and_shapes_do_not() -> None:
    torch.manual_seed(0)
    square, boxes, _ = BoxTransform(side_px=64, color_jitter=0.5, **PLAIN).train(IMAGE, BOXES, LABELS)
    whole, expected = BoxTransform(side_px=64).whole(IMAGE, BOXES)
    assert torch.equal(boxes, expected)
    assert square.shape == whole.shape
    assert not torch.equal(square, whole)


def test_an_image_without_boxes_is_left_whole() -> None:
    square, boxes, labels = BoxTransform(side_px=64, flips=False).train(IMAGE, np.empty((0, 4)), np.empty(0, int))
    assert torch.equal(square, BoxTransform(side_px=64).whole(IMAGE, BOXES)[0])
    assert boxes.shape == (0, 4)
    assert labels.shape == (0,)


def test_objects_beside_a_crop_that_bars_would_hide_keep_their_boxes() -> None:
    """A tall crop is shown with what is beside it in the image, so that objects there are visible."""
    transform = BoxTransform(side_px=60, pads=True, crop_scale=0.25, flips=False)
    drawn = {"left": 60, "top": 30, "width": 30, "height": 60}  # the square around it reaches from 45 to 105
    boxes = np.array([[65.0, 40, 85, 80], [92, 40, 104, 60], [120, 40, 140, 60]])
    with mock.patch.object(RandomBoxCrop, "make_params", return_value=drawn):
        square, found, labels = transform.train(IMAGE, boxes, LABELS)
    assert labels.tolist() == [2, 0]
    torch.testing.assert_close(found * 60, torch.tensor([[20.0, 10, 40, 50], [47, 10, 59, 30]]))
    assert torch.equal(square, torch.from_numpy(IMAGE[30:90, 45:105].copy()).permute(2, 0, 1))


@pytest.mark.parametrize("pads", [False, True])
def test_boxes_of_the_square_return_to_the_image_where_they_were(pads: bool) -> None:
    """Also where bars are whole px of the square, but not of the image."""
    transform = BoxTransform(side_px=50, pads=pads)
    boxes = np.array([[0.0, 0, 160, 87], [10, 20, 60, 70]])
    _, shares = transform.whole(IMAGE[:87], boxes)
    np.testing.assert_allclose(transform.at_own_size(shares.double().numpy(), 160, 87), boxes, atol=1e-4)


@pytest.mark.parametrize("changes", [{"crop_scale": 0.25}, {"crop_scale": 0.25, "zoom_out": 0.7}, {"shift": 0.2}])
@pytest.mark.parametrize("pads", [False, True])
def test_what_is_shown_of_an_ignored_box_stays_ignored(changes: dict[str, float], pads: bool) -> None:
    """The box is painted, and looked for among the pixels of the square; objects are drawn as without it."""
    transform = BoxTransform(side_px=80, pads=pads, fill=(0, 0, 0), **({"crop_scale": None} | changes))
    image, crowd = np.zeros((120, 160, 3), dtype=np.uint8), [90, 40, 150, 110]
    image[crowd[1] : crowd[3], crowd[0] : crowd[2]] = 255
    objects = np.array([[10.0, 20, 60, 70], [3, 3, 20, 20]])
    hidden = parts = 0
    for seed in range(40):
        torch.manual_seed(seed)
        square, boxes, labels = transform.train(
            image, np.array([objects[0], crowd, objects[1]]), np.array([2, IGNORED, 1])
        )
        torch.manual_seed(seed)
        alone, expected, of_objects = transform.train(image, objects, np.array([2, 1]))
        assert torch.equal(square, alone)
        assert torch.equal(boxes[labels >= 0], expected)
        assert torch.equal(labels[labels >= 0], of_objects)
        across, down = ((square.amax(0) > 127).any(axis).nonzero()[:, 0] for axis in (0, 1))
        found = boxes[labels == IGNORED] * 80
        if min(len(across), len(down)) <= 1:  # px, a side that a box need not have
            hidden += 1
            assert (found[:, 2:] - found[:, :2] < 2).any(1).all()
            continue
        painted = torch.tensor([[across[0], down[0], across[-1] + 1, down[-1] + 1]])
        assert found.shape == painted.shape
        assert (found - painted).abs().max() <= 1.01
        parts += int((painted == 0).any() or (painted == 80).any())
    assert parts > 3 or "shift" in changes
    assert hidden > 0 or "crop_scale" not in changes
