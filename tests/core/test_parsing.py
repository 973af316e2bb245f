"""Bounded YAML and JSON: what safe_load and json give, or one line that names the place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from nas.core import parsing
from nas.core.credentials import mask_credentials
from nas.core.errors import NasError, quoted
from nas.core.parsing import parse_json, parse_yaml, read_text
from nas.core.validation import check_number

ALIASES = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in ("ab", "bc", "cd", "de"))


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "[1, 2.5, null, yes]", "a: &x {b: 1}\nc: *x", "base: &b {x: 1}\nd: {<<: *b, y: 2}", "- - - 1",
        "'9999'", "2001-02-28", "[" * 50 + "]" * 50,
    ],
)  # fmt: skip
def test_yaml_is_read_as_by_safe_load(text: str) -> None:
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 51 + "]" * 51, r"line 1: more than 50 levels of nesting"),
        ("a:\n  - [" + "[" * 51 + "]" * 52, r"line 2: more than 50 levels of nesting"),
        ("x: &x " + "[" * 30 + "]" * 30 + "\ny: " + "[" * 30 + "*x" + "]" * 30, r"line 2: more than 50 levels"),
        ("".join(f"{' ' * level}-\n" for level in range(60)), r"more than 50 levels of nesting"),
        (ALIASES, r"line 4: more than 1,000 values"),
        ("[" + "1," * 1001 + "]", r"line 1: more than 1,000 values"),
        ("a: &a [*a]", r"line 1: an alias within its own anchor"),
        ("a: 1\na: 2", r"a: duplicate key, again on line 2"),
        ("a: 2001-02-30", r"line 1: '2001-02-30' cannot be read as timestamp; quote a text"),
        ("a: 1\nb: !!int x", r"line 2: 'x' cannot be read as int"),
        ("a: " + "9" * 101, r"line 1: a number of more than 100 characters"),
        ("[a]: 1", r"not valid YAML: .*unhashable key"),
        ("!!python/name:os.name ''", r"not valid YAML: could not determine a constructor"),
        ("a: [", r"not valid YAML: .*line 1"),
        ("x" * 10_001, r"has more than 10,000 characters"),
    ],
)
def test_yaml_beyond_the_limits_names_the_line(monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.setattr(parsing, "MAX_YAML_VALUES", 1000)
    monkeypatch.setattr(parsing, "MAX_YAML_CHARACTERS", 10_000)
    with pytest.raises(NasError, match=message) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


def test_json_is_read_as_by_json() -> None:
    deep = "[" * 50 + "]" * 50
    for text in ('{"a": [1, "[[[", "\\"{{", null]}', deep, "1e5", '"x"'):
        assert parse_json(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 51 + "]" * 51, "is nested more than 50 levels deep"),
        ('{"a":' * 60, "is nested more than 50 levels deep"),
        ("[" + "1," * 1001 + "1]", "has more than 1,000 values"),
        ("9" * 5000, "not valid JSON: Exceeds the limit"),
        ('"\\' * 3000, "not valid JSON: Unterminated string"),
        ('{"a": }', "not valid JSON: Expecting value: line 1"),
        ("1" * 10_001, "has more than 10,000 characters"),
    ],
)
def test_json_beyond_the_limits_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.setattr(parsing, "MAX_JSON_VALUES", 1000)
    monkeypatch.setattr(parsing, "MAX_JSON_CHARACTERS", 10_000)
    with pytest.raises(NasError, match=message):
        parse_json(text)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"1\r\n" * 4)
    assert read_text(path, max_characters=8) == "1\n" * 4
    with pytest.raises(NasError, match=r"a\.txt: has more than 7 characters"):
        read_text(path, max_characters=7)


def test_long_values_are_shortened_in_messages() -> None:
    assert quoted("x" * 158) == repr("x" * 158)
    assert quoted("x" * 1000).endswith("... (1,002 characters)") and len(quoted("x" * 1000)) < 200
    assert quoted(10**5000) == "a number of more than 160 digits"
    assert len(str(NasError("word " * 10_000))) < 6100
    for size in (150, 1000, 5000):
        assert "cAnArY7" not in quoted(f"mysql://me:{'x' * size}cAnArY7@h/d")
        assert "cAnArY7" not in quoted("x" * (150 - size // 100) + f" mysql://me:cAnArY7{'x' * size}@h/d")


def test_masking_takes_time_in_proportion_to_the_text() -> None:
    """It took minutes, because it tried every letter of a word as the beginning of a name."""
    for text in ("a" * 100_000, "password" * 3000, "mysql://" + "a" * 100_000):
        assert mask_credentials(text) == text


@pytest.mark.parametrize("value", [10**400, 1e300, float("inf"), float("nan"), 10**30, True, "1"])
def test_every_figure_has_a_range(value: object) -> None:
    with pytest.raises(NasError, match=r"x .*: must be a number of at least 0"):
        check_number("x", value, low=0)
