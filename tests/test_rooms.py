"""Tests of the rooms: sizes, public names, use of private names."""

from __future__ import annotations

import ast
import importlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from nas.exporters.formats import FORMATS, is_installed
from tests.paths import ROOT

MOST_MODULES = 16
LONGEST_FIRST_LINE = 80
ENTRY_POINTS = {"main", "command", "make_plan"}  # which each command's module has
FORMAT_FUNCTIONS = {"write_model", "open_model", "open_graph", "write_int8", "open_int8"}  # of each format
OPTUNA_ADAPTER = "nas.study.storage.optuna_private"
FRONT_DOOR = ("nas/__init__.py", "nas/api.py", "nas/results.py")


def modules() -> dict[str, Path]:
    """All modules and packages by dotted name."""
    paths = [path for top in ("nas", "search_spaces") for path in sorted((ROOT / top).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


MODULES = modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
PACKAGES = [name for name, path in MODULES.items() if path.name == "__init__.py"]


def room_of(module: str) -> str:
    """Room of a module: ``nas.latency`` for ``nas.latency.measure.timer``.

    ``nas`` for commands and the Python API.
    """
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 and ".".join(parts[:2]) in PACKAGES else parts[0]


def home_of(module: str) -> str:
    """The package that a module belongs to; a package belongs to itself."""
    return module if module in PACKAGES else module.rpartition(".")[0]


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that a file imports from this project.

    At the top, in functions, and for types.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield from ((node.module, alias.name) for alias in node.names)


def public_definitions(tree: ast.Module) -> Iterator[str]:
    """Names of public functions, classes and constants that a module defines itself."""
    for node in tree.body:
        found: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found = [node.name]
        elif isinstance(node, ast.Assign):
            found = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found = [node.target.id]
        yield from (name for name in found if not name.startswith("_"))


def exported(package: str) -> list[str]:
    """``__all__`` of a package as it is written; empty if it has none."""
    for node in TREES[package].body:
        if isinstance(node, ast.Assign) and any(
            isinstance(one, ast.Name) and one.id == "__all__" for one in node.targets
        ):
            return list(ast.literal_eval(node.value))
    return []


def named_as_its_module(module: str, name: str) -> bool:
    """Whether ``name`` is also a module, so that the package cannot export it.

    Importing the module sets the same attribute of the package.
    """
    return f"{home_of(module)}.{name}" in MODULES


def test_no_folder_is_crowded() -> None:
    counts: dict[Path, int] = defaultdict(int)
    for path in MODULES.values():
        counts[path.parent.relative_to(ROOT)] += path.name != "__init__.py"
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_a_public_name_is_defined_once_in_its_room() -> None:
    homes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module, tree in TREES.items():
        room = room_of(module)
        for name in set(public_definitions(tree)):
            if name not in {"nas": ENTRY_POINTS, "nas.exporters": FORMAT_FUNCTIONS}.get(room, ()):
                homes[room, name].append(module)
    assert {key: found for key, found in homes.items() if len(found) > 1} == {}


def test_names_that_other_rooms_import_are_public() -> None:
    missing = []
    for importer, tree in TREES.items():
        for module, name in imports(tree):
            if room_of(module) in (room_of(importer), "nas") or named_as_its_module(module, name):
                continue
            if f"{module}.{name}" in MODULES:  # a module as a whole
                module = f"{module}.{name}"
                home = home_of(module) if module not in PACKAGES else module.rpartition(".")[0]
            else:
                home = home_of(module)
            if home != "nas" and name not in exported(home):
                missing.append(f"{importer}: {name} of {module} is not in {home}.__all__")
    assert missing == []


def test_every_room_says_what_is_public() -> None:
    rooms = {name for name in PACKAGES if name.count(".") <= 1 and name.startswith("nas")}
    assert {"nas", "nas.core", "nas.latency", "nas.engines"} <= rooms
    assert {room for room in rooms if not exported(room)} == set()


def skip_unless_its_runtime_is_installed(name: str) -> None:
    """Skip the test if ``name`` is a format whose packages are not installed."""
    for package in FORMATS[name].packages if name in FORMATS else ():
        if not is_installed(package):
            pytest.skip(f"{package} is not installed: pip install 'nas[{FORMATS[name].extra}]'")


@pytest.mark.parametrize("package", [name for name in PACKAGES if exported(name)])
def test_public_names_are_there_for_programs_and_for_type_checkers(package: str) -> None:
    if package.startswith("nas.exporters."):  # a format, whose runtime is an extra
        skip_unless_its_runtime_is_installed(package.removeprefix("nas.exporters."))
    loaded, names = importlib.import_module(package), exported(package)
    assert len(set(names)) == len(names)
    assert set(names) <= set(dir(loaded))
    typed = {(module, name) for module, name in imports(TREES[package]) if name in names}
    for module, name in typed:
        value = getattr(loaded, name)
        whole = f"{module}.{name}"
        assert value is (
            importlib.import_module(whole) if whole in MODULES else vars(importlib.import_module(module))[name]
        )
    defined = set(public_definitions(TREES[package]))
    assert {name for name in names if name not in defined} == {name for _, name in typed}


def test_an_unknown_name_of_a_room_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'nas\.data' has no attribute 'load_image'"):
        importlib.import_module("nas.data").load_image  # noqa: B018


def test_nothing_below_the_front_door_imports_it() -> None:
    importers = [module for module, tree in TREES.items() for source, name in imports(tree) if source == "nas"]
    assert importers == []


def optuna_private_names() -> set[str]:
    """Private attributes of Optuna's studies, trials and storages."""
    study = optuna.create_study()
    trial = study.ask()
    storage = optuna.storages.InMemoryStorage()
    cached = optuna.storages._CachedStorage(optuna.storages.RDBStorage("sqlite://"))
    frozen = (study.get_trials()[0], study._storage.get_all_studies()[0])
    found = {name for one in (study, trial, storage, cached, *frozen) for name in dir(one)}
    cached._backend.engine.dispose()
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def test_private_names_of_optuna_stay_in_one_adapter() -> None:
    private = optuna_private_names()
    assert {"_storage", "_trial_id", "_study_id", "_backend"} <= private
    found = []
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            line = getattr(node, "lineno", 0)
            if isinstance(node, ast.Attribute) and (node.attr in private or node.attr == "_CachedStorage"):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                found += [] if own else [f"{module}:{line} {ast.unparse(node)}"]
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "optuna":
                names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                found += [f"{module}:{line} {name}" for name in names if name.startswith("_")]
    assert [one for one in found if not one.startswith(f"{OPTUNA_ADAPTER}:")] == []
    assert found  # the adapter itself is seen


@pytest.mark.parametrize("name", FRONT_DOOR)
def test_docstrings_begin_with_a_short_line(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)]
    lines = [(ast.get_docstring(node) or "").splitlines()[:1] for node in documented]
    assert [line for found in lines for line in found if len(line) > LONGEST_FIRST_LINE] == []
