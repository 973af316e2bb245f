"""Streamed batches: the same for any number of loader processes, resumable, and safe when something breaks."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import random
import signal
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nas.core.errors import NasError
from nas.data.images import ImageData
from nas.data.streaming import DecodedImages, ImageFiles, list_images
from nas.training.augmentation import normalise
from nas.training.augmentation_settings import AugmentationSettings
from nas.training.batches import TrainBatch
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import normalization_statistics
from nas.training.recipe import RecipeSettings
from nas.training.run import TrainingRun
from nas.training.streaming import batches
from nas.training.streaming.batches import StreamedSource
from nas.training.streaming.loader import BatchImages, BatchRequest, automatic_workers
from nas.training.streaming.transforms import TrainTransform, ValTransform
from nas.training.trainer import TrainingHooks, train_network
from tests.data.test_streaming import folder, write_images
from tests.deadline import DEADLINE_S
from tests.training.nets import first_images

CPU = torch.device("cpu")
SETTINGS = AugmentationSettings(
    batch_size=6,
    crop_scale=0.3,
    auto_augment="rand-m9-mstd0.5",
    color_jitter=0.2,
    random_erasing=0.5,
    erase_mode="pixel",
    loader_workers=0,
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageFiles:
    """27 train and 9 validation images."""
    return list_images(folder(write_images(tmp_path_factory.mktemp("images"), per_class=12), val_fraction=0.25), 16)


@pytest.fixture
def breakable(tmp_path: Path) -> ImageFiles:
    """Images of which a test may damage files: 14 of training, 4 of validation."""
    return list_images(folder(write_images(tmp_path)), 8)


def source(images: Any, *, seed: int = 5, processes: ProcessGroup | None = None, **fields: Any) -> StreamedSource:
    return StreamedSource(images, replace(SETTINGS, **fields), seed=seed, device=CPU, processes=processes)


def equal(first: list[TrainBatch], second: list[TrainBatch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one.rows, other.rows)
        and torch.equal(one.images, other.images)
        and torch.equal(one.targets, other.targets)
        and one.total == other.total
        for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_loader_processes_nor_on_where_an_epoch_goes_on(
    images: ImageFiles, workers: int
) -> None:
    alone, shared = source(images), source(images, loader_workers=workers)
    epochs = [list(alone.train_batches(epoch)) for epoch in (1, 2)]
    for epoch, expected in enumerate(epochs, start=1):
        assert equal(list(shared.train_batches(epoch)), expected)
    left = shared.train_batches(2)
    next(left)
    left.close()  # as an exception of the training does
    for first_step in (2, 4, 5):
        assert equal(list(shared.train_batches(2, first_step)), epochs[1][first_step:])
    for one, other in zip(shared.val_batches(), alone.val_batches(), strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def test_an_epoch_has_every_image_once_in_an_order_of_its_own(images: ImageFiles) -> None:
    epochs = [list(source(images).train_batches(epoch)) for epoch in (1, 2)]
    orders = [torch.cat([batch.rows for batch in epoch]) for epoch in epochs]
    for epoch, order in zip(epochs, orders, strict=True):
        assert sorted(order.tolist()) == list(range(27))
        assert [len(batch.images) for batch in epoch] == [6, 6, 5, 5, 5] == [batch.total for batch in epoch]
        assert torch.equal(torch.cat([batch.targets for batch in epoch]), images.train_labels[order])
    assert not torch.equal(*orders)
    first, again = (
        torch.cat([batch.images for batch in epoch])[order.argsort()]
        for epoch, order in zip(epochs, orders, strict=True)
    )
    assert all(not torch.equal(one, other) for one, other in zip(first, again, strict=True))
    other = torch.cat([batch.rows for batch in source(images, seed=6).train_batches(1)])
    assert not torch.equal(other, orders[0])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"shift": 0.125},
        {"crop_scale": 0.5},
        {"auto_augment": "rand-m9-mstd0.5"},
        {"color_jitter": 0.5},
        {"random_erasing": 1.0},
        {"flip": True},
    ],
)
def test_images_are_fixed_if_two_epochs_have_the_same(images: ImageFiles, fields: dict[str, Any]) -> None:
    none = {"shift": 0.0, "crop_scale": None, "auto_augment": None, "color_jitter": 0.0, "random_erasing": 0.0}
    flip = fields.get("flip", False)
    changes = {name: value for name, value in fields.items() if name != "flip"}
    fixed = source(replace(images, settings=replace(images.settings, flip=flip)), **none | changes)
    epochs = [list(fixed.train_batches(epoch)) for epoch in (1, 2)]
    first, second = (torch.cat([one.images for one in epoch])[order(epoch)] for epoch in epochs)
    assert torch.equal(first, second) == fixed.has_fixed_images == (not fields)


def order(epoch: list[TrainBatch]) -> torch.Tensor:
    """Positions of the images of an epoch by their rows."""
    return torch.cat([batch.rows for batch in epoch]).argsort()


def test_validation_images_are_normalised_and_in_order(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_VAL_BATCH", 16)
    data = first_images(digits, 40)
    expected = normalise(data.val_images, *normalization_statistics(data))
    found = list(source(DecodedImages(data)).val_batches())
    assert [len(batch.labels) for batch in found] == [16, 16, 8]
    assert torch.equal(torch.cat([batch.images for batch in found]), expected)
    assert torch.equal(torch.cat([batch.labels for batch in found]), data.val_labels)


@pytest.mark.parametrize("fields", [{}, {"mixup": 0.2}], ids=str)
def test_processes_share_batches_and_draws(
    images: ImageFiles, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_VAL_BATCH", 2)
    whole = source(images, **fields)
    parts = [source(images, processes=ProcessGroup(rank=rank, size=2), **fields) for rank in range(2)]
    for batch, *shares in zip(whole.train_batches(1), *(part.train_batches(1) for part in parts), strict=True):
        rows, pixels = (torch.cat([getattr(share, name) for share in shares]) for name in ("rows", "images"))
        assert torch.equal(rows, batch.rows[: len(rows)]) and torch.equal(pixels, batch.images[: len(rows)])
        assert {share.total for share in shares} == {len(rows)}
        if fields:  # timm mixes pairs
            assert len(shares[0].rows) == len(shares[1].rows) and len(shares[0].rows) % 2 == 0
        else:
            assert len(rows) == len(batch.rows)
    found = [batch.labels for pair in zip(*(part.val_batches() for part in parts), strict=False) for batch in pair]
    assert sum(map(len, found)) >= 8  # of 9: the first process has a batch more
    assert torch.equal(torch.cat(found), images.val_labels[:8])


@pytest.mark.parametrize("workers", [0, 1])
def test_random_states_of_the_training_are_untouched(images: ImageFiles, workers: int) -> None:
    def states() -> list[Any]:
        return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]

    before = states()
    for _ in source(images, loader_workers=workers).train_batches(1):
        assert states() == before
    assert states() == before


def test_images_of_a_few_batches_are_in_memory_at_a_time(images: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    alive, batches_alive = 0, weakref.WeakSet[torch.Tensor]()
    create = Image.Image._new

    def freed() -> None:
        nonlocal alive
        alive -= 1

    def counted(self: Image.Image, core: Any) -> Image.Image:
        nonlocal alive, most
        image = create(self, core)
        alive += 1
        most = max(most, alive)
        weakref.finalize(image, freed)
        return image

    monkeypatch.setattr(Image.Image, "_new", counted)
    gc.disable()  # what is not freed at once counts
    most, seen = 0, 0
    try:
        for batch in source(images, batch_size=3, auto_augment=None, color_jitter=0.0).train_batches(1):
            batches_alive.add(batch.images)
            seen += len(batch.images)
            assert len(batches_alive) == 1
            del batch
    finally:
        gc.enable()
    assert seen == 27
    assert 0 < most <= 4  # what one image is on the way to its pixels


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_named_in_one_line_and_the_source_goes_on(breakable: ImageFiles, workers: int) -> None:
    streamed = source(breakable, loader_workers=workers)
    expected = list(streamed.train_batches(1))
    file = breakable.train_files[3]
    content = file.read_bytes()
    file.write_bytes(content[:100])
    with pytest.raises(NasError) as caught:
        list(streamed.train_batches(1))
    assert str(caught.value).startswith(f"data.root: cannot decode {file} (")
    assert "\n" not in str(caught.value)
    file.write_bytes(content)
    assert equal(list(streamed.train_batches(1)), expected)


def test_an_image_of_one_colour_is_named(breakable: ImageFiles) -> None:
    Image.new("RGB", (30, 30), (5, 6, 7)).save(breakable.train_files[3])
    with pytest.raises(NasError, match=rf"{breakable.train_files[3]} is of one colour"):
        list(source(breakable).train_batches(1))


@pytest.mark.parametrize("workers", [0, 1])
def test_warnings_about_images_are_not_printed(
    breakable: ImageFiles, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    palette = Image.new("P", (12, 12))
    palette.putdata([index % 7 for index in range(144)])
    palette.save(breakable.train_files[2], format="PNG", transparency=b"\x00\x80\xff")  # of which Pillow warns
    list(source(breakable, loader_workers=workers).train_batches(1))
    assert capfd.readouterr() == ("", "")


def children() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_loader_processes_end_with_their_source(images: ImageFiles) -> None:
    gc.collect()  # sources of other tests
    before = children()
    streamed = source(images, loader_workers=2)
    assert children() == before  # they are started when they are needed
    begun = streamed.train_batches(1)
    next(begun)
    own = set(children()) - set(before)
    assert len(own) == 2
    for pid in own:
        os.kill(pid, signal.SIGINT)  # Ctrl-C reaches all processes of a terminal
    assert len(list(begun)) == 4
    del begun, streamed
    gc.collect()
    assert not own & set(children())


@contextmanager
def forked(run: Callable[[int], None]) -> Iterator[tuple[int, int]]:
    """A copy of this process that runs ``run(pipe)``: its pid, and the pipe to read from."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            run(write)
        finally:
            os._exit(1)
    os.close(write)
    try:
        yield pid, read
    finally:
        os.close(read)


