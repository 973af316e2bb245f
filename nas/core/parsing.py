"""Bounded reading of YAML, JSON and text files.

A file may come from anywhere: its size, nesting and number of values have limits, so that reading takes neither much
time nor much memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import yaml

from nas.core.errors import NasError, quoted

MAX_NESTING: Final = 50  # levels of lists and mappings within each other
MAX_YAML_CHARACTERS: Final = 1_000_000  # a network of 200 blocks has 10,000
MAX_YAML_VALUES: Final = 40_000  # scalars, lists and mappings; PyYAML reads about as many per CPU-second
MAX_JSON_CHARACTERS: Final = 16_000_000  # a calibration has 500,000
MAX_JSON_VALUES: Final = 1_000_000
_MAX_NUMBER: Final = 100  # characters of a number in YAML
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)  # or an unclosed one, which would be searched for again
_STEP: Final = {"[": 1, "{": 1, "]": -1, "}": -1}


def read_text(path: Path, *, max_characters: int, encoding: str = "utf-8", error: type[NasError] = NasError) -> str:
    """Text of the file at ``path``, of at most ``max_characters``.

    Raises: ``error`` if it is longer; OSError and UnicodeDecodeError if it cannot be read.
    """
    with path.open(encoding=encoding) as stream:
        text = stream.read(max_characters + 1)
    if len(text) > max_characters:
        raise error(f"{path}: has more than {max_characters:,} characters, the most that such a file may have.")
    return text


def parse_yaml(text: str, *, error: type[NasError] = NasError) -> Any:
    """Plain data of a YAML text, as ``yaml.safe_load``.

    Duplicate keys are refused; PyYAML would silently use the last value.

    Raises: ``error`` naming the line, for invalid YAML and beyond the limits of this module.
    """
    if len(text) > MAX_YAML_CHARACTERS:
        raise error(f"has more than {MAX_YAML_CHARACTERS:,} characters, the most that such a file may have.")
    try:
        return yaml.load(text, _BoundedLoader)
    except _RefusedError as problem:
        raise error(str(problem)) from None
    except yaml.YAMLError as problem:
        raise error(f"not valid YAML: {' '.join(str(problem).split())}") from None


def parse_json(text: str, *, error: type[NasError] = NasError) -> Any:
    """Plain data of a JSON text.

    Raises: ``error`` for invalid JSON and beyond the limits of this module.
    """
    if len(text) > MAX_JSON_CHARACTERS:
        raise error(f"has more than {MAX_JSON_CHARACTERS:,} characters, the most that such a file may have.")
    if sum(map(text.count, ",[]{}")) > MAX_JSON_VALUES:
        raise error(f"has more than {MAX_JSON_VALUES:,} values, the most that such a file may have.")
    steps = (_STEP[bracket] for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", text)))
    if any(depth > MAX_NESTING for depth in accumulate(steps)):
        raise error(f"is nested more than {MAX_NESTING} levels deep.")
    try:
        return json.loads(text)
    except ValueError as problem:  # one without position: a number of more than 4300 digits
        raise error(f"not valid JSON: {problem}.") from None


class _RefusedError(yaml.YAMLError):
    """YAML that is valid, and beyond the limits of this module."""


class _BoundedLoader(yaml.SafeLoader):
    """YAML's safe loader with limits, and without duplicate keys.

    Values are counted as often as aliases repeat them: a few lines of aliases of aliases stand for billions.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._values = self._level = self._deepest = 0
        self._anchored: dict[int, tuple[int, int]] = {}  # values and levels of nodes with an anchor

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        values, deepest, level = self._values, self._deepest, self._level
        self._deepest = self._level = level + isinstance(event, yaml.CollectionStartEvent)
        self._count(event, 1, 0)
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._anchored:
                raise _RefusedError(f"line {_line(event)}: an alias within its own anchor.")
            self._count(event, *self._anchored[id(node)])
        elif getattr(event, "anchor", None) is not None:
            self._anchored[id(node)] = (self._values - values, self._deepest - level)
        self._level, self._deepest = level, max(deepest, self._deepest)
        return node

    def _count(self, event: yaml.Event, values: int, levels: int) -> None:
        """Count the ``values`` of an event, nested in each other by ``levels``."""
        self._values += values
        self._deepest = max(self._deepest, self._level + levels)
        for found, most, what in (
            (self._deepest, MAX_NESTING, "levels of nesting"),
            (self._values, MAX_YAML_VALUES, "values"),
        ):
            if found > most:
                raise _RefusedError(
                    f"line {_line(event)}: more than {most:,} {what}, the most that such a file may have."
                )

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        kind = node.tag.rpartition(":")[2]
        if kind in ("int", "float") and len(node.value) > _MAX_NUMBER:
            raise _RefusedError(f"line {_line(node)}: a number of more than {_MAX_NUMBER} characters.")
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # PyYAML's own, of a date such as 2001-02-30, a number of 5000 digits, or "!!int x".
            raise _RefusedError(
                f"line {_line(node)}: {quoted(node.value)} cannot be read as {kind}; quote a text."
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise _RefusedError(f"{key.value}: duplicate key, again on line {_line(key)}; keep one.")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _line(place: yaml.Event | yaml.Node) -> int:
    """Number of the line in which ``place`` begins."""
    mark: Any = place.start_mark
    return int(mark.line) + 1
