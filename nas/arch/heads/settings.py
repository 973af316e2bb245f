"""Settings of the head that turns a network into a detector or segmenter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from nas.arch.heads.attach import dense_network
from nas.arch.heads.parts import OUTPUT_STRIDES
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, SpecError, quoted, unknown_choice
from nas.core.validation import check_number

_SHARED: Final = ("halve", "width", "output_stride", "activation")
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "detection": (
        *_SHARED,
        "extra_channels",
        "aspect_ratios",
        "lowest_anchors",
        "min_scale",
        "max_scale",
        "tap",
        "c3_scale",
    ),
    "segmentation": (*_SHARED, "filters", "low_stride"),
}
_CHANNELS: Final = {"detection": "extra_channels", "segmentation": "filters"}  # what ``width`` multiplies
_FIELD_ERROR: Final = re.compile(r"(?P<unknown>(?:unknown )?)(?P<field>\w+) (?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSettings:
    """How a network gets the head of a task; None leaves the head's own value.

    ``halve``: the channels of the blocks after C4 up to C5. ``width``: multiplies the head's channels. The others are
    fields of ``SSDLiteHead`` (detection) and ``LRASPPHead`` (segmentation), which check them.

    Raises: NasError naming the field.
    """

    halve: bool | None = None
    width: float | None = None
    output_stride: int | None = None
    activation: str | None = None
    filters: int | None = None
    low_stride: int | None = None
    extra_channels: tuple[int, ...] | None = None
    aspect_ratios: tuple[float, ...] | None = None
    lowest_anchors: int | None = None
    min_scale: float | None = None
    max_scale: float | None = None
    tap: str | None = None
    c3_scale: float | None = None

    def __post_init__(self) -> None:
        if self.halve is not None and not isinstance(self.halve, bool):
            raise NasError(f"head.halve {quoted(self.halve)}: must be true, false or null.")
        check_number("head.width", self.width, low=0, high=100, open_low=True, optional=True)
        if self.output_stride is not None and self.output_stride not in OUTPUT_STRIDES:
            raise unknown_choice("head.output_stride", self.output_stride, OUTPUT_STRIDES)
        for field in ("extra_channels", "aspect_ratios"):
            value: Any = getattr(self, field)
            if value is not None:
                if not isinstance(value, list | tuple):
                    raise NasError(f"head.{field} {quoted(value)}: must be a list of numbers, or null.")
                object.__setattr__(self, field, tuple(value))  # a list, of a configuration

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are not None, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check_task(self, task: str) -> None:
        """Check that all given fields are of the head of ``task``.

        Raises: NasError naming the first that is not.
        """
        allowed = _FIELDS.get(task, ())
        for name, value in self.given.items():
            if name not in allowed:
                others = f"choose from {', '.join(f'head.{field}' for field in allowed)}" if allowed else "leave it out"
                raise NasError(f"head.{name} {quoted(value)}: does not apply to {task}; {others}.")

    def network(self, arch: ArchSpec, task: str, classes: int, resolution_px: int | None = None) -> ArchSpec:
        """Return ``arch`` with the head of ``task``; one that has it keeps it.

        ``resolution_px``: input side, None for that of ``arch``.

        Raises: NasError for settings of a head that the network has already, and for a network of another task;
        SpecError for a network without the maps that the head reads, and for values out of range.
        """
        self.check_task(task)
        options = self.given
        if arch.task == task and options:
            raise NasError(
                f"head.{next(iter(options))}: {arch.name} has its head already; leave it out, or give the network that "
                "it was made from."
            )
        if options.get("width", 1) != 1 and (channels := _CHANNELS[task]) in options:
            raise NasError(
                f"head.width {quoted(self.width)}: has no effect beside head.{channels}, which gives the channels; "
                "leave one of them out."
            )
        if "width" in options:
            options["head_width"] = options.pop("width")
        try:
            return dense_network(arch, task, classes, resolution_px=resolution_px, **options)
        except SpecError as error:  # of a field of the head, which the user knows by its setting
            found = _FIELD_ERROR.fullmatch(str(error))
            if found is None or found["field"] not in _FIELDS[task]:
                raise
            raise SpecError(f"{found['unknown']}head.{found['field']} {found['rest']}") from None