def test_loader_processes_end_with_a_training_that_is_killed(images: ImageFiles) -> None:
    def train(pipe: int) -> None:
        multiprocessing.process._children.clear()
        begun = source(images, loader_workers=2).train_batches(1)
        next(begun)
        os.write(pipe, " ".join(map(str, children())).encode())
        time.sleep(DEADLINE_S)

    with forked(train) as (pid, pipe):
        own = [int(word) for word in os.read(pipe, 1000).split()]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert len(own) == 2
        wait_for(lambda: all(map(has_ended, own)))


def test_a_loader_process_that_is_killed_is_one_line_and_others_take_over(images: ImageFiles) -> None:
    gc.collect()
    expected = list(source(images).train_batches(1))
    handler = signal.getsignal(signal.SIGCHLD)
    before = set(children())
    streamed = source(images, loader_workers=1)
    begun = streamed.train_batches(1)
    next(begun)
    assert signal.getsignal(signal.SIGCHLD) == handler  # torch's would raise in the middle of a step
    (worker,) = set(children()) - before
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(NasError) as caught:
        list(begun)
    assert str(caught.value).startswith(
        "recipe.loader_workers 1: a process that loads images failed (DataLoader worker"
    )
    assert "\n" not in str(caught.value)
    assert equal(list(streamed.train_batches(1)), expected)


