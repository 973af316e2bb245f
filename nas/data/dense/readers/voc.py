"""Boxes in Pascal-VOC XML: one file per image.

Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", development kit: pixels are numbered from
1, and xmax and ymax belong to the box. Many tools write the same format with pixels from 0, see ``data.first_pixel``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from nas.core.errors import NasError, quoted
from nas.data.dense.problems import LabelProblems
from nas.data.dense.readers.folders import (
    FoundSplits,
    LabelledFile,
    SplitFolders,
    find_folders,
    label_suffix_found,
    pair_files,
)
from nas.data.dense.records import BoxedImage, BoxSource, box_arrays, shown_place
from nas.data.dense.settings import DenseDataSettings, checked_class_names
from nas.data.image_files import shown_name

_LABEL_FOLDERS: Final = ("annotations", "annotation", "xmls", "xml", "labels")
_SUFFIXES: Final = (".xml",)
_MAX_BYTES: Final = 16_000_000  # of one file; 1,000 objects have 400,000
_MAX_NESTING: Final = 50
_MAX_PX: Final = 1e9  # of a coordinate
_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")


@dataclass(slots=True, kw_only=True)
class _Object:
    """An object: its place in a file, class, coordinates, whether it is ignored."""

    place: str
    name: str
    corners: tuple[float, float, float, float]
    ignored: bool


@dataclass(slots=True, kw_only=True)
class _File:
    """A parsed file."""

    image: Path
    label: Path
    size: tuple[int, int] | None
    objects: list[_Object]


def is_voc(root: Path) -> bool:
    """Whether there are XML files where labels are expected."""
    return label_suffix_found(root, _LABEL_FOLDERS, _SUFFIXES)


def find_voc(root: Path, settings: DenseDataSettings) -> FoundSplits:
    """Folders of the splits. Raises: NasError as ``find_folders``."""
    return find_folders(root, settings, _LABEL_FOLDERS)


def read_voc(root: Path, settings: DenseDataSettings, problems: LabelProblems) -> BoxSource:
    """Read the boxes of all splits; what is wrong with them is added to ``problems``.

    Class names are ``settings.classes``, else all that occur, sorted.

    Raises: NasError for splits that are not found, and without any object.
    """
    found = find_voc(root, settings)
    left_out: Counter[str] = Counter(found.left_out)
    train = _read_split(found.train, settings, problems, left_out)
    val = None if found.val is None else _read_split(found.val, settings, problems, left_out)
    objects = [one for file in (*train, *(val or ())) for one in file.objects]
    names = settings.classes or tuple(sorted({one.name for one in objects}))
    if not names:
        raise NasError(f"data.root: no label file of {root} has an object; set data.root, or data.layout.")
    names = checked_class_names(names, "data.classes" if settings.classes else f"{root}: classes")
    first = settings.first_pixel
    notices = []
    if first is None:
        other = next((one for one in objects if min(one.corners[:2]) < 1 or any(x % 1 for x in one.corners)), None)
        first = 1 if other is None else 0
        if other is not None:
            notices.append(
                f"VOC coordinates below 1, or fractions ({other.place}): all are read as counted from 0, as with "
                "data.first_pixel=0"
            )
    index = {name: row for row, name in enumerate(names)}
    return BoxSource(
        class_names=names,
        train=[_boxed(file, index, first, problems) for file in train],
        val=None if val is None else [_boxed(file, index, first, problems) for file in val],
        train_text=shown_place(found.train.place, root),
        val_text="" if found.val is None else shown_place(found.val.place, root),
        left_out=dict(left_out),
        notices=notices,
    )


def _read_split(
    split: SplitFolders,
    settings: DenseDataSettings,
    problems: LabelProblems,
    left_out: Counter[str],
) -> list[_File]:
    files = []
    for pair in pair_files(split, _SUFFIXES, problems, left_out):
        file = _read_file(pair, settings, problems)
        if file is not None:
            files.append(file)
    return files


def _read_file(pair: LabelledFile, settings: DenseDataSettings, problems: LabelProblems) -> _File | None:
    if pair.label is None:
        if settings.allow_unlabelled:
            return _File(image=pair.image, label=pair.image, size=None, objects=[])
        problems.add("label_missing", shown_name(pair.image))
        return None
    try:
        tree = parse_xml(pair.label)
    except NasError as error:
        problems.add("label_unreadable", str(error))
        return None
    objects = []
    for number, element in enumerate(tree.findall("object"), 1):
        place = f"{shown_name(pair.label)}, object {number}"
        one = _read_object(element, place, problems)
        if one is not None:
            objects.append(one)
    return _File(image=pair.image, label=pair.label, size=_stated_size(tree), objects=objects)


def _read_object(element: Element, place: str, problems: LabelProblems) -> _Object | None:
    name = (element.findtext("name") or "").strip()
    texts = [(element.findtext(f"bndbox/{corner}") or "").strip() for corner in _CORNERS]
    try:
        x1, y1, x2, y2 = (float(text) for text in texts)
    except ValueError:
        problems.add("label_malformed", f"{place}: bndbox {quoted(','.join(texts))}")
        return None
    if not name or not all(abs(value) <= _MAX_PX for value in (x1, y1, x2, y2)):  # false for NaN
        problems.add("label_malformed", f"{place}: name {quoted(name)}, bndbox {quoted(','.join(texts))}")
        return None
    ignored = (element.findtext("difficult") or "").strip() == "1"
    return _Object(place=f"{place} ({name}, {','.join(texts)})", name=name, corners=(x1, y1, x2, y2), ignored=ignored)


def _stated_size(tree: Element) -> tuple[int, int] | None:
    """Width and height; None if they are missing or 0, as some tools write them."""
    try:
        width, height = (int(float(tree.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _boxed(file: _File, index: Mapping[str, int], first: int, problems: LabelProblems) -> BoxedImage:
    rows = []
    for one in file.objects:
        x1, y1, x2, y2 = one.corners
        if one.name not in index:
            problems.add("class_unknown", one.place)
        elif x2 <= x1 or y2 <= y1:  # also of one pixel: tools write corners, and a click gives such a box
            problems.add("box_no_area", one.place)
        else:
            rows.append(((x1 - first, y1 - first, x2, y2), index[one.name], one.ignored))
    boxes, labels, ignored = box_arrays(rows)
    return BoxedImage(
        image=file.image, label=file.label, boxes=boxes, labels=labels, ignored=ignored, stated_size=file.size
    )


def parse_xml(path: Path) -> Element:
    """Root of an XML file, without document types and entities of its own.

    Raises: NasError naming the file, if it is invalid, too large or nested too deeply.
    """
    builder, depth = TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_NESTING:
            raise NasError(f"{shown_name(path)}: is nested more than {_MAX_NESTING} levels deep.")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise NasError(f"{shown_name(path)}: declares a document type or entities, which are not read.")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.UnparsedEntityDeclHandler = refuse
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise NasError(f"{shown_name(path)}: has more than {_MAX_BYTES:,} bytes.")
        parser.Parse(content, True)
    except (OSError, expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, NasError):
            raise
        raise NasError(f"{shown_name(path)}: is no valid XML ({error}).") from None
    return builder.close()
