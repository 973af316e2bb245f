"""Searchable attributes of a block: value type, ``BlockSpec`` field and meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from nas.arch.blocks import DEPTHWISE_TYPES, EXPANDING_TYPES, BlockSpec
from nas.arch.limits import MAX_GROUPS
from nas.arch.option_values import parse_kernels
from nas.core.errors import NasError, SpecError, quoted, suggestion, unknown_choice
from search_spaces.space import Scalar

TYPES: Final = ("ir", "ds", "dsa", "er", "cn")  # block types that a space may have


@dataclass(frozen=True, slots=True)
class Choice:
    """A named list of values with their meanings.

    ``values``: as in the genotype. ``meanings``: what each sets in the network's spec: ``groups`` 2 means ``kernels``
    (3, 5). A single value is a constant: it is not a parameter of the space, and its name appears in messages alone.
    """

    name: str
    values: tuple[Scalar, ...]
    meanings: tuple[Any, ...]

    @property
    def is_open(self) -> bool:
        """Whether there is more than one value to choose from."""
        return len(self.values) > 1

    def meaning(self, genotype: Mapping[str, Scalar]) -> Any:
        """Meaning of the genotype's value, or the constant's."""
        return self.meanings[self.values.index(genotype[self.name])] if len(self.values) > 1 else self.meanings[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """How an attribute of a space's YAML sets a field of a block.

    ``field``: of ``BlockSpec``. ``kind``: type of one value. ``scope``: ``block`` attributes are chosen block by block
    even if the stage or the space lists their values, ``stage`` attributes once for all blocks of a stage. ``types``:
    block types that have the attribute. ``meaning``: function from a value to the field, None if they are the same.
    """

    field: str
    kind: type
    scope: Literal["block", "stage"] = "block"
    types: tuple[str, ...] = TYPES
    meaning: Callable[[Any], Any] | None = None


def mixconv_kernels(groups: int) -> tuple[int, ...]:
    """Kernel sides in px of a MixConv of ``groups`` groups: 3, 5, ..., 2 groups + 1.

    MixConv paper, section 3.2.

    Raises: SpecError for fewer than one group, or too many.
    """
    if not 1 <= groups <= MAX_GROUPS:
        raise SpecError(f"must be at least 1 and at most {MAX_GROUPS}.")
    return tuple(range(3, 2 * groups + 2, 2))


def pointwise_kernels(groups: int) -> tuple[int, ...]:
    """One 1x1 kernel per group of a grouped pointwise convolution.

    Raises: SpecError for fewer than one group, or too many.
    """
    if not 1 <= groups <= MAX_GROUPS:
        raise SpecError(f"must be at least 1 and at most {MAX_GROUPS}.")
    return (1,) * groups


def _block_type(kind: str) -> str:
    if kind not in TYPES:
        raise unknown_choice("type", kind, TYPES, error=SpecError)
    return kind


def _single_kernel(side: int) -> tuple[int, ...]:
    return (side,)


_NOT_CN: Final = ("ir", "ds", "dsa", "er")

ATTRIBUTES: Final[Mapping[str, Attribute]] = {
    "type": Attribute(field="type", kind=str, meaning=_block_type),
    "repeats": Attribute(field="repeats", kind=int),
    "kernel": Attribute(field="kernels", kind=int, meaning=_single_kernel),
    "groups": Attribute(field="kernels", kind=int, types=DEPTHWISE_TYPES, meaning=mixconv_kernels),
    "kernels": Attribute(field="kernels", kind=str, types=DEPTHWISE_TYPES, meaning=parse_kernels),
    "partition": Attribute(field="partition", kind=str, types=DEPTHWISE_TYPES),
    "dilated": Attribute(field="dilated", kind=bool, types=DEPTHWISE_TYPES),
    "expansion": Attribute(field="expansion", kind=float, types=EXPANDING_TYPES),
    "expand_groups": Attribute(field="expand_kernels", kind=int, types=("ir",), meaning=pointwise_kernels),
    "project_groups": Attribute(field="project_kernels", kind=int, types=_NOT_CN, meaning=pointwise_kernels),
    "skip": Attribute(field="skip", kind=bool),
    "channels": Attribute(field="channels", kind=int, scope="stage"),
    "se_ratio": Attribute(field="se_ratio", kind=float, scope="stage", types=_NOT_CN),
    "activation": Attribute(field="activation", kind=str, scope="stage"),
}
KERNEL_ATTRIBUTES: Final = ("kernel", "groups", "kernels")
TYPES_WITH_FIELD: Final[Mapping[str, tuple[str, ...]]] = {
    **{a.field: a.types for a in ATTRIBUTES.values()},
    "kernels": TYPES,
}
_MAX_VALUES: Final = 1000  # of one choice
_KINDS: Final = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


def check_keys(path: str, entry: object, allowed: Mapping[str, object] | Sequence[str]) -> Mapping[str, Any]:
    """Check that ``entry`` is a mapping whose keys are all in ``allowed``; return it.

    ``path``: its location in the YAML.

    Raises: NasError naming the first key that is not allowed.
    """
    if not isinstance(entry, Mapping):
        raise NasError(f"{path} {quoted(entry)}: must be a mapping of {', '.join(allowed)}.")
    for key in entry:
        if key not in allowed:
            raise NasError(f"{path}.{key}: unknown; choose from {', '.join(allowed)}.{suggestion(str(key), allowed)}")
    return entry


def read_values(path: str, given: object, kind: type) -> tuple[Scalar, ...]:
    """Parse one value or a list of values of type ``kind``.

    ``path``: their location in the YAML, for messages.

    Raises: NasError for an empty list, a repeated value or a wrong type.
    """
    entries = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    if len(entries) > _MAX_VALUES:
        raise NasError(f"{path}: {len(entries):,} values; a choice has at most {_MAX_VALUES:,}.")
    values = tuple(_read_value(path, value, kind) for value in entries)
    if not values:
        raise NasError(f"{path}: the list is empty; give at least one value, each {_KINDS[kind]}.")
    repeated = [value for index, value in enumerate(values) if value in values[:index]]
    if repeated:
        raise NasError(f"{path}: {quoted(repeated[0])} is listed twice; list each value once.")
    return values


def block_choice(path: str, name: str, given: object, attribute: Attribute) -> Choice:
    """Parse the values of an ``attribute`` into a choice named ``name``.

    Each value is validated on a block.

    Raises: NasError naming ``path`` and the value that no block can have.
    """
    if given is None and attribute.field == "activation":
        return Choice(name, (), (None,))  # null: the network's activation
    values = read_values(path, given, attribute.kind)
    return Choice(name, values, tuple(_block_meaning(path, value, attribute) for value in values))


def _block_meaning(path: str, value: Any, attribute: Attribute) -> Any:
    try:
        meaning = attribute.meaning(value) if attribute.meaning else value
        if attribute.field == "repeats" and value == 0:
            return 0  # an absent block: checked by the caller, which knows its position
        fields = {"type": attribute.types[0], "channels": 8, attribute.field: meaning}
        BlockSpec(**fields)
    except SpecError as error:
        raise NasError(f"{path} {quoted(value)}: {error}") from None
    return meaning


def _read_value(path: str, value: Any, kind: type) -> Scalar:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, (int, float, str)) and isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    hint = " Prefix it with a k, such as k3.5.7." if path.endswith(".kernels") else ""
    raise NasError(f"{path} {quoted(value)}: must be {_KINDS[kind]}, or a list of them.{hint}")
