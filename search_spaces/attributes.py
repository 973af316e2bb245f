"""The attributes a space may leave open: what type each value has, which block field it sets, and to what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from nas.arch.blocks import DEPTHWISE_TYPES, EXPANDING_TYPES, BlockSpec, parse_kernels
from nas.core.errors import NasError, SpecError, quoted, suggestion, unknown_choice
from search_spaces.space import Scalar

TYPES: Final = ("ir", "ds", "dsa", "er", "cn")  # block types that a space may have


@dataclass(frozen=True, slots=True)
class Choice:
    """A named list of values and what each of them means: ``groups`` 2 means ``kernels`` (3, 5).

    One value is a constant: it is no parameter of the space, and its name serves messages alone.
    """

    name: str
    values: tuple[Scalar, ...]
    meanings: tuple[Any, ...]

    @property
    def is_open(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.values) > 1

    def meaning(self, genotype: Mapping[str, Scalar]) -> Any:
        """What the genotype's value means, or the constant."""
        return self.meanings[self.values.index(genotype[self.name])] if self.is_open else self.meanings[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """How a word of a space's YAML acts on a block.

    ``field``: of ``BlockSpec``. ``kind``: type of one value. ``scope``: ``block`` attributes are chosen block by block
    even if their list stands higher up, ``stage`` attributes once for all blocks of a stage. ``types``: of blocks that
    take it. ``meaning``: from a value to the field, None if they are the same.
    """

    field: str
    kind: type
    scope: Literal["block", "stage"] = "block"
    types: tuple[str, ...] = TYPES
    meaning: Callable[[Any], Any] | None = None


def mixconv_kernels(groups: int) -> tuple[int, ...]:
    """Kernel sides of a MixConv of ``groups`` groups: 3, 5, ..., 2 groups + 1 (MixConv paper, section 3.2)."""
    if groups < 1:
        raise SpecError("must be at least 1.")
    return tuple(range(3, 2 * groups + 2, 2))


def pointwise_kernels(groups: int) -> tuple[int, ...]:
    """One 1x1 kernel per group of a grouped pointwise convolution."""
    if groups < 1:
        raise SpecError("must be at least 1.")
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
TYPES_TAKING: Final[Mapping[str, tuple[str, ...]]] = {
    **{a.field: a.types for a in ATTRIBUTES.values()},
    "kernels": TYPES,
}
_KINDS: Final = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}


def check_words(path: str, entry: object, allowed: Mapping[str, object] | Sequence[str]) -> Mapping[str, Any]:
    """``entry`` if it is a mapping whose keys are all allowed. Raises: NasError naming the first that is not."""
    if not isinstance(entry, Mapping):
        raise NasError(f"{path} {quoted(entry)}: must be a mapping of {', '.join(allowed)}.")
    for word in entry:
        if word not in allowed:
            raise NasError(f"{path}.{word}: unknown; choose from {', '.join(allowed)}.{suggestion(str(word), allowed)}")
    return entry


def read_values(path: str, given: object, kind: type) -> tuple[Scalar, ...]:
    """One value, or a list of them, checked for its type; ``path`` is where a user finds it.

    Raises: NasError for an empty list, a repeated value or a wrong type.
    """
    entries = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    values = tuple(_read_value(path, value, kind) for value in entries)
    if not values:
        raise NasError(f"{path}: the list is empty; give at least one value, each {_KINDS[kind]}.")
    repeated = [value for index, value in enumerate(values) if value in values[:index]]
    if repeated:
        raise NasError(f"{path}: {quoted(repeated[0])} stands twice in the list; list each value once.")
    return values


def block_choice(path: str, name: str, given: object, attribute: Attribute) -> Choice:
    """The choice named ``name`` that ``given`` describes, each value tried on a block.

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
            return 0  # an absent block: checked where its place is known
        fields = {"type": attribute.types[0], "channels": 8, attribute.field: meaning}
        BlockSpec(**fields)
    except SpecError as error:
        raise NasError(f"{path} {value!r}: {error}") from None
    return meaning


def _read_value(path: str, value: Any, kind: type) -> Scalar:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, (int, float, str)) and isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    hint = " Write it with a k in front, such as k3.5.7." if path.endswith(".kernels") else ""
    raise NasError(f"{path} {quoted(value)}: must be {_KINDS[kind]}, or a list of such.{hint}")
