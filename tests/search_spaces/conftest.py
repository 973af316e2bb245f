"""Spaces built as commands build them: from YAML, by the class it names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from search_spaces.space import SearchSpace
from tests.paths import ROOT

TINY = Path(__file__).parent / "data" / "tiny.yaml"


def read(name: str) -> dict[str, Any]:
    """Parsed YAML of a space; ``tiny`` is an example of the tests."""
    path = TINY if name == "tiny" else ROOT / "conf" / "space" / f"{name}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def build(config: dict[str, Any]) -> SearchSpace:
    """Build the space of a config as Hydra's ``instantiate`` does."""
    fields = dict(config)
    module, _, name = fields.pop("_target_").rpartition(".")
    assert fields.pop("_convert_") == "all"
    space = getattr(importlib.import_module(module), name)(**fields)
    assert isinstance(space, SearchSpace)
    return space


@cache
def _published(name: str) -> SearchSpace:
    return build(read(name))


@pytest.fixture
def load() -> Callable[..., SearchSpace]:
    """Build a space with fields replaced and choices merged.

    ``load("mixnet", width=1.0, choices={"groups": [1]})``.
    """

    def loader(name: str, *, choices: dict[str, Any] | None = None, **fields: Any) -> SearchSpace:
        if not choices and not fields:
            return _published(name)
        config = read(name)
        config["choices"] = {**config.get("choices", {}), **(choices or {})}
        return build({**config, **fields})

    return loader


@pytest.fixture
def config() -> Callable[[str], dict[str, Any]]:
    """Parsed YAML of a space, to be modified."""
    return read


@pytest.fixture
def construct() -> Callable[[dict[str, Any]], SearchSpace]:
    """Build the space of a modified config."""
    return build
