"""Layout of an image folder: which folders are splits and which are classes.

Imports no image library. A choice that the files do not decide is refused with the readings in question.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal, NamedTuple

from nas.core.errors import NasError
from nas.core.formatting import first_names
from nas.data.image_files import IMAGE_SUFFIXES, images_in, is_hidden, sorted_images

Role = Literal["train", "val", "test", "unlabelled"]
_ROLES: Final[Mapping[str, Role]] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "development", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled"), "unlabelled"),
}
_AFFIX: Final = "seg|dataset|data|images|image|imgs|img"
_PREFIX: Final = re.compile(rf"(?:{_AFFIX})+")
_SUFFIX: Final = re.compile(rf"(?:sets?|splits?|folder|dir|{_AFFIX})+$")
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_REASONS_SHOWN: Final = 5
_listed: Final = partial(first_names, rest=" and more")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSplits:
    """Class folders of an image folder; ``val`` is None if ``train`` is to be split.

    ``unused``: why each other folder beside the splits is left out.
    """

    train: Path
    val: Path | None
    class_names: tuple[str, ...]
    unused: Mapping[Path, str] = field(default_factory=dict)


def split_role(name: str) -> Role | None:
    """The split that a folder of this name is by convention.

    In any case and with the usual affixes: ``Train``, ``training_set``, ``seg_test``, ``val2017``.
    """
    letters = re.sub(r"[\s._\d-]", "", name.lower())
    candidates = (letters, _SUFFIX.sub("", letters), _SUFFIX.sub("", _PREFIX.sub("", letters, count=1)))
    return next((_ROLES[word] for word in candidates if word in _ROLES), None)


def find_splits(root: Path) -> FolderSplits:
    """Find the class folders below ``root``.

    Layouts: ``root/{train,val}/<class>/*`` with the usual names of splits in any case, or ``root/<class>/*``. Without a
    validation split that of tests validates; one without labels is left out.

    Raises: NasError for a split without class folders, an empty class, fewer than two classes, a validation split with
    other classes, and for folders that may be splits or classes.
    """
    folders = [_Folder.of(path) for path in _content(root).folders]
    by_role: dict[Role, list[_Folder]] = {}
    for folder in folders:
        role = split_role(folder.path.name)
        if role and (folder.has_images or role in ("train", "val")):
            by_role.setdefault(role, []).append(folder)
    if by_role.keys() <= {"unlabelled"} or _is_class_of_that_name(folders, by_role):
        _refuse_unnamed_splits(root, folders)
        return FolderSplits(train=root, val=None, class_names=_class_names(root, at_least=2))
    return _named_splits(root, folders, by_role)


def given_splits(train: Path, val: Path | None) -> FolderSplits:
    """The splits that the user names; the folders in each are the classes.

    Raises: NasError as ``find_splits``.
    """
    class_names = _class_names(train, at_least=2, setting="data.train")
    if val is not None:
        if os.path.realpath(train) == os.path.realpath(val):
            raise NasError(f"data.val: {val} is the folder of data.train too; leave data.val out to split it.")
        _check_same_classes(train, val, class_names, _class_names(val, setting="data.val"), setting="data.val")
    return FolderSplits(train=train, val=val, class_names=class_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    """A folder at the first level.

    ``classes``: names of its folders with images; ``loose``: an image that lies beside them.
    """

    path: Path
    classes: tuple[str, ...]
    loose: Path | None

    @classmethod
    def of(cls, path: Path) -> _Folder:
        folders, loose = _content(path)
        return cls(path=path, classes=tuple(sub.name for sub in folders if next(images_in(sub), None)), loose=loose)

    @property
    def has_images(self) -> bool:
        return bool(self.classes or self.loose)

    @property
    def is_flat(self) -> bool:
        """Whether its images lie directly in it, as in a class folder."""
        return self.loose is not None and not self.classes

    @property
    def is_nested(self) -> bool:
        """Whether its images lie in its folders only, as in a split."""
        return self.loose is None and bool(self.classes)

    def inner(self) -> _Folder:
        """The split within a folder of its role (``seg_train/seg_train``), or itself."""
        role = split_role(self.path.name)
        if self.is_nested and len(self.classes) == 1 and split_role(self.classes[0]) == role:
            return _Folder.of(self.path / self.classes[0]).inner()
        return self


def _is_class_of_that_name(folders: Sequence[_Folder], by_role: Mapping[Role, Sequence[_Folder]]) -> bool:
    """Whether one class of several is called like a split (``train``, ``bus``, ...)."""
    images = [folder for folder in folders if folder.has_images]
    return (
        len(images) > 2
        and all(folder.is_flat for folder in images)
        and sum(folder.has_images for found in by_role.values() for folder in found) == 1
    )


def _refuse_unnamed_splits(root: Path, folders: Sequence[_Folder]) -> None:
    """Refuse folders without names of splits whose own folders have the same names."""
    _refuse_split_words(root, [folder.path.name for folder in folders if folder.has_images])
    nested = [folder for folder in folders if folder.is_nested]
    if len(nested) < 2:
        return
    common = sorted(set.intersection(*(set(folder.classes) for folder in nested)))
    union = set().union(*(folder.classes for folder in nested))
    if len(common) < 2 or 2 * len(common) < len(union):
        return
    outer = [folder.path.name for folder in nested]
    if all(split_role(name) for name in common):
        raise NasError(
            f"data.root: the splits {_listed(common)} lie within the folders {_listed(outer)} of {root}: nas reads "
            "train/<class>/* and val/<class>/*, so move them, or add data.train=. to join the splits of each class."
        )
    raise _two_readings(root, outer, common, train=outer[0], val=outer[1])


def _refuse_split_words(root: Path, names: Sequence[str]) -> None:
    """Refuse classes with names of splits in theirs, as ``train_cat``, ``testA``."""
    roles = {name: {_ROLES.get(word.lower()) for word in _WORDS.findall(name)} for name in names}
    train = next((name for name in names if "train" in roles[name]), None)
    other = next((name for name in names if roles[name] & {"val", "test"}), None)
    if train and other:
        raise NasError(
            f"data.root: the folders {_listed(names)} of {root} would be the classes, but {train} and {other} look "
            "like splits: move the images to train/<class>/ and val/<class>/, or add data.train=. if they are classes."
        )


def _named_splits(root: Path, folders: Sequence[_Folder], by_role: Mapping[Role, list[_Folder]]) -> FolderSplits:
    """The splits of ``root``, where some folders are called like splits."""
    train = _only(root, by_role, "train")
    val = _only(root, by_role, "val") or _only(root, by_role, "test")
    unnamed = [folder for folder in folders if folder.has_images and split_role(folder.path.name) is None]
    if train is None:
        found = next(one for role in ("val", "test") for one in by_role.get(role, ()))
        if unnamed and (found.is_flat or any(set(found.classes) & set(one.classes) for one in unnamed)):
            raise _unclear(root, folders, unnamed, found)
        raise NasError(
            f"data.root: {root} contains {found.path.name}/ but no train/; add the train split, or name it with "
            "data.train=FOLDER."
        )
    train = train.inner()
    if not train.classes:
        if unnamed:
            raise _unclear(root, folders, unnamed, train)
        _class_names(train.path, at_least=2)  # refuses it
    unused = {folder.path: "not a split" for folder in unnamed}
    val = _labelled_val(train, val, unused)
    if val is None and unnamed:
        raise _unclear(root, folders, unnamed, train)
    for role in ("test", "unlabelled"):
        for folder in by_role.get(role, []):
            if val is None or folder.inner().path != val.path:
                unused.setdefault(folder.path, "held out" if role == "test" and folder.classes else "unlabelled")
    class_names = _class_names(train.path, at_least=2)
    if val is not None:
        _check_same_classes(train.path, val.path, class_names, _class_names(val.path))
    return FolderSplits(train=train.path, val=val.path if val else None, class_names=class_names, unused=unused)


def _labelled_val(train: _Folder, val: _Folder | None, unused: dict[Path, str]) -> _Folder | None:
    """The validation split; None if there is none to validate with.

    One for tests without labels is added to ``unused``.

    Raises: NasError for a validation split without labels.
    """
    if val is None:
        return None
    inner, role = val.inner(), split_role(val.path.name)
    if role == "test" and (not inner.classes or not set(inner.classes) & set(train.classes)):
        unused[val.path] = "unlabelled"
        return None
    if not inner.classes:
        reason = f"images such as {inner.loose.name} lie directly in it" if inner.loose else "it holds no images"
        raise NasError(
            f"data.root: {inner.path} is unlabelled, {reason}; put the images of each class into a folder of its own, "
            f"or set data.root={train.path}, of which data.val_fraction then validates."
        )
    return inner


def _only(root: Path, by_role: Mapping[Role, Sequence[_Folder]], role: Role) -> _Folder | None:
    """The folder of that role, or None.

    Raises: NasError if there are several.
    """
    found = by_role.get(role, ())
    if len(found) > 1:
        names = [folder.path.name for folder in found]
        kind = {"train": "train", "val": "validation", "test": "test"}[role]
        raise NasError(
            f"data.root: {_listed(names)} in {root} may each be the {kind} split; say which with data.train=FOLDER "
            f"data.val=FOLDER, relative to data.root, such as {_way(root, by_role, names[0], role)}."
        )
    return found[0] if found else None


def _way(root: Path, by_role: Mapping[Role, Sequence[_Folder]], name: str, role: Role) -> str:
    """Settings that would choose the folder ``name`` for ``role``."""
    other = next((folder.path.name for key in ("train", "val", "test") for folder in by_role.get(key, ())), name)
    return f"data.train={name}" if role == "train" else f"data.train={other} data.val={name}"


def _unclear(root: Path, folders: Sequence[_Folder], unnamed: Sequence[_Folder], named: _Folder) -> NasError:
    """Error for folders of which some are called like splits and others are not."""
    names = [folder.path.name for folder in folders if folder.has_images]
    same = next((one for one in unnamed if len(set(one.classes) & set(named.classes)) > 1), None)
    if same is None:
        split = named.path.name
        latter = f"data.train={split}" if named.classes else f"put the images of each class into {split}/<class>/"
        return NasError(
            f"data.root: {_listed(names)} in {root} may be classes, or {split}/ a split and the others not part of the "
            "data: for the former add data.train=. (the folder whose folders are the classes), for the latter "
            f"{latter}."
        )
    pair = (named, same) if split_role(named.path.name) == "train" else (same, named)
    train, val = (folder.path.name for folder in pair)
    return _two_readings(root, names, sorted(set(same.classes) & set(named.classes)), train=train, val=val)


def _two_readings(root: Path, outer: Sequence[str], inner: Sequence[str], *, train: str, val: str) -> NasError:
    return NasError(
        f"data.root: {root} can be read in two ways, {_listed(outer)} as splits of the classes {_listed(inner)}, or as "
        f"the classes themselves: for the former add data.train={train} data.val={val} (or the other way round), for "
        "the latter data.train=. (the folder whose folders are the classes)."
    )


class _Content(NamedTuple):
    """What lies directly in a folder.

    ``folders``: the visible ones, sorted; ``loose``: the first image by name, or None.
    """

    folders: list[Path]
    loose: Path | None


def _content(folder: Path) -> _Content:
    names: list[str] = []
    loose: str | None = None
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if is_hidden(name):
                    continue
                if entry.is_dir():
                    names.append(name)
                elif (loose is None or name < loose) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                    loose = name
    except OSError as error:
        raise NasError(f"data.root: {folder} cannot be listed ({error.strerror}); make it readable.") from None
    return _Content([folder / name for name in sorted(names)], folder / loose if loose else None)


def _class_names(split: Path, *, at_least: int = 1, setting: str = "data.root") -> tuple[str, ...]:
    """Names of the class folders of ``split``, sorted.

    Raises: NasError, beginning with ``setting``, for an empty class, and for fewer classes than ``at_least``.
    """
    folders, loose = _content(split)
    if not folders:
        reason = f"images such as {loose.name} lie directly in it" if loose else "it contains no folders"
        raise NasError(
            f"{setting}: {split} is unlabelled, {reason}; put the images of each class into a folder of its own."
        )
    for folder in folders:
        if next(images_in(folder), None) is None:
            raise _empty_class(folder, setting)
    names = tuple(folder.name for folder in folders)
    if len(names) < at_least:
        inner = folders[0] if _content(folders[0]).folders else None
        hint = f", or set {setting}={inner} if its folders are the splits or classes" if inner else ""
        raise NasError(f"{setting}: {split} contains one class only, {names[0]}; a classifier needs two or more{hint}.")
    return names


def _empty_class(folder: Path, setting: str) -> NasError:
    left_out = sorted_images(folder)[1]
    files = "; ".join(f"{reason}: {count:,}" for reason, count in left_out.most_common(_REASONS_SHOWN))
    return NasError(
        f"{setting}: class {folder} is empty{f' (files left out: {files})' if files else ''}; add images "
        f"({', '.join(sorted(IMAGE_SUFFIXES))}) or remove it."
    )


def _check_same_classes(
    train: Path, val: Path, train_names: Iterable[str], val_names: Iterable[str], setting: str = "data.root"
) -> None:
    for folder, missing in ((val, set(train_names) - set(val_names)), (train, set(val_names) - set(train_names))):
        if missing:
            raise NasError(
                f"{setting}: {folder} has no folder for class {_listed(sorted(missing))}; both splits must contain the "
                "same classes."
            )
