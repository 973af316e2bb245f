"""Standard metadata of image classifiers in LiteRT models, with labels.

MediaPipe's ``ImageClassifier`` and other readers on devices take normalisation and labels from them, MediaPipe
1.2 one mean and deviation for all channels only. The schema is ``metadata_schema.fbs`` of TensorFlow Lite Support,
which MediaPipe ships; LiteRT's package lacks it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import flatbuffers

TASK_METADATA: Final = "TFLITE_METADATA"  # of the entry among a model's metadata
_LABELS_FILE: Final = "labels.txt"
_IDENTIFIER: Final = b"M001"
_PARSER: Final = "1.0.0"  # first version of readers that know all that is written
_AXIS_LABELS: Final = 2  # AssociatedFileType.TENSOR_AXIS_LABELS
_COLOR_SPACES: Final = {3: 1, 1: 2}  # RGB, GRAYSCALE, by channels
_IMAGE: Final = 2  # ContentProperties.ImageProperties
_NORMALISATION: Final = 1  # ProcessUnitOptions.NormalizationOptions
_WHITE: Final = 255  # its means and deviations are on the scale of bytes, ours on that of 0 to 1
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # of the labels in the archive: equal models have equal bytes


class _Enum(NamedTuple):
    """A value of an enumeration, stored in one byte."""

    value: int


class _Table(NamedTuple):
    """A table of the schema: its number of fields, and their values by number."""

    size: int
    fields: Mapping[int, Any]


def classifier_metadata(
    name: str, channels: int, normalisation: Mapping[str, Sequence[float]] | None, *, has_labels: bool
) -> bytes:
    """Metadata of an image classifier, as a flatbuffer.

    ``name``: of the network. ``channels``: of an image. ``normalisation``: mean and std per channel, of pixels in [0,
    1]. ``has_labels``: whether ``with_labels`` adds the names of classes.
    """
    image: dict[int, Any] = {0: "image"}
    if channels in _COLOR_SPACES:
        space = _Table(2, {0: _Enum(_COLOR_SPACES[channels])})
        image[3] = _Table(3, {0: _Enum(_IMAGE), 1: space})
    if normalisation:
        mean, std = ([float(_WHITE * value) for value in normalisation[key]] for key in ("mean", "std"))
        image[4] = [_Table(2, {0: _Enum(_NORMALISATION), 1: _Table(2, {0: mean, 1: std})})]
    logits: dict[int, Any] = {0: "logits"}
    if has_labels:
        logits[6] = [_Table(5, {0: _LABELS_FILE, 2: _Enum(_AXIS_LABELS)})]
    subgraph = _Table(10, {2: [_Table(7, image)], 3: [_Table(7, logits)]})
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, _Table(8, {0: name, 3: [subgraph], 7: _PARSER})), _IDENTIFIER)
    return bytes(builder.Output())


def with_labels(model: bytes, labels: Sequence[str]) -> bytes:
    """Append an archive with the names of classes, in label order, to a model."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        text = "".join(f"{' '.join(label.split())}\n" for label in labels)
        file.writestr(zipfile.ZipInfo(_LABELS_FILE, _EPOCH), text)
    return model + archive.getvalue()


def _write(builder: Any, value: Any) -> Any:
    """Write a table, a text or a vector; returns its offset."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list):
        return _write_vector(builder, value)
    offsets = {
        slot: field if isinstance(field, _Enum) else _write(builder, field) for slot, field in value.fields.items()
    }
    builder.StartObject(value.size)
    for slot, offset in offsets.items():
        if isinstance(offset, _Enum):
            builder.PrependInt8Slot(slot, offset.value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return builder.EndObject()


def _write_vector(builder: Any, values: list[Any]) -> Any:
    """Write a vector of float32 or of tables; returns its offset."""
    offsets = [value if isinstance(value, float) else _write(builder, value) for value in values]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        if isinstance(offset, float):
            builder.PrependFloat32(offset)
        else:
            builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