def test_a_loader_process_that_ends_with_a_lock_does_not_hold_up_the_training(images: ImageFiles) -> None:
    """As one does that is ended while it looks whether it should end."""
    streamed = source(images, loader_workers=1)
    next(streamed.train_batches(1))
    loader: Any = streamed._loader
    lock = loader._loader._iterator._workers_done_event._cond
    with ThreadPoolExecutor(1) as pool:
        assert lock.acquire(True, DEADLINE_S)
        ended = pool.submit(loader.close)
        try:
            ended.result(DEADLINE_S)
        finally:
            if not ended.done():  # otherwise this test would not end either
                lock.release()
    assert len(list(streamed.train_batches(1))) == 5


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (NasError("data: no"), NasError, r"^data: no$"),
        (RuntimeError("unknown"), RuntimeError, r"^Caught RuntimeError in DataLoader worker process 0\.\nOriginal Tra"),
    ],
    ids=str,
)
def test_mistakes_of_the_code_keep_their_traceback(
    images: ImageFiles, error: Exception, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("nas.training.streaming.transforms.TrainTransform.augment", fail)
    with pytest.raises(kind, match=message):
        list(source(images, loader_workers=1).train_batches(1))


def test_missing_shared_memory_is_one_line(images: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm)\nno space")

    monkeypatch.setattr(torch.Tensor, "share_memory_", fail)
    with pytest.raises(
        NasError, match=r"^recipe\.loader_workers: images cannot be handed over \(.*\(shm\)\); set fewer"
    ):
        list(source(images, loader_workers=1).train_batches(1))
    assert len(list(source(images, loader_workers=0).train_batches(1))) == 5


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.2))
        self.classifier = nn.Linear(36, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.body(pixels))


