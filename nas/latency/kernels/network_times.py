"""Times of the kernels of networks: each kernel is evaluated once per context."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np

from nas.arch.ops.network import PartSegments, network_segments
from nas.arch.spec import ArchSpec, Padding
from nas.core.bounded_cache import BoundedCache
from nas.exporters.rewriting.candidates import candidates
from nas.exporters.rewriting.forms import PLAIN, BlockForm, Forms
from nas.latency.arrays import FloatArray
from nas.latency.kernels.kernel import Context, kernel_context, kernel_elements, network_context
from nas.latency.kernels.ort_lowering import Kernel, LoweredPart, LoweredSegment, lowered_part
from nas.latency.kernels.tap_layouts import TapLayouts, TapStep, tap_steps
from nas.latency.kernels.time_table import Evaluate, TimeTable

_CACHED_TIMES: Final = 4_000_000  # of kernels in contexts, 32 MB
_CACHED_PARTS: Final = 65536  # some 40 MB; also most kernels
_TYPICAL: Final = kernel_context(64.0, 16.0)  # in which forms are compared: that of a network such as MixNet-S

# Kernels of a segment: their numbers in the time table, as the bytes of 32-bit integers, which are joined faster than
# arrays, and the elements of activations and of weights that they move. Of a part of a network also whether its output
# is in the blocked layout, whether it converts its input, and layouts of what the head reads of it. Plain tuples:
# Python's garbage collector looks at them once.
_Kernels = tuple[bytes, int, int]
_Part = tuple[bytes, int, int, bool, bool, TapLayouts]
# A part of a network, whether its input is in the blocked layout, and layouts of the other tensors that it reads.
_Key = tuple[PartSegments, bool, TapLayouts]


class _Option(NamedTuple):
    """A form of a part of a network, its time, and its kernels."""

    time: float
    form: BlockForm
    part: _Part

    @property
    def blocked(self) -> bool:
        """Whether its output is in the blocked layout."""
        return self.part[3]

    def taps_after(self, step: TapStep, known: TapLayouts) -> TapLayouts:
        """Layouts of the tensors that the head reads, those before it ``known``."""
        return step.after(known, converts=self.part[4], own=self.part[5])


class _Parts(NamedTuple):
    """Parts of a network, and what happens in them to the tensors that its head reads."""

    parts: Sequence[PartSegments]
    padding: Padding
    steps: Sequence[TapStep] | None


# By the layout of its output, the fastest form of a part.
_Options = tuple[_Option, ...]
_FormKey = tuple[PartSegments, bool, TapLayouts, Padding]
# Layout that a part of the network reaches, and those of the tensors that the head reads.
_Reached = tuple[bool, TapLayouts]


class NetworkTimes:
    """Times of networks' kernels, looked up by parts that networks share.

    ``evaluate``: of new kernels. ``lane``: channels of one block of the blocked layout. ``rewrites``: whether every
    block is priced in its fastest form, instead of the plain one.
    """

    def __init__(self, evaluate: Evaluate, lane: int, *, rewrites: bool = False) -> None:
        self._evaluate, self._lane, self._rewrites = evaluate, lane, rewrites
        self._clear()

    def totals(self, networks: Sequence[tuple[ArchSpec, int | None]]) -> FloatArray:
        """Times of networks at a side in px (None: their own), shape (networks,).

        What the kernels of all of them lack is evaluated in one batch. A total does not depend on the others.
        """
        found = self._networks(networks)
        ends = np.cumsum([network.kernels for network in found])
        return np.add.reduceat(self._times(found), [0, *ends[:-1].tolist()])

    def of_kernels(self, spec: ArchSpec) -> FloatArray:
        """Times of the kernels of ``spec`` in the order of ``network_calls``."""
        return self._times(self._networks([(spec, None)]))

    def forms(self, spec: ArchSpec, resolution_px: int | None = None) -> Forms | None:
        """Forms of the blocks of ``spec`` that are priced; None for plain ones."""
        if not self._rewrites:
            return None
        (network,) = self._networks([(spec, resolution_px)])
        return network.forms[1:-1]

    def _clear(self) -> None:
        """Empty the caches, whose numbers of kernels belong together."""
        self._table = TimeTable(self._evaluate)
        self._known: dict[Kernel, tuple[int, int, int]] = {}
        self._segments: BoundedCache[LoweredSegment, _Kernels] = BoundedCache(_CACHED_PARTS)
        self._parts: BoundedCache[_Key, _Part] = BoundedCache(_CACHED_PARTS)
        self._typical: dict[LoweredSegment, float] = {}
        self._options: dict[_FormKey, _Options] = {}

    def _networks(self, networks: Sequence[tuple[ArchSpec, int | None]]) -> list[_Network]:
        """Kernels of networks at a side in px, in the forms that are priced."""
        found = max(self._table.kernels, len(self._options), len(self._typical))
        if self._table.size > _CACHED_TIMES or found > _CACHED_PARTS:
            self._clear()
        split = [_parts_of(spec, resolution_px) for spec, resolution_px in networks]
        return self._fastest(split) if self._rewrites else [self._plain(network) for network in split]

    def _times(self, networks: Sequence[_Network]) -> FloatArray:
        """Times of all kernels of ``networks``, one network after the other."""
        numbers = np.frombuffer(b"".join([part for network in networks for part in network.parts]), dtype=np.int32)
        contexts = np.repeat(
            [self._table.context_number(network.context) for network in networks],
            [network.kernels for network in networks],
        )
        return self._table.times(numbers, contexts)

    def _plain(self, network: _Parts) -> _Network:
        """Kernels and context of a network with plain blocks."""
        numbers, activations, weights, blocked = [], 0, 0, False  # images are in the plain layout
        steps = network.steps
        taps: TapLayouts = ()
        for index, segments in enumerate(network.parts):
            key = (segments, blocked, steps[index].read(taps) if steps else ())
            own, moved, held, blocked, converts, tapped = self._parts.get(key) or self._part(key)
            if steps:
                taps = steps[index].after(taps, converts=converts, own=tapped)
            numbers.append(own)
            activations, weights = activations + moved, weights + held
        return _Network(numbers, network_context(activations, weights), (PLAIN,) * len(network.parts))

    def _fastest(self, networks: Sequence[_Parts]) -> list[_Network]:
        """Networks in the forms that are fastest together.

        Layouts of neighbours must agree. Forms are compared in one context, whatever the network, so that blocks share
        what is found; the times of the chosen ones are those in the context of the network.
        """
        found: list[_Network | None] = [None] * len(networks)
        left = list(range(len(networks)))
        while left:
            missing: dict[_FormKey, None] = {}
            for index in left:
                found[index] = self._fastest_route(networks[index], missing)
            self._compare_forms(list(missing))
            left = [index for index in left if found[index] is None]
        return [network for network in found if network]

    def _fastest_route(self, network: _Parts, missing: dict[_FormKey, None]) -> _Network | None:
        """Network in its fastest forms, or what has to be compared first.

        None for the network that is not known yet.
        """
        (parts, padding, steps) = network
        routes: dict[_Reached, tuple[float, tuple[_Option, ...]]] = {(False, ()): (0.0, ())}
        for number, part in enumerate(parts):
            reached: dict[_Reached, tuple[float, tuple[_Option, ...]]] = {}
            for (blocked, taps), (time, route) in routes.items():
                key = (part, blocked, steps[number].read(taps) if steps else (), padding)
                options = self._options.get(key)
                if options is None:
                    missing[key] = None
                    self._add_later(parts[number + 1 : -1 if steps else None], padding, missing)
                    return None
                for option in options:
                    total = time + option.time
                    layout = (option.blocked, option.taps_after(steps[number], taps) if steps else ())
                    if layout not in reached or total < reached[layout][0]:
                        reached[layout] = (total, (*route, option))
            routes = reached
        _, route = min(routes.values(), key=lambda found: found[0])
        moved, held = sum(option.part[1] for option in route), sum(option.part[2] for option in route)
        return _Network(
            [option.part[0] for option in route], network_context(moved, held), tuple(option.form for option in route)
        )

    def _add_later(self, parts: Iterable[PartSegments], padding: Padding, missing: dict[_FormKey, None]) -> None:
        """Add later parts to what has to be compared; their input is blocked most often."""
        keys: Iterable[_FormKey] = ((later, True, (), padding) for later in parts)
        missing |= {key: None for key in keys if key not in self._options}

    def _compare_forms(self, keys: Sequence[_FormKey]) -> None:
        """Find the fastest forms of parts whose input has a layout.

        Their kernels are evaluated in one batch.
        """
        lowered = [
            [
                (form, lowered_part(changed, self._lane, blocked, taps))
                for form, changed in candidates(part, padding, self._lane)
            ]
            for part, blocked, taps, padding in keys
        ]
        self._time_segments({segment: None for forms in lowered for _, part in forms for segment in part.segments})
        for key, forms in zip(keys, lowered, strict=True):
            fastest: dict[bool, tuple[float, BlockForm, LoweredPart]] = {}
            for form, part in forms:
                time = sum([self._typical[segment] for segment in part.segments])
                if part.blocked not in fastest or time < fastest[part.blocked][0]:
                    fastest[part.blocked] = (time, form, part)
            self._options[key] = tuple(
                [_Option(time, form, self._joined(part)) for time, form, part in fastest.values()]
            )

    def _time_segments(self, segments: Iterable[LoweredSegment]) -> None:
        """Look up times of ``segments`` in the typical context.

        Forms of many parts of networks are made of them.
        """
        missing = [segment for segment in segments if segment not in self._typical]
        if not missing:
            return
        kernels = [(self._segments.get(segment) or self._segment(segment))[0] for segment in missing]
        starts = [0, *accumulate([len(numbers) // 4 for numbers in kernels])][:-1]
        numbers = np.frombuffer(b"".join(kernels), dtype=np.int32)
        context = np.full(len(numbers), self._table.context_number(_TYPICAL))
        times = np.add.reduceat(self._table.times(numbers, context), starts)
        self._typical.update(zip(missing, times.tolist(), strict=True))

    def _part(self, key: _Key) -> _Part:
        """Kernels of a part of a network, which are cached under ``key``."""
        return self._parts.keep(key, self._joined(lowered_part(key[0], self._lane, *key[1:])))

    def _joined(self, lowered: LoweredPart) -> _Part:
        """Kernels of the segments of a part of a network."""
        parts, activations, weights = [], 0, 0
        for segment in lowered.segments:
            numbers, moved, held = self._segments.get(segment) or self._segment(segment)
            parts.append(numbers)
            activations, weights = activations + moved, weights + held
        return b"".join(parts), activations, weights, lowered.blocked, lowered.converts, lowered.taps

    def _segment(self, segment: LoweredSegment) -> _Kernels:
        """Kernels of a segment, which are cached under it."""
        numbers, moved, held = zip(*[self._kernel(call.kernel) for call in segment.calls], strict=True)
        return self._segments.keep(segment, (np.array(numbers, dtype=np.int32).tobytes(), sum(moved), sum(held)))

    def _kernel(self, kernel: Kernel) -> tuple[int, int, int]:
        """Number of a kernel in the table, and elements that it moves, as in ``_Kernels``."""
        known = self._known.get(kernel)
        if known is None:
            _, moved, held = kernel_elements(kernel, self._lane)
            known = self._known[kernel] = (self._table.add_kernel(kernel), moved, held)
        return known


def _parts_of(spec: ArchSpec, resolution_px: int | None) -> _Parts:
    """Parts of ``spec`` at a side in px (None: its own)."""
    parts = network_segments(spec, resolution_px)
    return _Parts(parts, spec.padding, tap_steps(spec, parts))


class _Network(NamedTuple):
    """Network as numbers of its kernels, their context, and the parts' forms."""

    parts: list[bytes]
    context: Context
    forms: Forms

    @property
    def kernels(self) -> int:
        """Number of kernels."""
        return sum(map(len, self.parts)) // 4
