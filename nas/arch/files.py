"""Spec files: networks as YAML, in MixNet's or EfficientNet's published style.

Parsing is strict, and what is written round-trips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import yaml

from nas.arch.blocks import BlockSpec, format_kernels, format_number
from nas.arch.heads.parts import DENSE_HEADS, head_data
from nas.arch.limits import MAX_BLOCKS
from nas.arch.option_values import parse_kernels
from nas.arch.parts import HEAD_KINDS, HeadSpec, NormSpec, SqueezeExcite, StemSpec
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import ArchSpec, StageSpec, check_in_channels
from nas.arch.tensorflow_notation import group_stages, is_tensorflow_block
from nas.core.dataclass_io import from_mapping
from nas.core.errors import SpecError, quoted
from nas.core.files import write_text_atomically
from nas.core.formatting import alternatives
from nas.core.parsing import MAX_YAML_CHARACTERS, parse_yaml, read_text

SPEC_FORMAT: Final = "nas.arch/1"

_PARTS: Final = {"stem": StemSpec, "head": HeadSpec, "squeeze_excite": SqueezeExcite, "norm": NormSpec}
_KERNEL_FIELDS: Final = ("kernels", "expand_kernels", "project_kernels")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecFile:
    """Content of a spec file.

    ``arch``: the network. ``provenance``: plain data on its origin, such as space, study, trial and versions.
    """

    arch: ArchSpec
    provenance: Mapping[str, Any] = field(default_factory=dict)


def load_spec(path: str | Path) -> ArchSpec:
    """Load the network of a spec file of either style.

    Raises: SpecError naming file and field.
    """
    return load_spec_file(path).arch


def load_spec_file(path: str | Path) -> SpecFile:
    """Load the network and provenance of a spec file.

    Raises: SpecError naming file and field.
    """
    try:
        text = read_text(Path(path), max_characters=MAX_YAML_CHARACTERS, error=SpecError)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise SpecError(f"cannot read spec file {str(path)!r}: {reason}.") from None
    try:
        return parse_spec(text)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def parse_spec(text: str) -> SpecFile:
    """Parse YAML text into a ``SpecFile``.

    Raises: SpecError naming the field.
    """
    data = parse_yaml(text, error=SpecError)
    if not isinstance(data, dict) or data.get("format") != SPEC_FORMAT:
        actual = data.get("format") if isinstance(data, dict) else None
        raise SpecError(f"format {quoted(actual)}: a spec file begins with 'format: {SPEC_FORMAT}'.")
    data = dict(data)
    del data["format"]
    provenance = data.pop("provenance", {})
    coefficients = data.pop("coefficients", None)
    if not isinstance(provenance, dict):
        raise SpecError("provenance: must be a mapping.")
    arch = _read_arch(data)
    if coefficients is not None:
        scaling = from_mapping(Scaling, coefficients, "coefficients", error=SpecError)
        try:
            arch = scale(arch, scaling)
        except SpecError as error:
            raise SpecError(f"coefficients: {error}") from None
    return SpecFile(arch=arch, provenance=provenance)


def save_spec(arch: ArchSpec, path: str | Path, provenance: Mapping[str, Any] | None = None) -> None:
    """Write ``arch`` atomically as a spec file; inverse of ``load_spec``.

    ``provenance``: plain data on the origin of the network.

    Raises: SpecError for provenance that is not plain data; NasError if the file cannot be written.
    """
    write_text_atomically(Path(path), dump_spec(arch, provenance))


def dump_spec(arch: ArchSpec, provenance: Mapping[str, Any] | None = None) -> str:
    """Format ``arch`` as YAML in MixNet's style: block strings with final channels.

    Raises: SpecError for provenance that is not plain data.
    """
    return _dump(_arch_data(arch, [list(stage) for stage in arch.strings]), provenance)


def dump_scaled_spec(base: ArchSpec, scaling: Scaling, provenance: Mapping[str, Any] | None = None) -> str:
    """Format as YAML in EfficientNet's style: block arguments and coefficients.

    The block arguments are those of ``base``, the coefficients those of ``scaling``; ``parse_spec`` of the result gives
    ``scale(base, scaling)``.

    Raises: SpecError for provenance that is not plain data.
    """
    stages = [[_block_data(block) for block in stage.blocks] for stage in base.stages]
    data = _arch_data(base, stages)
    data["coefficients"] = {key: value for key, value in asdict(scaling).items() if value is not None}
    return _dump(data, provenance)


def _dump(data: dict[str, Any], provenance: Mapping[str, Any] | None) -> str:
    if provenance:
        data = {**data, "provenance": dict(provenance)}
    try:
        return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    except yaml.representer.RepresenterError as error:
        value = error.args[-1]
        raise SpecError(
            f"provenance: {value!r} is a {type(value).__name__}; use numbers, strings, lists and mappings alone."
        ) from None


def _arch_data(arch: ArchSpec, stages: list[Any]) -> dict[str, Any]:
    data: dict[str, Any] = {"format": SPEC_FORMAT}
    for item in fields(ArchSpec):
        value = getattr(arch, item.name)
        if value is None:
            continue  # optional parts that the network lacks are omitted
        if item.name == "stages":
            value = stages
        elif item.name in _PARTS:
            value = head_data(value) if item.name == "head" else asdict(value)
        data[item.name] = value
    return data


def _block_data(block: BlockSpec) -> dict[str, Any]:
    """Fields of ``block`` that differ from their defaults.

    Kernels are dotted strings, so that each block fits on one line.
    """
    data: dict[str, Any] = {}
    for item in fields(BlockSpec):
        value = getattr(block, item.name)
        if item.default is not MISSING and value == item.default and item.name not in ("repeats", "kernels", "stride"):
            continue
        if item.name in _KERNEL_FIELDS:
            value = f"k{format_kernels(value)}"
        elif isinstance(value, float):
            value = float(format_number(value))
        data[item.name] = value
    return data


def _read_arch(data: dict[str, Any]) -> ArchSpec:
    for key, kind in _PARTS.items():
        if key in data:
            data[key] = from_mapping(_head_kind(data[key]) if key == "head" else kind, data[key], key, error=SpecError)
    strings: list[list[str]] = []
    if "stages" in data:
        stages = _grouped(data["stages"])
        data["stages"] = _read_stages(stages)
        if isinstance(stages, list) and all(isinstance(block, str) for stage in stages for block in stage):
            strings = stages
    arch = from_mapping(ArchSpec, data, "", error=SpecError)
    check_in_channels(arch, strings)
    return arch


def _head_kind(head: object) -> type[Any]:
    """The class of a head: by its kind, that of a classifier without one."""
    kind = head.get("kind", "conv_pool") if isinstance(head, dict) else "conv_pool"
    kinds = (*HEAD_KINDS, *DENSE_HEADS)
    if kind not in kinds:
        raise SpecError(f"head kind {quoted(kind)}: must be {alternatives(kinds)}.")
    return DENSE_HEADS.get(kind, HeadSpec)


def _grouped(stages: object) -> object:
    """``stages``, grouped if they are TensorFlow's list of block strings."""
    if isinstance(stages, list) and stages and all(isinstance(one, str) and is_tensorflow_block(one) for one in stages):
        try:
            return group_stages(stages)
        except SpecError as error:
            raise SpecError(f"stages: {error}") from None
    return stages


