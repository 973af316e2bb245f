"""Images of a full training: in memory or streamed, as recipe, memory and user decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from nas.arch import zoo
from nas.core.errors import NasError
from nas.data.sources import DataSettings
from nas.methods.full_training.config import RunSettings, TrainingPlan
from nas.methods.full_training.images import TrainingImages, load_training_images
from nas.training.batches import InMemorySource
from nas.training.distributed import ProcessGroup
from nas.training.recipe import RecipeSettings
from nas.training.streaming.batches import StreamedSource
from tests.data.test_streaming import write_images


def load(data: dict[str, Any], **recipe: Any) -> TrainingImages:
    settings = RecipeSettings(**{"resolution_px": 12, "device": "cpu", "loader_workers": 0, **recipe})
    plan = TrainingPlan(
        arch=zoo.get("mixnet_s"), data=DataSettings(**data), recipe=settings, run=RunSettings(), runs_dir=Path("runs")
    )
    return load_training_images(plan, Console(quiet=True))


def source(images: TrainingImages) -> InMemorySource | StreamedSource:
    made = images.make_source(torch.device("cpu"), ProcessGroup())
    assert isinstance(made, InMemorySource | StreamedSource)
    return made


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, Any]:
    """18 images, of 7,776 bytes at 12 px."""
    return {"name": "imagefolder", "root": str(write_images(tmp_path))}


@pytest.mark.parametrize(
    ("limit", "recipe", "is_streamed"),
    [
        (7776, {}, False),
        (7775, {}, True),
        (7776, {"stream": True}, True),
        (7776, {"crop_scale": 0.3}, True),
        (7776, {"crop_pct": 0.9}, True),
        (7776, {"stream": False, "interpolation": "bicubic"}, False),
    ],
    ids=str,
)
def test_images_are_streamed_where_recipe_memory_or_user_say_so(
    photos: dict[str, Any], limit: int, recipe: dict[str, Any], is_streamed: bool
) -> None:
    images = load({**photos, "max_memory_bytes": limit}, **recipe)
    assert isinstance(source(images), StreamedSource) == images.is_streamed == is_streamed


def test_streamed_images_are_described_and_scored_as_those_in_memory(photos: dict[str, Any]) -> None:
    streamed, loaded = load(photos, stream=True), load(photos)
    assert (streamed.summary, streamed.dataset) == (loaded.summary, loaded.dataset)
    assert streamed.dataset is not None and all(one.sample for one in streamed.dataset.classes)
    for images in ((streamed, loaded), [one.normalised((0.5,) * 3, (0.25,) * 3) for one in (streamed, loaded)]):
        first, second = (torch.cat([batch.images for batch in source(one).val_batches()]) for one in images)
        assert torch.equal(first, second)
    assert images[0].summary.mean == images[0].summary.mean == (0.5,) * 3


def test_images_in_memory_are_augmented_as_files_are() -> None:
    images = load({"name": "digits", "subset": 20}, auto_augment="rand-m9-mstd0.5", batch_size=10)
    assert [batch.images.shape for batch in source(images).train_batches(1)] == 2 * [(10, 1, 12, 12)]


def test_what_does_not_go_together_is_named(photos: dict[str, Any]) -> None:
    with pytest.raises(NasError, match=r"^recipe\.stream false: recipe\.crop_scale and recipe\.crop_pct apply to"):
        load(photos, stream=False, crop_scale=0.1, crop_pct=0.9)
    with pytest.raises(NasError, match=r"^data\.resolution_px 9: streamed images are decoded at .* network, 12 px"):
        load({**photos, "resolution_px": 9}, stream=True)
    with pytest.raises(NasError, match=r"^recipe\.stream 'yes': must be true, false or null"):
        load(photos, stream="yes")
    with pytest.raises(NasError, match=r"need 0\.00 GB in memory, data\.max_memory_bytes allows"):
        load({**photos, "max_memory_bytes": 1}, stream=False)
