"""What data sets with boxes and with masks share: images, identity, description."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from nas.core.errors import NasError
from nas.data.dense.description import DenseClass, DenseDescription, with_digest
from nas.data.dense.loading import load_notices, shown_sizes
from nas.data.dense.pixels import ImageStore, Pixels, Size, store_statistics
from nas.data.dense.records import BoxSource, MaskSource
from nas.data.dense.settings import DenseDataSettings, dense_root
from nas.data.image_files import shown_name


class LabelCounts(NamedTuple):
    """Labels of a split.

    ``amounts`` (K,): boxes of each class, or its share of the pixels that have one. ``images`` (K,): images that show
    it. ``empty``: images that show none. ``counted``: boxes or pixels that count in scores.
    """

    amounts: NDArray[Any]
    images: NDArray[np.int64]
    empty: int
    counted: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DenseSplit:
    """Images of a split.

    ``names``: as shown to users, of files relative to the root.
    """

    store: ImageStore
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, rows: Sequence[int]) -> Self:
        """Return the split of the images of ``rows``, in that order."""
        names = [self.names[row] for row in rows]
        return replace(self, store=self.store.subset(rows), names=names, **self._labels_of(rows))

    def size(self, row: int) -> Size:
        """Width and height of an image in px, upright."""
        return self.store.size(row)

    def image(self, row: int) -> Pixels:
        """Image of a row, uint8 RGB (H, W, 3), upright; it may be read-only."""
        return self.store.image(row)

    def label_counts(self, classes: int) -> LabelCounts:
        """Count the labels of ``classes`` classes."""
        raise NotImplementedError

    def label_bytes(self) -> Iterator[bytes]:
        """Yield what the labels are, for a hash."""
        raise NotImplementedError

    def digest(self) -> str:
        """Hash of names, labels and sizes, hex."""
        digest = hashlib.sha256("\0".join(self.names).encode("utf-8", "surrogateescape"))
        for part in self.label_bytes():
            digest.update(part)
        digest.update(self.store.size_bytes())
        return digest.hexdigest()

    def _labels_of(self, rows: Sequence[int]) -> dict[str, Any]:
        """The fields of labels, of the images of ``rows`` only."""
        raise NotImplementedError


SplitT = TypeVar("SplitT", bound=DenseSplit)


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True, eq=False)
class DenseData(Generic[SplitT]):
    """Data set of images with boxes or masks.

    ``mean`` and ``std`` per channel of the train images, for pixels scaled to [0, 1]. ``settings``: how they become
    inputs. ``notices``: what the user should know of how the labels were read or repaired. ``source_digest``: hash of
    the file that images and masks are arrays of; empty for image files, None for boxes.
    """

    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train: SplitT
    val: SplitT
    settings: DenseDataSettings
    description: DenseDescription
    notices: tuple[str, ...] = ()
    source_digest: str | None = None

    @property
    def classes(self) -> int:
        """Number of classes, without background and void."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Channels per image."""
        return 3

    def identity(self) -> list[Any]:
        """Return what the images and labels depend on, as JSON data.

        Names, sizes, labels, classes, settings.
        """
        digests = [self.train.digest(), self.val.digest()]
        if self.source_digest is not None:
            digests.append(self.source_digest)
        settings = self.settings.identity()
        del settings["root"]  # the data may be moved
        return [*digests, list(self.class_names), list(self.mean), list(self.std), settings]


DataT = TypeVar("DataT", bound=DenseData[Any])


def make_data(
    kind: type[DataT],
    settings: DenseDataSettings,
    layout: str,
    source: BoxSource | MaskSource,
    class_names: tuple[str, ...],
    splits: Sequence[DenseSplit],
    *,
    found: int,
    notices: Sequence[str],
    source_digest: str | None = None,
    **described: Any,
) -> DataT:
    """Make the data set of two splits, train and validation.

    ``found``: train images before ``data.subset``. ``described``: what the description has of boxes or masks only.

    Raises: NasError if a split has no labels that count.
    """
    train, val = splits
    counts = [split.label_counts(len(class_names)) for split in splits]
    _check_labelled(counts, settings)
    mean, std = store_statistics(train.store, settings.seed)
    told = (*notices, *load_notices(train.store, val.store, settings, (train.names, val.names)))
    columns = [column.tolist() for part in ("amounts", "images") for column in (getattr(one, part) for one in counts)]
    made = kind(
        class_names=class_names,
        mean=mean,
        std=std,
        train=train,
        val=val,
        settings=settings,
        description=DenseDescription(
            task=settings.task,
            layout=layout,
            path=shown_name(dense_root(settings).absolute()),
            train_place=source.train_text,
            val_place=source.val_text,
            found=found,
            train=len(train),
            val=len(val),
            train_empty=counts[0].empty,
            val_empty=counts[1].empty,
            classes=tuple(
                DenseClass(name=shown_name(name), train=of_train, val=of_val, train_images=in_train, val_images=in_val)
                for name, of_train, of_val, in_train, in_val in zip(class_names, *columns, strict=True)
            ),
            sizes=shown_sizes([split.size(row) for split in splits for row in range(len(split))]),
            left_out=source.left_out,
            notices=told,
            **described,
        ),
        notices=told,
        source_digest=source_digest,
    )
    # Of all but the settings, which are compared by themselves.
    return replace(made, description=with_digest(made.description, made.identity()[:-1]))


def _check_labelled(counts: Sequence[LabelCounts], settings: DenseDataSettings) -> None:
    """Check that both splits have labels that count. Raises: NasError."""
    what = "a box that counts" if settings.task == "detection" else "a pixel of a class"
    for split, purpose, labels in zip(
        ("train", "validation"), ("be trained on", "score a network by"), counts, strict=True
    ):
        if not labels.counted:
            raise NasError(
                f"data.root: no {split} image of {settings.root} has {what}, so that there is nothing to {purpose}; "
                "add labels, or choose other images (data.train, data.val, data.seed)."
            )
