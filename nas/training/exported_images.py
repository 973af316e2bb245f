"""Images with boxes or masks by which exported files are calibrated and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.formatting import first_names
from nas.core.progress import ProgressCallback
from nas.data.dense import DENSE_TASKS, AnyDenseData, DenseDataSettings, load_dense_data
from nas.exporters.check import FileScore, run_in_batches
from nas.exporters.deployment import ExportedNetwork, Preprocessing
from nas.exporters.formats import ImageBatch, Run, outputs_of
from nas.exporters.processing import Processing
from nas.exporters.quantisation import ScoredImages, quantisation_rows
from nas.training.settings import TrainSettings
from nas.training.tasks import Detection, make_dense_source, make_dense_task

_CPU = torch.device("cpu")
_LABELS_ARE_NAMES: Final = ("coco", "voc")  # layouts


class DenseExportImages:
    """Images with boxes or masks, prepared as in the training of a network.

    They score its files on its task. Classes are those of the network, normalisation and fit as well.

    Raises: NasError as the loading of the data, and for images of another task or other classes.
    """

    def __init__(
        self, settings: DenseDataSettings, network: ExportedNetwork, *, on_progress: ProgressCallback | None = None
    ) -> None:
        arch, steps = network.arch, network.preprocessing
        if settings.task != arch.task or arch.task not in DENSE_TASKS:
            raise NasError(f"data {settings.name}: {arch.name} is for {arch.task}; choose data={arch.task}.")
        settings = replace(settings, fit=steps.fit, background=steps.background)
        self.name, self._steps, self._spec = settings.name, steps, arch
        loaded: Any = _loaded(settings, network.class_names, on_progress)
        self._data: Any = replace(loaded, mean=steps.mean, std=steps.std)
        if self._data.classes != arch.classes:
            raise NasError(
                f"data {settings.name}: the images have {self._data.classes} classes, the network {arch.classes}; "
                "choose the images that it was trained on."
            )
        self.notices, self._validation = tuple(self._data.notices), _ScoredSplit(self._data, arch, steps)

    def sample(self, count: int) -> ImageBatch:
        """Return ``count`` validation images, evenly spaced; all, if there are fewer."""
        return self._steps.normalised(self._squares(self._data.val, self._evenly(count)))

    def pixel_sample(self, count: int) -> npt.NDArray[np.uint8]:
        """Return the same as pixels, uint8 (N, H, W, C), before normalisation."""
        found: npt.NDArray[np.uint8] = self._squares(self._data.val, self._evenly(count)).transpose(0, 2, 3, 1)
        return found

    def quantisation_images(self, seed: int) -> tuple[ImageBatch, ScoredImages]:
        """Draw different train images for the calibration and to choose layers by."""
        calibrating, selecting = quantisation_rows(len(self._data.train), 3 * self._steps.resolution_px**2, seed)
        calibration = self._steps.normalised(self._squares(self._data.train, calibrating))
        return calibration, _Selection(self._data, self._spec, self._steps, selecting)

    def score(self, run: Run, batch: int, processing: Processing | None) -> FileScore:
        """Score a file, with ``processing`` inside, on all validation images."""
        return self._validation.score(run, batch, processing)

    def _evenly(self, count: int) -> list[int]:
        """Rows of validation images, evenly spaced."""
        images = len(self._data.val)
        rows: list[int] = np.linspace(0, images - 1, min(count, images)).astype(int).tolist()
        return rows

    def _squares(self, split: Any, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Pixels as the network sees them, uint8 (N, C, H, W)."""
        show_whole = self._validation.source.transform.show_whole
        return np.stack([show_whole(split.image(row)).numpy() for row in rows])


