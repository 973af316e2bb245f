"""Boxes in COCO's JSON: one file for each split.

It lists images, categories and annotations.

Source: Lin et al., "Microsoft COCO", data format of object detection: ``bbox`` is x, y, width, height in px from 0.
Category ids are mapped to 0, 1, ... in their order; they may have gaps.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeGuard

from nas.core.errors import NasError, quoted
from nas.core.formatting import first_names
from nas.data.dense.problems import LabelProblems
from nas.data.dense.readers.folders import IMAGE_FOLDERS, visible_folders
from nas.data.dense.records import BoxedImage, BoxSource, box_arrays, shown_place
from nas.data.dense.settings import DenseDataSettings, checked_class_names
from nas.data.folder_layout import split_role
from nas.data.image_files import images_in, shown_name

_MAX_BYTES: Final = 2_000_000_000  # of one file; that of COCO's train split has 450 million
_HEAD_BYTES: Final = 4096  # of a file, in which one of the keys below is expected
_HEAD: Final = re.compile(rb'^\s*\{\s*"(?:info|licenses|images|annotations|categories|type)"\s*:')
_OTHER_TASKS: Final = ("captions", "person_keypoints", "panoptic", "stuff", "image_info")
_LABEL_FOLDERS: Final = ("annotations", "annotation", "labels")
_TRIED: Final = 50  # images by which the folder of images is chosen
_WORD: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoFiles:
    """Files of the splits; ``val`` None if it is to be split off."""

    train: Path
    val: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """Lists of a file.

    ``names``: of categories by id, in the order of ids.
    """

    path: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    names: Mapping[int, str]


def is_coco(root: Path) -> bool:
    """Whether there is a JSON file of this format where one is expected."""
    return next(_files(root), None) is not None


def find_coco(root: Path, settings: DenseDataSettings) -> CocoFiles:
    """Files of the splits: as given, or by the names of files or of their folders.

    Raises: NasError for a file that is missing or not unique.
    """
    if settings.train is not None:
        val = None if settings.val is None else _given(root, "val", settings.val)
        return CocoFiles(train=_given(root, "train", settings.train), val=val)
    roles: dict[str | None, list[Path]] = {}
    for path in _files(root):
        roles.setdefault(_role(path, root), []).append(path)
    for role, paths in roles.items():
        if len(paths) > 1:
            names = first_names([shown_name(path.relative_to(root)) for path in paths])
            kind = f"the {role} split" if role else "any split"
            raise NasError(
                f"data.root: {names} in {root} may each be {kind}; say which with data.train=FILE data.val=FILE, "
                "relative to data.root."
            )
    train = roles.get("train") or roles.get(None)
    if train is None:
        raise NasError(f"data.root: {root} has no COCO file of a train split; add it, or set data.train=FILE.")
    held_out = roles.get("val") or roles.get("test")
    return CocoFiles(train=train[0], val=held_out[0] if held_out and "train" in roles else None)


def read_coco(root: Path, settings: DenseDataSettings, problems: LabelProblems) -> BoxSource:
    """Read the boxes of all splits; what is wrong with them is added to ``problems``.

    Class names are ``settings.classes``, else the categories of the train file in the order of their ids.

    Raises: NasError for files that are missing, damaged or of another format.
    """
    files = find_coco(root, settings)
    contents = [_read(path) for path in (files.train, files.val) if path is not None]
    names = settings.classes or checked_class_names(list(contents[0].names.values()), f"{files.train}: categories")
    notices = []
    for content in contents[:1]:
        ids = list(content.names)
        if ids != list(range(ids[0], ids[0] + len(ids))):
            notices.append(
                f"category ids of {content.path.name} have gaps ({ids[0]} to {ids[-1]} for {len(ids)} classes): they "
                f"are mapped to 0 to {len(ids) - 1} in their order"
            )
    left_out: dict[str, int] = {}
    splits = [_boxed(content, root, names, problems, left_out) for content in contents]
    return BoxSource(
        class_names=names,
        train=splits[0],
        val=splits[1] if len(splits) > 1 else None,
        train_text=shown_place(files.train, root),
        val_text=shown_place(files.val, root) if files.val else "",
        left_out=left_out,
        notices=notices,
    )


def _boxed(
    content: _Content, root: Path, names: tuple[str, ...], problems: LabelProblems, left_out: dict[str, int]
) -> list[BoxedImage]:
    """Images of a file with their boxes."""
    folder = _image_folder(content, root)
    label_of = {name: row for row, name in enumerate(names)}
    rows: dict[int, list[tuple[tuple[float, float, float, float], int, bool]]] = {
        image["id"]: [] for image in content.images
    }
    for number, annotation in enumerate(content.annotations):
        place = f"{shown_name(content.path)}, annotation {quoted(annotation.get('id', f'number {number}'))}"
        box = _box(annotation.get("bbox"))
        if box is None:
            problems.add("label_malformed", f"{place}: bbox {quoted(annotation.get('bbox'))}")
            continue
        image_id, category = annotation.get("image_id"), annotation.get("category_id")
        name = content.names.get(category) if _is_id(category) else None
        if not _is_id(image_id) or image_id not in rows:
            problems.add("image_missing", f"{place}: image_id {quoted(image_id)} is not listed")
        elif name is None or name not in label_of:
            problems.add("class_unknown", f"{place}: category_id {quoted(category)}{f' ({name})' if name else ''}")
        else:
            rows[image_id].append((box, label_of[name], annotation.get("iscrowd") == 1))
    found = []
    for image in content.images:
        path = folder / image["file_name"]
        if not os.path.isfile(path):  # unlike Path.is_file, false for names that are too long
            problems.add("image_missing", f"{shown_name(path)}, listed in {shown_name(content.path)}")
            continue
        boxes, labels, ignored = box_arrays(rows[image["id"]])
        found.append(
            BoxedImage(
                image=path,
                label=content.path,
                boxes=boxes,
                labels=labels,
                ignored=ignored,
                stated_size=_stated_size(image),
            )
        )
    unlisted = sum(1 for _ in images_in(folder)) - len({one.image for one in found}) if folder != root else 0
    if unlisted > 0:
        left_out[f"images not listed in {shown_name(content.path.name)}"] = unlisted
    return found


def _box(bbox: Any) -> tuple[float, float, float, float] | None:
    """Corners of a COCO box; None if it is not four finite numbers."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    if not all(isinstance(value, int | float) and abs(value) < 1e9 and math.isfinite(value) for value in bbox):
        return None
    x, y, width, height = bbox
    return float(x), float(y), float(x) + float(width), float(y) + float(height)


