"""Folders of images and labels by split, and pairs of files of the same name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from nas.core.errors import NasError
from nas.core.formatting import first_names
from nas.core.parsing import read_text
from nas.data.dense.problems import LabelProblems
from nas.data.dense.settings import DenseDataSettings
from nas.data.folder_layout import split_role
from nas.data.image_files import IMAGE_SUFFIXES, images_in, is_hidden, shown_name, sorted_images, walk_files

IMAGE_FOLDERS: Final = ("jpegimages", "images", "image", "imgs", "img")
_LIST_FOLDERS: Final = ("ImageSets/Main", "ImageSets/Segmentation", "ImageSets", "splits", ".")
_MAX_LIST_CHARACTERS: Final = 100_000_000
_NESTED: Final = 2  # levels of a folder that holds nothing but one folder, as of an unpacked archive
_FLAGS: Final = ("1", "-1", "0")  # second column of VOC's lists of one class


class SplitFolders(NamedTuple):
    """Folders of images and labels of a split, and a list of its names.

    ``names`` is None for all files.
    """

    images: Path
    labels: Path
    names: Path | None = None

    @property
    def place(self) -> Path:
        """The folder or list that users know the split by."""
        return self.names or self.images


@dataclass(slots=True, kw_only=True)
class FoundSplits:
    """Folders of the splits; ``val`` is None if it is to be split off.

    ``base``: the folder that holds all of it. ``left_out``: numbers of images in other folders, by reason.
    """

    base: Path
    train: SplitFolders
    val: SplitFolders | None
    left_out: dict[str, int] = field(default_factory=dict)


class LabelledFile(NamedTuple):
    """An image with its label file, None if it has none."""

    image: Path
    label: Path | None


def find_folders(root: Path, settings: DenseDataSettings, label_folders: Sequence[str]) -> FoundSplits:
    """Find the folders of images and labels of each split below ``root``.

    ``label_folders``: usual names of folders of labels, lower case. Splits are folders of their own (``train/images``
    or ``images/train``), lists of names (``ImageSets/Main/train.txt``), or one folder, to be split. Without a
    validation split that of tests validates.

    Raises: NasError for splits that are missing or not unique.
    """
    base = _unnested(root, label_folders)
    images, labels = _pair(base, label_folders)
    if settings.train is not None:
        given = [
            given_split(root, base, f"data.{field}", root / Path(value).expanduser(), label_folders)
            for field, value in (("train", settings.train), ("val", settings.val))
            if value is not None
        ]
        return FoundSplits(base=base, train=given[0], val=given[1] if len(given) > 1 else None)
    for parent in dict.fromkeys((base, images)):
        roles = _role_folders(parent)
        if "train" not in roles:
            continue

        def split(folder: Path, inner: bool = parent == base) -> SplitFolders:
            if inner and (pair := _pair(folder, label_folders)) != (folder, folder):
                return SplitFolders(*pair)
            return SplitFolders(folder, _beside(folder, base, label_folders))

        return _with_left_out(base, roles, split)
    lists = _lists(base)
    if "train" in lists:
        val = lists.get("val") or lists.get("test")
        return FoundSplits(
            base=base,
            train=SplitFolders(images, labels, lists["train"]),
            val=SplitFolders(images, labels, val) if val else None,
        )
    return FoundSplits(base=base, train=SplitFolders(images, labels, lists.get("trainval")), val=None)


def label_suffix_found(root: Path, label_folders: Sequence[str], suffixes: Sequence[str]) -> bool:
    """Whether a file below ``root`` has one of ``suffixes`` where labels are expected.

    That is in a folder of labels at any depth up to 3, or beside an image.
    """
    for folder in _folders_to(root, 3):
        named = folder.name.lower() in label_folders
        names = _visible_files(folder) if not named else [found.path.name for found in walk_files(folder)]
        stems = {os.path.splitext(name)[0] for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES}
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in suffixes and (named or stem in stems):
                return True
    return False


def pair_files(
    split: SplitFolders, suffixes: Sequence[str], problems: LabelProblems, left_out: Counter[str]
) -> list[LabelledFile]:
    """Pair the images of a split with the label files of the same name.

    ``suffixes``: of label files. The order is that of the list of names, or sorted. Names in the list, and label files,
    without an image are added to ``problems``; images that the list does not name are left out.

    Raises: NasError for two images or two label files of one name, and if there are no images at all.
    """
    paths, others = sorted_images(split.images)
    same_folder = split.labels == split.images
    if not same_folder and split.labels.is_relative_to(split.images):
        paths = [path for path in paths if not path.is_relative_to(split.labels)]
    left_out.update({reason: count for reason, count in others.items() if not _is_label(reason, suffixes)})
    images = _by_key(paths, split.images, "images")
    labels = _by_key(sorted(_files(split.labels, suffixes)), split.labels, "label files")
    if not images:
        raise NasError(f"data.root: {split.images} holds no images; set data.root, or data.train and data.val.")
    if split.names is None:
        for key in sorted(labels.keys() - images.keys()):
            problems.add("image_missing", shown_name(labels[key]))
        return [LabelledFile(path, labels.get(key)) for key, path in images.items()]
    found: dict[str, LabelledFile] = {}
    for name in listed_names(split.names):
        listed = next((one for one in _keys(name) if one in images), None)
        if listed is None:
            problems.add("image_missing", f"{shown_name(split.names)}: {name}")
        else:
            found[listed] = LabelledFile(images[listed], labels.get(listed))
    return list(found.values())


def listed_names(path: Path) -> list[str]:
    """Names in a list of one per line.

    Raises: NasError if it cannot be read or is empty.
    """
    try:
        lines = read_text(path, max_characters=_MAX_LIST_CHARACTERS).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NasError(f"{path}: cannot be read ({error}); write one name per line, as UTF-8.") from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise NasError(f"{path}: lists no names; write one per line, or remove it.")
    return names


def _keys(name: str) -> list[str]:
    """Keys that a line of a list may mean.

    The path with and without suffix, from each of its folders on.
    """
    words = name.split()
    plain = words[0] if len(words) == 2 and words[1] in _FLAGS else name
    parts = os.path.normpath(plain.replace("\\", "/")).split("/")
    paths = ["/".join(parts[start:]) for start in range(len(parts))]
    return [key for path in paths for key in (path, os.path.splitext(path)[0])]


def _is_label(reason: str, suffixes: Sequence[str]) -> bool:
    return any(reason == f"extension {suffix} is not read" for suffix in suffixes)


def _by_key(paths: Sequence[Path], folder: Path, what: str) -> dict[str, Path]:
    keyed: dict[str, Path] = {}
    for path in paths:
        key = os.path.splitext(os.path.relpath(path, folder))[0].replace(os.sep, "/")
        if key in keyed:
            raise NasError(f"data.root: two {what} of one name, {keyed[key]} and {path}; rename or remove one.")
        keyed[key] = path
    return keyed


def _files(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    for found in walk_files(folder):
        if os.path.splitext(found.path.name)[1].lower() in suffixes and found.path.is_file():
            yield found.path


def _pair(folder: Path, label_folders: Sequence[str]) -> tuple[Path, Path]:
    """Folders of images and labels in ``folder``; itself where none has a usual name."""
    named = {path.name.lower(): path for path in reversed(visible_folders(folder))}
    images = next((named[name] for name in IMAGE_FOLDERS if name in named), folder)
    labels = next((named[name] for name in label_folders if name in named), folder)
    return images, labels


def _beside(folder: Path, base: Path, label_folders: Sequence[str]) -> Path:
    """The folder of labels of the split ``folder`` of images.

    Of the same name or role, or all labels, or itself: as ``labels/train`` for ``images/train``, ``train/labels`` for
    ``train/images``.
    """
    for outer in (folder, *folder.parents):
        if outer.name.lower() in IMAGE_FOLDERS:
            labels = _pair(outer.parent, label_folders)[1]
            if labels == outer.parent:
                return folder
            same = labels / folder.relative_to(outer)
            role = split_role(folder.name)
            alike = [path for path in visible_folders(labels) if role and split_role(path.name) == role]
            return same if same.is_dir() else alike[0] if len(alike) == 1 else labels
        if outer == base:
            break
    return folder


def given_split(root: Path, base: Path, field: str, path: Path, label_folders: Sequence[str]) -> SplitFolders:
    """The split at ``path``, a folder or a list of names.

    ``field``: its setting, for messages.

    Raises: NasError if it is neither, nor the name of a list of ``base``.
    """
    if os.path.isdir(path):  # unlike Path.is_dir, false for names that are too long
        pair = _pair(path, label_folders)
        return SplitFolders(*pair) if pair != (path, path) else SplitFolders(path, _beside(path, base, label_folders))
    names = [path, *(base / folder / f"{path.name}.txt" for folder in _LIST_FOLDERS)]
    listed = next((name for name in names if os.path.isfile(name)), None)
    if listed is None:
        raise NasError(
            f"{field}: {path} does not exist; give the folder of the split, or a list of its names, relative to {root}."
        )
    return SplitFolders(*_pair(base, label_folders), listed)


def _with_left_out(base: Path, roles: Mapping[str, list[Path]], split: Callable[[Path], SplitFolders]) -> FoundSplits:
    for role, folders in roles.items():
        if len(folders) > 1:
            names = [shown_name(path.relative_to(base)) for path in folders]
            raise NasError(
                f"data.root: {first_names(names)} in {base} may each be the {role} split; say which with "
                "data.train=FOLDER data.val=FOLDER, relative to data.root."
            )
    val = next(iter(roles.get("val") or roles.get("test") or ()), None)
    found = FoundSplits(base=base, train=split(roles["train"][0]), val=split(val) if val else None)
    for role in ("test", "unlabelled"):
        for folder in roles.get(role, ()):
            count = sum(1 for _ in images_in(folder)) if folder != val else 0
            if count:
                found.left_out[f"in {shown_name(folder.name)}/, held out"] = count
    return found


def _role_folders(folder: Path) -> dict[str, list[Path]]:
    """Folders in ``folder`` by the split that their name stands for."""
    roles: dict[str, list[Path]] = {}
    for path in visible_folders(folder):
        role = split_role(path.name)
        if role and path.name.lower() not in IMAGE_FOLDERS and next(images_in(path), None) is not None:
            roles.setdefault(role, []).append(path)
    return roles


def _lists(base: Path) -> dict[str, Path]:
    """Lists of names by split: those of the first folder that has any."""
    for folder in _LIST_FOLDERS:
        found = {
            name: base / folder / f"{name}.txt"
            for name in ("train", "val", "test", "trainval")
            if (base / folder / f"{name}.txt").is_file()
        }
        if "train" in found or "trainval" in found:
            return found
    return {}


def _unnested(root: Path, label_folders: Sequence[str]) -> Path:
    """``root``, or the only folder in it, if it holds nothing else."""
    for _ in range(_NESTED):
        folders = visible_folders(root)
        known = {*IMAGE_FOLDERS, *label_folders}
        if len(folders) != 1 or next(images_in(root), None) is None:
            break
        only = folders[0]
        if only.name.lower() in known or split_role(only.name) or any(map(_is_data_file, _visible_files(root))):
            break
        root = only
    return root


def _is_data_file(name: str) -> bool:
    return os.path.splitext(name)[1].lower() not in ("", ".md", ".zip", ".gz", ".tar")


def _folders_to(root: Path, depth: int) -> Iterator[Path]:
    yield root
    if depth:
        for folder in visible_folders(root):
            yield from _folders_to(folder, depth - 1)


def visible_folders(folder: Path) -> list[Path]:
    """Folders directly in ``folder`` that are not hidden, sorted.

    Raises: NasError if it cannot be listed.
    """
    return sorted(folder / entry.name for entry in _entries(folder) if entry.is_dir())


def _visible_files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if not entry.is_dir())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise NasError(f"data.root: {folder} cannot be listed ({error.strerror}); make it readable.") from None
