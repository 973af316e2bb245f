"""Resolution of ``weights=``: checked without torch, before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nas.arch import zoo
from nas.cli.resolve.networks import is_spec_file, resolve_arch
from nas.core.errors import NasError, quoted, suggestion
from nas.methods.search.baselines.choice import BaselineChoice
from nas.model.weights.files import (
    PRETRAINED,
    SPEC_SUFFIXES,
    TIMM_PREFIX,
    WEIGHT_SUFFIXES,
    has_weights_beside,
    weights_beside,
)
from nas.training.distillation.settings import TeacherChoice

_FORMS: Final = (
    f"must be null, pretrained, timm/NAME, a spec file with its weights beside it, or a file of weights "
    f"({', '.join(WEIGHT_SUFFIXES[:-1])})"
)


def resolve_weights(value: object, field: str = "weights") -> str | None:
    """Check ``weights=`` as far as that needs no torch, and return it.

    None: random ones. ``pretrained``: timm's of the network; ``timm/NAME``: timm's of another one; a file of weights;
    ``SPEC.yaml``, for the weights beside it. ``field``: the setting's name, for errors.

    Raises: NasError that lists the accepted forms, or names the file that is missing.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise NasError(f"{field} {quoted(value)}: {_FORMS}.")
    if value == PRETRAINED or value.startswith(TIMM_PREFIX):
        return value
    path = Path(value).expanduser()
    if path.is_dir():
        raise NasError(f"{field} {value!r}: is a folder; give a file of it, such as {path / 'best.yaml'}.")
    if path.suffix in SPEC_SUFFIXES:
        weights_beside(path, field)
    elif path.suffix not in WEIGHT_SUFFIXES:
        near = suggestion(value, [PRETRAINED]) or suggestion(
            f"{TIMM_PREFIX}{value}", map(TIMM_PREFIX.__add__, zoo.names())
        )
        raise NasError(f"{field} {value!r}: {_FORMS}.{near}")
    elif not path.is_file():
        raise NasError(f"{field} {value!r}: no such file.")
    return value


def own_weights(spec_file: Path | None) -> str | None:
    """The spec file itself if it has weights beside it, in a form of ``weights=``."""
    return str(spec_file) if spec_file is not None and has_weights_beside(spec_file) else None


def resolve_teacher(teacher: object, weights: object) -> TeacherChoice | None:
    """Resolve ``teacher=`` and ``teacher_weights=``; None for no teacher.

    A network in any form of ``arch=``. Without ``weights``: timm's of a network of theirs, those beside a spec file.

    Raises: NasError naming the setting that is wrong or missing.
    """
    if teacher is None:
        if weights is not None:
            raise NasError(f"teacher_weights {quoted(weights)}: needs a teacher; add teacher=.")
        return None
    arch, name = resolve_arch(teacher, "teacher"), str(teacher)
    resolved = resolve_weights(pretrained_weights(name) if weights is None else weights, "teacher_weights")
    return TeacherChoice(name=name, arch=arch, weights=str(resolved))


def resolve_baselines(names: Sequence[str]) -> tuple[BaselineChoice, ...]:
    """Resolve ``study.baselines``: networks in any form of ``arch=``.

    Their weights are timm's, or those beside a spec file.

    Raises: NasError naming the one that is wrong.
    """
    field = "study.baselines"
    return tuple(
        BaselineChoice(
            name=name, arch=resolve_arch(name, field), weights=str(resolve_weights(pretrained_weights(name), field))
        )
        for name in names
    )


def pretrained_weights(name: str) -> str:
    """Weights of a network, in a form of ``weights=``: timm's, or beside a spec file."""
    return name if name.startswith(TIMM_PREFIX) or is_spec_file(name) else PRETRAINED