def _read_stages(stages: object) -> tuple[StageSpec, ...]:
    if not isinstance(stages, list) or not all(isinstance(stage, list) for stage in stages):
        raise SpecError("stages: must be a list of stages, each a list of block strings (or of block arguments).")
    if (count := sum(map(len, stages))) > MAX_BLOCKS:
        raise SpecError(f"stages: {count:,} blocks; a network has at most {MAX_BLOCKS:,}.")
    result = []
    for index, stage in enumerate(stages):
        try:
            result.append(_read_stage(stage))
        except SpecError as error:
            raise SpecError(f"stages[{index}]: {error}") from None
    return tuple(result)


def _read_stage(stage: Sequence[object]) -> StageSpec:
    if all(isinstance(block, str) for block in stage):
        return StageSpec.parse(str(block) for block in stage)
    blocks = []
    for index, block in enumerate(stage):
        if not isinstance(block, dict):
            raise SpecError(f"blocks[{index}]: mixes block strings and block arguments; use one of them.")
        arguments = dict(block)
        for key in _KERNEL_FIELDS:
            if key in arguments:
                arguments[key] = parse_kernels(str(arguments[key]))
        blocks.append(from_mapping(BlockSpec, arguments, f"blocks[{index}]", error=SpecError))
    return StageSpec(tuple(blocks))
