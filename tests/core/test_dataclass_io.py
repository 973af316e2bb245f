"""Dataclasses from mappings, and errors for invalid ones.

An error names the location once, and the value as YAML writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, SpecError, unknown_choice
from nas.core.validation import check_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A class with the three forms of error messages.

    With the location for ``kind``, with the field's name alone for ``workers``, with neither for the two together.
    """

    kind: str = "local"
    workers: int = 1
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("local", "ray"):
            raise unknown_choice("engine.kind", self.kind, ("local", "ray"))
        if self.kind == "ray" and self.workers < 2:
            raise SpecError("engine Engine(): ray needs two.")
        if self.workers == 7:
            raise NasError("seven is too many.")
        check_number("workers", self.workers, low=1, whole=True)
        check_number("engine.rate", self.rate, low=0, optional=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "loca"}, "unknown engine.kind 'loca': choose from local, ray. Did you mean 'local'?"),
        ({"kind": "ray"}, "engine Engine(): ray needs two."),
        ({"workers": 7}, "engine: seven is too many."),
        ({"workers": 0}, "engine.workers 0: must be a whole number of at least 1."),
        ({"rate": -1}, "engine.rate -1: must be a number of at least 0, or null."),
        ({"workers": None}, "engine.workers: null is not a whole number."),
        ({"workers": True}, "engine.workers: true is not a whole number."),
        ({"works": 1}, "engine.works: unknown field; choose from kind, workers, rate. Did you mean 'workers'?"),
        (None, "engine: must be a mapping, not null."),
    ],
)
def test_errors_name_the_location_once(data: object, message: str) -> None:
    with pytest.raises(NasError) as caught:
        from_mapping(Engine, data, "engine")
    assert str(caught.value) == message


def test_fields_are_passed_unchanged() -> None:
    assert from_mapping(Engine, {"workers": 3}, "engine") == Engine(workers=3)
