"""What a user of a network needs besides it: classes and normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, quoted

INPUT_FACTS: Final = ("class_names", "normalisation")


def input_facts(spec: ArchSpec, provenance: Mapping[str, Any] | None) -> dict[str, Any]:
    """Class names, and mean and std of the images, from a ``provenance``.

    That of a spec file, ``load_spec_file(path).provenance``; what it lacks is left out. Pixels are scaled to [0, 1]
    before they are normalised.

    Raises: NasError for names that are not one text per class of ``spec``, and for statistics that are not one number
    per channel.
    """
    found = {name: provenance[name] for name in INPUT_FACTS if provenance and provenance.get(name) is not None}
    names = found.get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise NasError(f"provenance.class_names {quoted(names)}: must be a list of names in label order.")
    if names and len(names) != spec.classes:
        raise NasError(
            f"provenance.class_names: has {len(names)} names, the network has {spec.classes} classes; give one name "
            "per class in label order, or leave it out."
        )
    statistics = found.get("normalisation")
    if statistics is not None:
        found["normalisation"] = _checked_statistics(spec, statistics)
    return found


def _checked_statistics(spec: ArchSpec, statistics: object) -> dict[str, list[float]]:
    """Mean and std as numbers. They become source code, so that nothing else may pass.

    Raises: NasError.
    """
    checked = {}
    for name in ("mean", "std"):
        values = statistics.get(name) if isinstance(statistics, Mapping) else None
        if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
            raise NasError(f"provenance.normalisation.{name} {quoted(values)}: must be a list of numbers.")
        if len(values) != spec.in_channels:
            raise NasError(
                f"provenance.normalisation.{name} {quoted(values)}: must have one number per input channel "
                f"({spec.in_channels})."
            )
        checked[name] = [float(value) for value in values]
    return checked
