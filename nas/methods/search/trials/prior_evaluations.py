"""Prior evaluations of a search: read once, then stored in the study.

A resumed search and all its workers read them from there; their sources may be gone then.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import optuna

from nas.core.errors import NasError, quoted
from nas.core.formatting import plural
from nas.methods.search.config import SearchPlan
from nas.methods.search.trials.evaluated_file import read_evaluated_file
from nas.methods.search.trials.evaluations import (
    ACCURACY_DIGITS,
    MAX_EVALUATIONS,
    EvaluationList,
    PriorEvaluation,
    Scalar,
)
from nas.methods.search.trials.initial_trials import QUEUED_MARK
from nas.methods.search.trials.warm_start import earlier_evaluations
from nas.study.catalog import load_study
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.storage.optuna_private import storage_of

__all__ = [
    "PriorEvaluation",
    "check_sources",
    "prior_evaluations",
    "read_evaluation_lists",
    "read_prior_evaluations",
    "record_evaluation_lists",
    "record_prior_evaluations",
    "source_changes",
    "stored_counts",
]

# System attributes of the study. The header says where the evaluations are from, and is written last: with it, all
# chunks are there.
_HEADER: Final = "nas:prior"
_CHUNK: Final = "nas:prior:"  # and the number of the chunk
_MAX_CHUNK: Final = 30_000  # bytes of JSON; MySQL's column holds 65,535
_BASE: Final = 36
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_NO_ORIGIN: Final[Mapping[str, Any]] = {"evaluated": None, "learn_from": [], "parts": []}
_STORED_COUNT: Final = "the evaluations that the study has stored count"

Parameters = Mapping[str, tuple[Scalar, ...]]


def check_sources(plan: SearchPlan) -> None:
    """Check that a new study of ``plan`` could read its prior evaluations.

    Of a study that has stored them already nothing is checked. Called before anything is loaded or calibrated; a file
    that exists was read when the settings were checked. Raises: NasError.
    """
    settings = plan.study
    if not (settings.evaluated or settings.learn_from) or _is_seeded(plan):
        return
    if settings.evaluated and not Path(settings.evaluated).is_file():
        read_evaluated_file(Path(settings.evaluated), plan.space)
    for name in settings.learn_from:
        earlier_evaluations(plan, name)


def read_prior_evaluations(plan: SearchPlan) -> tuple[PriorEvaluation, ...]:
    """Evaluations from the file and the studies that ``plan`` names.

    Raises: NasError as ``read_evaluation_lists``.
    """
    return tuple(one for part in read_evaluation_lists(plan) for one in part.evaluations)


def read_evaluation_lists(plan: SearchPlan) -> list[EvaluationList]:
    """Evaluations from the file and the studies that ``plan`` names, by source.

    Raises: NasError where one cannot be read, and for more than ``MAX_EVALUATIONS``.
    """
    file, names = plan.study.evaluated, plan.study.learn_from
    lists = [read_evaluated_file(Path(file), plan.space)] if file else []
    lists += [earlier_evaluations(plan, name) for name in names]
    _check_count(sum(len(part.evaluations) for part in lists))
    return lists


def record_evaluation_lists(study: optuna.Study, plan: SearchPlan, lists: Sequence[EvaluationList]) -> None:
    """Store what ``read_evaluation_lists`` returned, with the settings of ``plan``."""
    if not lists:
        return
    parts = [[part.label, len(part.evaluations), part.note] for part in lists]
    origin = {"evaluated": plan.study.evaluated, "learn_from": list(plan.study.learn_from), "parts": parts}
    evaluations = [one for part in lists for one in part.evaluations]
    record_prior_evaluations(study, evaluations, plan.space.parameters, origin)


def record_prior_evaluations(
    study: optuna.Study,
    evaluations: Sequence[PriorEvaluation],
    parameters: Parameters,
    origin: Mapping[str, Any] = _NO_ORIGIN,
) -> None:
    """Store ``evaluations`` in the system attributes of ``study``.

    Each genotype as its place among all points of ``parameters``, in chunks of at most 30,000 bytes. ``origin``: the
    settings that name the sources, and label, count and note of each, as ``parts``.

    Raises: NasError for more than ``MAX_EVALUATIONS``.
    """
    _check_count(len(evaluations))
    count = 0
    for count, chunk in enumerate(_chunks(evaluations, parameters), start=1):
        set_system_attribute(study, f"{_CHUNK}{count - 1}", chunk)
    header = {"evaluations": len(evaluations), "chunks": count, "points": str(_points(parameters))}
    set_system_attribute(study, _HEADER, {**header, **origin})


def prior_evaluations(study: optuna.Study, parameters: Parameters) -> tuple[PriorEvaluation, ...]:
    """The evaluations that ``study`` learns from besides its own, in the order stored.

    Raises: NasError if they are of another space than that of ``parameters``.
    """
    stored = system_attributes(study)
    header = stored.get(_HEADER)
    if header is None:
        return ()
    if header["points"] != str(_points(parameters)):
        raise NasError(
            f"study {study.study_name!r}: its earlier evaluations are of a space of {header['points']} points, not of "
            f"{_points(parameters)}; check out the version that made the study."
        )
    chunks = (stored[f"{_CHUNK}{number}"] for number in range(header["chunks"]))
    return tuple(one for chunk in chunks for one in _of_chunk(chunk, parameters))


def stored_counts(study: optuna.Study) -> str:
    """How many evaluations ``study`` has stored of which source; empty if none."""
    parts = _origin(study)["parts"]
    if not parts:
        return ""
    total = plural(sum(count for _, count, _ in parts), "evaluated network")
    listed = (f"{count:,} of {label}{f' ({note})' if note else ''}" for label, count, note in parts)
    return f"{total}: {', '.join(listed)}"


def source_changes(study: optuna.Study, plan: SearchPlan) -> list[str]:
    """Differences between the sources of ``plan`` and what is stored, as lines.

    A file may be gone or changed since: what is stored counts. Earlier studies are not read again. Settings that are
    not given are not compared.

    Raises: NasError if ``plan`` names other sources.
    """
    settings = plan.study
    origin = _origin(study)
    if settings.learn_from and list(settings.learn_from) != origin["learn_from"]:
        raise _other_sources(plan, "study.learn_from", list(settings.learn_from), origin["learn_from"])
    if settings.evaluated is None:
        return []
    is_same = settings.evaluated == origin["evaluated"]
    try:
        now = read_evaluated_file(Path(settings.evaluated), plan.space).evaluations
    except NasError as error:
        if not is_same:
            raise
        return [f"note: {str(error).rstrip('.')}; {_STORED_COUNT}"]
    stored = prior_evaluations(study, plan.space.parameters)[: origin["parts"][0][1]] if origin["evaluated"] else ()
    if list(map(_result, now)) == list(map(_result, stored)):
        return []
    if not is_same:
        raise _other_sources(plan, "study.evaluated", settings.evaluated, origin["evaluated"])
    return [f"note: {settings.evaluated} has changed since the study was started; {_STORED_COUNT}"]


def _origin(study: optuna.Study) -> dict[str, Any]:
    """Where the stored evaluations are from."""
    return {**_NO_ORIGIN, **system_attributes(study).get(_HEADER, {})}


def _result(evaluation: PriorEvaluation) -> tuple[Any, ...]:
    """What counts of ``evaluation`` where its file may have been renamed."""
    return dict(evaluation.genotype), evaluation.accuracy, evaluation.standard_error


def _other_sources(plan: SearchPlan, setting: str, now: object, before: object) -> NasError:
    start = f"with {quoted(before)}" if before else "without"
    return NasError(
        f"{setting} {quoted(now)}: study {plan.name!r} was started {start}, and keeps its earlier evaluations; leave "
        "the setting as it was, or choose another study.name."
    )


def _is_seeded(plan: SearchPlan) -> bool:
    """Whether the study of ``plan`` exists and has its initial trials."""
    try:
        study = load_study(plan.storage_url, plan.name)
    except NasError:
        return False
    with closing(storage_of(study)):
        return QUEUED_MARK in system_attributes(study)


def _check_count(count: int) -> None:
    if count > MAX_EVALUATIONS:
        raise NasError(
            f"study.evaluated, study.learn_from: {count:,} evaluated networks; a study learns from at most "
            f"{MAX_EVALUATIONS:,}: leave some out."
        )


def _chunks(evaluations: Iterable[PriorEvaluation], parameters: Parameters) -> Iterator[dict[str, Any]]:
    """``evaluations`` as plain data in chunks of at most ``_MAX_CHUNK`` bytes.

    A chunk lists its ``sources``, and ``rows`` of place, accuracy, standard error and index of the source.
    """
    sources: dict[str, int] = {}
    rows: list[list[Any]] = []
    size = 0
    for one in evaluations:
        row = [_place(one.genotype, parameters), _rounded(one.accuracy), _rounded(one.standard_error)]
        added = len(json.dumps([*row, MAX_EVALUATIONS])) + 2
        added += 0 if one.source in sources else len(json.dumps(one.source)) + 2
        if rows and size + added > _MAX_CHUNK - 100:  # of the keys
            yield {"sources": list(sources), "rows": rows}
            sources, rows, size = {}, [], 0
            added = len(json.dumps([*row, MAX_EVALUATIONS])) + len(json.dumps(one.source)) + 4
        size += added
        rows.append([*row, sources.setdefault(one.source, len(sources))])
    if rows:
        yield {"sources": list(sources), "rows": rows}


def _of_chunk(chunk: Mapping[str, Any], parameters: Parameters) -> Iterator[PriorEvaluation]:
    for place, accuracy, error, source in chunk["rows"]:
        yield PriorEvaluation(
            genotype=_genotype(place, parameters),
            accuracy=accuracy,
            source=chunk["sources"][source],
            standard_error=error,
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, ACCURACY_DIGITS)


def _points(parameters: Parameters) -> int:
    return math.prod(len(values) for values in parameters.values())


def _place(genotype: Mapping[str, Scalar], parameters: Parameters) -> str:
    """Index of ``genotype`` among all points, in base 36.

    Its digits in a mixed base are the indices of the choices, by name.
    """
    place = 0
    for name in sorted(parameters):
        place = place * len(parameters[name]) + parameters[name].index(genotype[name])
    digits = []
    while place:
        place, digit = divmod(place, _BASE)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits)) or "0"


def _genotype(place: str, parameters: Parameters) -> dict[str, Scalar]:
    """Inverse of ``_place``, in the order of ``parameters``."""
    left, found = int(place, _BASE), {}
    for name in reversed(sorted(parameters)):
        left, index = divmod(left, len(parameters[name]))
        found[name] = parameters[name][index]
    return {name: found[name] for name in parameters}