def _stated_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    if not (isinstance(width, int) and isinstance(height, int)) or width < 1 or height < 1:
        return None
    return (width, height) if max(width, height) < 1_000_000 else None


def _read(path: Path) -> _Content:
    """Content of a file.

    Raises: NasError if it is damaged, too large, or of another format.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise NasError(f"{path}: has {size:,} bytes, more than {_MAX_BYTES:,}; split it.")
        content: Any = json.loads(path.read_bytes())
    except NasError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise NasError(f"{path}: cannot be read as JSON ({error}).") from None
    if not isinstance(content, dict):
        raise NasError(f"{path}: must be a mapping with images, annotations and categories.")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list) or not all(isinstance(one, dict) for one in content[key]):
            raise NasError(f"{path}: {key} must be a list of mappings, as COCO's object detection has them.")
    names: dict[int, str] = {}
    for category in content["categories"]:
        number, name = category.get("id"), category.get("name")
        if not _is_id(number) or not isinstance(name, str) or number in names:
            raise NasError(f"{path}: category {quoted(category)}: needs an id of its own, a whole number, and a name.")
        names[number] = name.strip()
    checked_class_names(list(names.values()), f"{path}: categories")  # also those that data.classes leaves out
    _check_images(path, content["images"])
    if not content["images"]:
        raise NasError(f"{path}: lists no images; add some.")
    return _Content(
        path=path,
        images=content["images"],
        annotations=content["annotations"],
        names=dict(sorted(names.items())),
    )


def _check_images(path: Path, images: list[dict[str, Any]]) -> None:
    seen: set[int] = set()
    id_of: dict[PurePosixPath, int] = {}
    for image in images:
        number, name = image.get("id"), image.get("file_name")
        if not _is_id(number) or number in seen:
            raise NasError(f"{path}: image {quoted(name)}: id {quoted(number)} must be a whole number of its own.")
        seen.add(number)
        parts = PurePosixPath(name.replace("\\", "/")) if isinstance(name, str) and name else None
        if parts is None or parts.is_absolute() or ".." in parts.parts or "\0" in str(parts):
            raise NasError(f"{path}: file_name {quoted(name)} of image {number}: must be a path within the images.")
        if id_of.setdefault(parts, number) != number:
            raise NasError(
                f"{path}: file_name {quoted(name)} is that of the images {id_of[parts]} and {number}; list each file "
                "once."
            )


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _image_folder(content: _Content, root: Path) -> Path:
    """The folder that holds most of the first images.

    Raises: NasError if none holds any.
    """
    path, names = content.path, [image["file_name"] for image in content.images[:_TRIED]]
    outer = [path.parent, root]
    tried = dict.fromkeys(
        [
            *outer,
            *(sub for folder in outer for sub in visible_folders(folder)),
            *(
                sub
                for folder in outer
                for inner in visible_folders(folder)
                if inner.name.lower() in IMAGE_FOLDERS
                for sub in visible_folders(inner)
            ),
        ]
    )
    hits = {folder: sum(os.path.isfile(folder / name) for name in names) for folder in tried}
    role = _role(path, root)
    best = max(tried, key=lambda folder: (hits[folder], role is not None and split_role(folder.name) == role))
    if not hits[best]:
        raise NasError(
            f"data.root: the images of {path}, such as {quoted(names[0])}, are in none of the folders of {root}; "
            "put them into a folder there, or set data.root to the folder that holds both."
        )
    return best


def _files(root: Path) -> Iterator[Path]:
    """JSON files of this format in ``root``, a folder of labels, or one of a split."""
    folders = [root]
    for folder in visible_folders(root):
        if folder.name.lower() in _LABEL_FOLDERS or split_role(folder.name):
            folders.append(folder)
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            if not path.name.startswith(_OTHER_TASKS) and _is_coco_file(path):
                yield path


def _is_coco_file(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return bool(_HEAD.match(stream.read(_HEAD_BYTES)))
    except OSError:
        return False


def _role(path: Path, root: Path) -> str | None:
    """The split that the name of a file, or of its folder below ``root``, stands for."""
    words = [*_WORD.findall(path.stem), *([path.parent.name] if path.parent != root else [])]
    roles = (split_role(word) for word in words)
    return next((role for role in roles if role in ("train", "val", "test")), None)


def _given(root: Path, field: str, value: str) -> Path:
    path = root / Path(value).expanduser()
    if os.path.isdir(path):
        found = sorted(path.glob("*.json"))
        if len(found) == 1:
            return found[0]
    if not os.path.isfile(path):
        raise NasError(f"data.{field}: {path} is no file; give the JSON file of the split, relative to data.root.")
    return path
