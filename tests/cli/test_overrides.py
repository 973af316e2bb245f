"""Tests of settings from Python as override strings that Hydra parses back.

A value that Hydra cannot hold is refused.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from nas.cli.hydra_config import compose_config
from nas.cli.overrides import overrides_of
from nas.core.errors import NasError


def read(override: str) -> Any:
    """What a configuration holds after ``override``, as Hydra and OmegaConf read it."""
    value = OverridesParser.create().parse_override(override).value()
    return OmegaConf.to_container(OmegaConf.create({"setting": value}), resolve=True)["setting"]  # type: ignore[index]


SIGNS = st.text(st.sampled_from("ab3 .,:=-+*'\"\\${}[]()#~/@%"), max_size=8).filter(lambda text: text[:1] != "~")
TEXTS = SIGNS | st.sampled_from(["true", "null", "1e5", "inf", "${data.name}", "postgresql://a:b@c:1/d?e=f", "é"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS, lambda inner: st.lists(inner)
)


@settings(deadline=None)
@given(VALUES)
def test_a_value_is_read_as_it_was_given(value: Any) -> None:
    (override,) = overrides_of({"setting": value})
    found = read(override)
    assert found == value
    assert type(found) is type(value)


def test_nested_mappings_become_dotted_names() -> None:
    nested = {"space": "mixnet", "study": {"n_trials": 4, "name": None}, "space.choices": {"groups": (1, 2)}}
    assert overrides_of(nested) == [
        "space=mixnet",
        "study.n_trials=4",
        "study.name=null",
        "space.choices.groups=[1,2]",
    ]
    config = compose_config("search", overrides_of({"study": {"name": "3"}, "constraint": {"latency_ms": 20}}))
    assert (config["study"]["name"], config["constraint"]["latency_ms"]) == ("3", 20)


def test_paths_and_numbers_of_numpy_are_understood() -> None:
    assert overrides_of({"runs_dir": Path("a") / "b c"}) == ["runs_dir=a/b c"]
    assert overrides_of({"a": np.float32(0.5), "b": np.int64(3), "c": True}) == ["a=0.5", "b=3", "c=true"]
    assert read(overrides_of({"a": math.inf})[0]) == math.inf
    assert overrides_of({"root": "~/photos"}) == [f"root={Path.home() / 'photos'}"]


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, [object()]])
def test_what_is_no_setting_is_refused(value: object) -> None:
    with pytest.raises(NasError, match=r"^group\.name: type \w+ is not allowed for a setting; give text, a number"):
        overrides_of({"group": {"name": value}})


@pytest.mark.parametrize("key", ["", "a b", "a=b", "-m", 3])
def test_a_name_that_is_none_is_refused(key: Any) -> None:
    with pytest.raises(NasError, match="is not a setting's name"):
        overrides_of({key: 1})