def test_a_training_stopped_by_a_damaged_file_goes_on_from_its_checkpoint(
    breakable: ImageFiles, tmp_path: Path
) -> None:
    recipe = RecipeSettings(
        epochs=2, batch_size=4, lr=0.01, device="cpu", checkpoint_s=0, crop_scale=0.4, mixup=0.2, loader_workers=0
    )

    def run(hooks: TrainingHooks, checkpoint: Path, workers: int = 0) -> dict[str, torch.Tensor]:
        model, settings = Net(), replace(recipe, loader_workers=workers)
        streamed = StreamedSource(breakable, settings, seed=2, device=CPU)
        train_network(model, streamed, settings, seed=2, checkpoint=checkpoint, hooks=hooks)
        return model.state_dict()

    file = breakable.train_files[5]
    content = file.read_bytes()

    def damage(one: TrainingRun) -> None:
        file.write_bytes(b"")

    expected = run(TrainingHooks(), tmp_path / "unbroken.pt")
    with pytest.raises(NasError, match=f"cannot decode {file}"):
        run(TrainingHooks(on_epoch=damage), tmp_path / "checkpoint.pt")
    file.write_bytes(content)
    begun: list[int] = []
    weights = run(
        TrainingHooks(on_start=lambda one: begun.append(one.steps_done)), tmp_path / "checkpoint.pt", workers=1
    )
    assert begun[0] >= 4
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_source_is_identified_by_its_images_and_not_by_processes(images: ImageFiles, digits: ImageData) -> None:
    first = source(images)
    assert first.identity() == source(images, loader_workers=3).identity()
    assert replace(SETTINGS, loader_workers=3).identity() == SETTINGS.identity()
    assert first.identity() != source(images, seed=6).identity()
    assert source(DecodedImages(digits)).identity() != source(DecodedImages(first_images(digits, 40))).identity()
    assert first.train_class_images == (9, 9, 9) and first.val_class_images == (3, 3, 3)
    assert (first.channels, first.resolution_px, first.class_names) == (3, 16, ("ant", "bee", "cat"))
    first.load_state_dict(first.state_dict())


def test_loader_processes_may_be_started_by_other_means_than_forks(images: ImageFiles) -> None:
    """macOS, Windows and Python 3.14 send them the data set."""
    batch_images = BatchImages(images, TrainTransform(images, SETTINGS), ValTransform(images, SETTINGS), 5)
    sent = pickle.loads(pickle.dumps(batch_images))
    for request in (BatchRequest(1, [3, 20]), BatchRequest.of_validation([0, 8])):
        found, expected = sent[request], batch_images[request]
        assert isinstance(found, torch.Tensor) and torch.equal(found, expected)


def test_as_many_loader_processes_as_cores_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(12), raising=False)
    assert [automatic_workers(CPU, threads, 1) for threads in (1, 4, 6, 12, 20)] == [8, 8, 6, 0, 0]
    assert [automatic_workers(torch.device("cuda"), 4, processes) for processes in (1, 2, 6, 12)] == [8, 5, 1, 0]
