"""Content of a network drawing: stem, stages and head as labelled boxes.

No coordinates: ``draw`` lays them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from nas.arch.blocks import format_number
from nas.arch.ops.network import Op, network_ops
from nas.arch.spec import ArchSpec, PlacedBlock

TIMES_SIGN: Final = "\N{MULTIPLICATION SIGN}"
_ACTIVATION_LABELS: Final = {"hard_swish": "h-swish"}
_TYPE_LABELS: Final = {"ir": "MB", "er": "FMB", "ds": "DS", "dsa": "DS", "cn": "Conv", "uir": "UIB", "mqa": "MQA"}
_TYPE_WORDS: Final = {
    "MB": "inverted bottleneck",
    "FMB": "inverted bottleneck of full convolutions",
    "DS": "depthwise separable",
    "UIB": "universal inverted bottleneck",
    "MQA": "multi-query attention, h heads of d channels",
    "Class": "logits of the classes of all default boxes, by a separable convolution",
    "Box": "offsets of all default boxes, by a separable convolution",
    "Extra": "1×1, depthwise and 1×1 convolution, for a smaller map",
    "Gate": "product with a gate from the pooled map",
    "Resize": "bilinear enlargement",
}
_LAYER_LABELS: Final = {"resize": "Resize", "scale": "Gate", "add": "Add"}
# Lists of modules in the head of a detector, and the labels of their boxes.
_HEAD_LISTS: Final = {"class_heads": "Class", "box_heads": "Box", "extra": "Extra"}
_MAPS: Final = {0: "C4", 1: "C5"}  # of a detector's head; extra blocks make the others
_LINE_WORDS: Final = {
    "SE ": "squeeze-excite",
    "a1.": "groups of the 1×1 convolutions",
    "p1.": "groups of the 1×1 convolutions",
    "gs": "channels in a group",
}


class Bar(NamedTuple):
    """One group of a convolution: label, effective kernel size, output channels.

    ``reach_px`` is the kernel's extent with its dilation, in px; 0 where there is no convolution.
    """

    text: str
    reach_px: int
    channels: int


class Box(NamedTuple):
    """One block, or one layer of stem and head.

    ``lines``: text under the bars. ``note``: tooltip with notation, shapes and cost. ``follows``: whether it reads the
    box before it.
    """

    path: str
    label: str
    bars: tuple[Bar, ...]
    lines: tuple[str, ...]
    note: str
    stride: int = 1
    shortcut: bool = False
    follows: bool = True


class Group(NamedTuple):
    """A stage, the stem or the head, or what a detector's head has on one map.

    ``subtitle`` is its feature map size. ``follows``: whether it reads the group before it.
    """

    title: str
    subtitle: str
    boxes: tuple[Box, ...]
    follows: bool = True


def figure(spec: ArchSpec, *, longest: int) -> list[Group]:
    """Stem, stages and head of ``spec`` as groups of boxes.

    Stages of more than ``longest`` boxes are split.
    """
    ops: dict[str, list[Op]] = {}
    for op in network_ops(spec):
        ops.setdefault(owner(op.path), []).append(op)
    groups = [Group("Stem", squared(ops["conv_stem"][0].out_px), (_layer_box("conv_stem", ops["conv_stem"][0]),))]
    stages: dict[str, list[Box]] = {}
    for placed in spec.placed_blocks():
        box = _block_box(placed, ops[placed.path], spec.activation)
        stages.setdefault(placed.path.split(".")[1], []).append(box)
    for index, boxes in stages.items():
        side = squared(ops[boxes[0].path][-1].out_px)
        for start in range(0, len(boxes), longest):
            title = f"Stage {index}, continued" if start else f"Stage {index}"
            groups.append(Group(title, side, tuple(boxes[start : start + longest])))
    if spec.task != "classification":
        return [*groups, *_dense_head(ops)]
    tail = [path for path in ("conv_head", "global_pool", "classifier") if path in ops]
    tail.sort(key=list(ops).index)  # a pool_conv head pools first
    side = f"{squared(ops[tail[0]][0].in_px)} to {squared(1)}"
    return [*groups, Group("Head", side, tuple(_layer_box(path, ops[path][0]) for path in tail))]


def _dense_head(ops: Mapping[str, Sequence[Op]]) -> Iterator[Group]:
    """Groups of the head of a detector or segmenter.

    Of a detector: one for each map on which it predicts, with the extra block that makes the map.
    """
    own = [path for path in ops if path.partition(".")[0] not in ("blocks", "conv_stem", *_HEAD_LISTS)]
    if own:
        boxes = [_layer_box(path, ops[path][0]) for path in own]
        reads = [False, *(before in ops[path][0].inputs for before, path in pairwise(own))]
        joined = tuple([box._replace(follows=follows) for box, follows in zip(boxes, reads, strict=True)])
        yield Group("Head", squared(ops[own[-1]][0].out_px), joined)
    for level in range(sum(path.startswith("class_heads.") for path in ops)):
        names = [f"{name}.{level}" for name in ("class_heads", "box_heads")]
        classes, offsets = (_piece_box(name, ops[name])._replace(follows=False) for name in names)
        extra, px = f"extra.{level - len(_MAPS)}", ops[names[0]][-1].out_px
        if extra in ops:
            made = _piece_box(extra, ops[extra])
            yield Group(f"Head, map {level + 1}", squared(px), (made, classes._replace(follows=True), offsets))
        else:
            yield Group(f"Head, {_MAPS.get(level, 'C3')}", squared(px), (classes, offsets), follows=False)


def _piece_box(path: str, ops: Sequence[Op]) -> Box:
    """Box of a separable convolution or an extra block of a detector."""
    depthwise = next(op for op in ops if op.kind == "depthwise")
    lines = (f"c{ops[-1].out_channels}", _activation(depthwise.activation or ""))
    label = _HEAD_LISTS[path.partition(".")[0]]
    return Box(path, label, (_bar(depthwise),), lines, f"{path}: {_figures(ops)}", depthwise.stride)


def explanations(boxes: Sequence[Box]) -> list[str]:
    """Legend of the labels in ``boxes``, each by its first occurrence."""
    legend: dict[str, str] = {}
    for box in boxes:
        kind = box.label.rstrip("0123456789.")
        expansion = box.label.removeprefix(kind)
        if kind in _TYPE_WORDS:
            more = f", expansion {expansion}" if expansion else ""
            legend.setdefault(kind, f"{box.label}: {_TYPE_WORDS[kind]}{more}")
        legend.setdefault("channels", f"{box.lines[0]}: {box.lines[0][1:]} channels out")
        if box.stride > 1:
            legend.setdefault("stride", f"s{box.stride}: stride {box.stride}")
        for line in box.lines[1:]:
            for start, words in _LINE_WORDS.items():
                if line.startswith(start):
                    legend.setdefault(words, f"{line}: {words}")
        if box.shortcut:
            legend["shortcut"] = "arc: shortcut"
    return list(legend.values())


def owner(path: str) -> str:
    """Path of the box that shows an operation.

    ``blocks.2.1`` for everything inside a block, ``box_heads.0`` for what predicts on one map, otherwise the first
    component.
    """
    parts = path.split(".")
    return ".".join(parts[: 3 if parts[0] == "blocks" else 2 if parts[0] in _HEAD_LISTS else 1])


def squared(side: int) -> str:
    """``56`` as 56x56, with the multiplication sign."""
    return f"{side}{TIMES_SIGN}{side}"


def _block_box(placed: PlacedBlock, ops: Sequence[Op], activation: str) -> Box:
    path, block = placed.path, placed.block
    names = [f"{path}.{name}" for name in ("conv_exp", "conv_dw", "conv")]
    spatial = [op for op in ops if op.kind == "depthwise" or (op.kind == "conv" and op.path in names)]
    expansion = format_number(round(block.expansion, 2)) if block.has_expansion else ""
    heads = f"h{block.heads} d{block.key_channels}"
    lines = [f"c{block.channels}", heads if block.heads else _activation(block.activation or activation)]
    lines.append(f"SE {format_number(block.se_ratio)}" if block.se_ratio else "")
    grouped = (("a", block.expand_kernels), ("p", block.project_kernels))
    words = [key + ".".join(map(str, sides)) for key, sides in grouped if len(sides) > 1]
    numbers = (("fc", block.base_channels), ("gs", block.group_size))
    words += [f"{key}{number}" for key, number in numbers if number is not None]
    lines.append(" ".join(words))
    while not lines[-1]:
        lines.pop()
    bars = spatial or [next(op for op in ops if op.kind == "conv")]  # a uir or mqa block may have pointwise ones alone
    return Box(
        path=path,
        label=_TYPE_LABELS[block.type] + expansion,
        bars=tuple(_bar(op) for op in bars),
        lines=tuple(lines),
        note=f"{path}: {block}; {_figures(ops)}",
        stride=placed.stride,
        shortcut=ops[-1].kind == "add",
    )


def _layer_box(path: str, op: Op) -> Box:
    """Box of a layer in stem or head."""
    note = f"{path}: {_figures([op])}"
    if op.kind == "conv":
        lines = (f"c{op.out_channels}", _activation(op.activation or ""))
        return Box(path, "Conv", (_bar(op),), lines, note, op.stride)
    text, label = (squared(op.in_px), "Pool") if op.kind == "pool" else ("linear", "FC")
    if op.kind in _LAYER_LABELS:
        text, label = squared(op.out_px), _LAYER_LABELS[op.kind]
    return Box(path, label, (Bar(text, 0, op.out_channels),), (f"c{op.out_channels}",), note)


def _bar(op: Op) -> Bar:
    dilation = f" d{op.dilation}" if op.dilation > 1 else ""
    return Bar(squared(op.kernel) + dilation, (op.kernel - 1) * op.dilation + 1, op.out_channels)


def _activation(name: str) -> str:
    return _ACTIVATION_LABELS.get(name, name)


def _figures(ops: Sequence[Op]) -> str:
    """Input and output shape, parameters and MACs of consecutive operations."""
    source, result = ops[0], ops[-1]
    shape_in = f"{squared(source.in_px)}{TIMES_SIGN}{source.in_channels}"
    shape_out = f"{squared(result.out_px)}{TIMES_SIGN}{result.out_channels}"
    return (
        f"{shape_in} to {shape_out}, {sum(op.params for op in ops):,} parameters, {sum(op.macs for op in ops):,} MACs"
    )
