"""General search space: stages in YAML, with any attribute open as a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from nas.arch import zoo
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.scaling.transform import Scaling
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, SpecError, quoted, unknown_choice
from search_spaces.attributes import TYPES, Choice, check_keys, read_values
from search_spaces.encoding import encode
from search_spaces.family import Family
from search_spaces.layout import MULTIPLIERS, Layout
from search_spaces.reading import StageReader
from search_spaces.space import Genotype, Scalar, SearchSpace

_KINDS: Final[Mapping[str, type]] = {
    "width": float,
    "depth": float,
    "resolution_px": int,
    "stem.channels": int,
    "stem.kernel": int,
    "stem.stride": int,
    "head.channels": int,
    "head.kind": str,
}


class BlockwiseSpace(SearchSpace):
    """A space in which a list of values, in place of a single value, is a choice.

    ``stages``: a list of mappings, each with ``stride`` (1), ``blocks`` (one mapping per block string; one if absent)
    and attributes. ``choices``: attributes of all blocks. The most specific one applies: block, stage, ``choices``,
    family; null is the same as absent. ``stem``: channels, kernel (3, px), stride (2). ``head``: channels, kind
    (conv_pool). ``width``, ``depth``, ``resolution_px``: of the whole network. ``published``: names of zoo networks to
    start from. ``rules``: fixed conventions, the fields of ``Family`` by name.

    Attributes by block: type (ir), kernel (px) or groups (MixConv of 3, 5, ...) or kernels (``k3.5.7``), partition,
    dilated, expansion, expand_groups, project_groups, skip, repeats (0 after a stage's first: the block is absent). By
    stage, unless a block gives its own: channels, se_ratio, activation (null: the network's).

    Raises: NasError naming the entry, its value and what is allowed, or why some network of the space is impossible.
    """

    family: ClassVar[Family] = Family(block={"type": "ir"})
    # The keys of the YAML that are not fields of Family; a subclass adds its own.
    keys: ClassVar[tuple[str, ...]] = ("name", "stages", "stem", "head", "choices", *MULTIPLIERS, "published")

    def __init__(
        self,
        *,
        name: object = None,
        stages: object = None,
        stem: object = None,
        head: object = None,
        choices: object = None,
        width: object = 1.0,
        depth: object = 1.0,
        resolution_px: object = 224,
        published: object = (),
        **rules: Any,
    ) -> None:
        if not isinstance(name, str) or not name:
            given_name = "missing" if name is None else f"{quoted(name)} is not a string"
            raise NasError(f"space.name: {given_name}; give the space a name, such as the name of its file.")
        family = self.family.with_overrides(rules, other_keys=self.keys)
        given = {"width": width, "depth": depth, "resolution_px": resolution_px}
        given |= _end_values("stem", stem, {"channels": None, "kernel": 3, "stride": 2})
        given |= _end_values("head", head, {"channels": None, "kind": "conv_pool"})
        network = {key: _network_choice(key, value) for key, value in given.items()}
        reader = StageReader({} if choices is None else choices, self._block_defaults)
        self._layout = Layout(name=name, family=family, network=network, stages=reader.read(stages))
        self._parameters = {choice.name: choice.values for _, choice in self._layout.choices() if choice.is_open}
        self._published = _published_names(published)
        self._check_worst_cases()

    def _block_defaults(self, stage: int) -> Mapping[str, Any]:
        """Default attributes of the blocks of ``stage``, where the YAML gives none.

        A ``Choice`` among them is used unchanged.
        """
        return self.family.block

    @property
    def name(self) -> str:
        return self._layout.name

    @property
    def published(self) -> tuple[str, ...]:
        return self._published

    @property
    def parameters(self) -> Mapping[str, tuple[Scalar, ...]]:
        return self._parameters

    @property
    def largest_kernel(self) -> int:
        kernels = (choice.meanings for field, choice in self._layout.choices() if field == "kernels")
        return max(int(side) for meanings in kernels for sides in meanings for side in sides)

    def decode(self, genotype: Genotype, *, classes: int = 1000, in_channels: int = 3) -> ArchSpec:
        self.check(genotype)
        return self._layout.assemble(genotype, scaled=True, classes=classes, in_channels=in_channels)

    def decode_base(self, genotype: Genotype, *, classes: int = 1000, in_channels: int = 3) -> tuple[ArchSpec, Scaling]:
        self.check(genotype)
        base = self._layout.assemble(genotype, scaled=False, classes=classes, in_channels=in_channels)
        return base, self._layout.scaling(genotype)

    def encode(self, spec: ArchSpec) -> Genotype:
        return encode(self._layout, spec)

    def _check_worst_cases(self) -> None:
        """Refuse a space with impossible networks now, rather than during a search.

        Splitting channels can only become impossible with fewer channels and more groups, so that checking one network
        per block type, the narrowest with the most groups, is sufficient. The largest network is checked too.
        """
        for kind in TYPES:
            genotype = {
                choice.name: _worst_case(field, choice, kind)
                for field, choice in self._layout.choices()
                if choice.is_open
            }
            try:
                self.decode(genotype)
            except SpecError as error:
                raise NasError(
                    f"space {self.name!r} contains impossible networks, such as {error} Use fewer groups, or more "
                    "channels, expansion or width."
                ) from None
        largest = {choice.name: _largest(field, choice) for field, choice in self._layout.choices() if choice.is_open}
        try:
            self.decode(largest)
        except NasError as error:
            raise NasError(f"space {self.name!r} contains networks that are too large, such as {error}") from None


def _worst_case(field: str, choice: Choice, kind: str) -> Scalar:
    """The value of ``choice`` with the fewest channels or the most groups.

    ``field``: what the choice sets. ``kind``: the block type to prefer.
    """
    meanings = choice.meanings
    if field == "type":
        worst = kind if kind in meanings else meanings[0]
    elif field in ("kernels", "expand_kernels", "project_kernels"):
        worst = max(meanings, key=len)
    elif field == "partition":
        worst = "exponential" if "exponential" in meanings else meanings[0]
    elif field == "repeats":
        worst = max(meanings)
    elif field in ("width", "expansion", "channels", "stem.channels"):
        worst = min(meanings)
    else:
        worst = meanings[0]
    return choice.values[meanings.index(worst)]


def _largest(field: str, choice: Choice) -> Scalar:
    """The value of ``choice`` with the most blocks or channels.

    ``field``: what the choice sets.
    """
    counts = ("width", "depth", "resolution_px", "repeats", "expansion", "channels", "stem.channels", "head.channels")
    return choice.values[choice.meanings.index(max(choice.meanings))] if field in counts else choice.values[0]


def _published_names(published: object) -> tuple[str, ...]:
    """Validate the names of published networks: each must be in the zoo."""
    if not isinstance(published, list | tuple):
        raise NasError(
            f"space.published {quoted(published)}: must be a list of published networks, such as [mixnet_s]."
        )
    for name in published:
        if name not in zoo.names():
            raise unknown_choice("published network in space.published", name, zoo.names())
    return tuple(published)


def _end_values(path: str, given: object, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Values of stem or head by dotted name, with defaults filled in."""
    entry = {**defaults, **check_keys(f"space.{path}", given, defaults)}
    return {f"{path}.{key}": value for key, value in entry.items()}


def _network_choice(key: str, given: object) -> Choice:
    """Parse a choice of the whole network; each value is validated on its spec."""
    path = f"space.{key}"
    values = read_values(path, given, _KINDS[key])
    for value in values:
        end, _, field = key.rpartition(".")
        trial: dict[str, Any] = {field: value}
        try:
            if key in MULTIPLIERS:
                Scaling(**trial)
            elif end == "stem":
                StemSpec(**{"channels": 8, **trial})
            else:
                HeadSpec(**{"channels": 8, **trial})
        except NasError as error:
            reason = str(error).removeprefix(f"{key.replace('.', ' ')} {value!r}: ")
            raise NasError(f"{path} {value!r}: {reason}") from None
    return Choice(key, values, values)