class _ScoredSplit:
    """Validation images of a data set, by which files are scored on its task."""

    def __init__(self, data: Any, spec: ArchSpec, steps: Preprocessing) -> None:
        settings, self._steps = TrainSettings(), steps
        self.source: Any = make_dense_source(data, settings, resolution_px=steps.resolution_px, seed=0, device=_CPU)
        self._task: Any = make_dense_task(spec, self.source, settings, _CPU)

    def score(self, run: Run, batch: int, processing: Processing | None) -> FileScore:
        """Score a file, with ``processing`` inside."""
        task = self._task
        if processing is not None and isinstance(task, Detection):
            return self._score_of_boxes(task, run, batch)
        model = _model_of(run, batch) if processing is None else self._segmenter_of(run, batch)
        found = task.score(model, self.source.val_batches())
        return FileScore(
            metric=task.metric,
            accuracy=found.accuracy,
            standard_error=found.standard_error,
            images=self.source.val_images,
            metrics=dict(found.metrics),
            deviations=found.deviations,
        )

    def _score_of_boxes(self, task: Detection, run: Run, batch: int) -> FileScore:
        """Score of a detector that gives boxes."""
        parts = []
        for images in self.source.val_batches():
            boxes, scores, labels = outputs_of(run_in_batches(run, self._pixels(images.images), batch))
            parts.append(np.concatenate([boxes, scores[..., None], labels[..., None]], 2).astype(np.float32))
        precision = task.precision_of(np.concatenate(parts))
        return FileScore(
            metric=task.metric,
            accuracy=precision.mean,
            standard_error=precision.error,
            images=self.source.val_images,
            metrics={"map50": precision.at_50, "map75": precision.at_75},
            deviations=precision.deviations,
        )

    def _segmenter_of(self, run: Run, batch: int) -> Callable[[Tensor], Tensor]:
        """Logits of a segmenter that gives masks first."""

        def model(images: Tensor) -> Tensor:
            _, logits = outputs_of(run_in_batches(run, self._pixels(images), batch))
            return torch.from_numpy(logits)

        return model

    def _pixels(self, images: Tensor) -> npt.NDArray[Any]:
        """Pixels, uint8 (N, H, W, C), that were normalised to ``images`` (N, C, H, W)."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) * 255 for values in (self._steps.mean, self._steps.std))
        found: npt.NDArray[Any] = (images * std + mean).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return found


class _Selection:
    """Train images of ``rows``, by which the layers that stay float32 are chosen."""

    def __init__(self, data: Any, spec: ArchSpec, steps: Preprocessing, rows: Sequence[int]) -> None:
        self._data, self._spec, self._steps, self._rows = data, spec, steps, rows
        self._splits: dict[int, _ScoredSplit] = {}  # by number of images

    def __len__(self) -> int:
        return len(self._rows)

    def score(self, run: Run, batch: int, count: int) -> FileScore:
        """Score a network of fixed ``batch`` size on the first ``count`` images."""
        if count not in self._splits:
            # In the order of the data, so that a group of the jackknife has neighbours.
            val = self._data.train.subset(sorted(self._rows[:count]))
            self._splits[count] = _ScoredSplit(replace(self._data, val=val), self._spec, self._steps)
        return self._splits[count].score(run, batch, None)


def _loaded(
    settings: DenseDataSettings, class_names: tuple[str, ...], on_progress: ProgressCallback | None
) -> AnyDenseData:
    """Data with the classes of a network, which may have no names.

    Labels that are names are read as the network orders them. Labels that are numbers have the names of the data, and
    those of the network only where the data states none: other names for a number are other classes.

    Raises: NasError for other classes.
    """
    found = load_dense_data(settings, on_progress=on_progress)
    if not class_names or found.class_names == class_names:
        return found
    is_unnamed = all(name.isdigit() for name in found.class_names) and not all(name.isdigit() for name in class_names)
    if settings.classes is None and (found.description.layout in _LABELS_ARE_NAMES or is_unnamed):
        return load_dense_data(replace(settings, classes=class_names), on_progress=on_progress)
    raise NasError(
        f"data {settings.name}: its {found.classes} classes ({first_names(found.class_names)}) are not the "
        f"{len(class_names)} of the network ({first_names(class_names)}); choose the images that it was trained on, "
        "with the settings of then, such as data.classes or data.void."
    )


def _model_of(run: Run, batch: int) -> Callable[[Tensor], Any]:
    """A ``Run`` as a function of tensors."""

    def model(images: Tensor) -> Any:
        found = run_in_batches(run, images.contiguous().numpy(), batch)
        return tuple(map(torch.from_numpy, found)) if isinstance(found, tuple) else torch.from_numpy(found)

    return model
