"""Rows of the table of ``nas.show``: a network's stages, blocks or operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from nas.arch.blocks import format_kernels
from nas.arch.complexity import LayerCost, layers
from nas.arch.heads.parts import LRASPPHead, SSDLiteHead
from nas.arch.spec import ArchSpec, PlacedBlock, StageSpec
from nas.cli.resolve.predictors import short_count

LEVELS: Final = ("stages", "blocks", "ops")
STEM, HEAD = "stem", "head"
_BLOCKS: Final = "blocks"  # timm's name of the list of stages
_HEAD_PARTS: Final = 2  # of a path such as class_heads.0.conv_dw
_PARTS: Final = {"stages": 2, "blocks": 3}  # of a path such as blocks.2.1.conv_dw


def network_rows(arch: ArchSpec, level: str, latency_by_path: Mapping[str, float]) -> list[dict[str, Any]]:
    """Rows of ``arch`` as plain data, in execution order.

    ``level``: one of ``LEVELS``. ``latency_by_path``: ms by operation. Shapes are (channels, side in px). Parameters,
    MACs, activations and ms of all rows add up to those of the network, whatever the level.
    """
    kinds = _kinds(arch, level)
    return [
        {
            "path": path,
            "kind": kinds.get(path) or ", ".join(map(_op_kind, ops)),
            "in_shape": list(ops[0].in_shape),
            "out_shape": list(ops[-1].out_shape),
            "params": sum(op.params for op in ops),
            "macs": sum(op.macs for op in ops),
            "activations": sum(op.activations for op in ops),
            "latency_ms": sum(latency_by_path.get(op.path, 0.0) for op in ops),
        }
        for path, ops in _grouped(layers(arch), level, arch.task != "classification")
    ]


def row_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Text of a row: path, kind, shapes in and out, parameters, MACs, activations, ms."""
    shapes = (f"{channels}@{side}" for channels, side in (row["in_shape"], row["out_shape"]))
    counts = (short_count(row[name]) for name in ("params", "macs", "activations"))
    return (row["path"], row["kind"], *shapes, *counts, f"{row['latency_ms']:.3f}")


def _grouped(ops: Sequence[LayerCost], level: str, is_dense: bool) -> Iterator[tuple[str, list[LayerCost]]]:
    """(path, operations) pairs, with those before the blocks as the stem.

    Those after the blocks are the head; by blocks, each convolution, or block of some, of a detector or segmenter has
    a row of its own.
    """
    if level == "ops":
        yield from ((op.path, [op]) for op in ops)
        return
    outside = STEM
    for is_block, part in groupby(ops, key=lambda op: op.path.startswith(f"{_BLOCKS}.")):
        if not is_block:
            if outside == HEAD and level == "blocks" and is_dense:
                groups = groupby(part, key=lambda op: ".".join(op.path.split(".")[:_HEAD_PARTS]))
                yield from ((path, list(group)) for path, group in groups)
            else:
                yield outside, list(part)
            continue
        outside = HEAD
        for path, group in groupby(part, key=lambda op: ".".join(op.path.split(".")[: _PARTS[level]])):
            yield path, list(group)


def _kinds(arch: ArchSpec, level: str) -> dict[str, str]:
    if level == "stages":
        stages = {f"{_BLOCKS}.{index}": _stage_kind(stage) for index, stage in enumerate(arch.stages)}
        return stages | _head_kind(arch)
    return {placed.path: _block_kind(placed) for placed in arch.placed_blocks()} if level == "blocks" else {}


def _head_kind(arch: ArchSpec) -> dict[str, str]:
    """Kind of a detector's or segmenter's head by its row; none of a classifier."""
    if isinstance(arch.head, SSDLiteHead):
        return {HEAD: f"SSDLite on {arch.head.levels} maps"}
    return {HEAD: "LR-ASPP"} if isinstance(arch.head, LRASPPHead) else {}


def _stage_kind(stage: StageSpec) -> str:
    types = "+".join(dict.fromkeys(block.type for block in stage.blocks))
    kernels = sorted({side for block in stage.blocks for side in block.kernels})
    return f"{stage.depth} {types}, kernel{'s' if len(kernels) > 1 else ''} {' '.join(map(str, kernels))}"


def _block_kind(placed: PlacedBlock) -> str:
    block = placed.block
    stride = f"/{placed.stride}" if placed.stride > 1 else ""
    expansion = f" e{block.expansion:.3g}" if block.expansion != 1 else ""
    squeeze = f" se{block.se_ratio:.3g}" if block.se_ratio else ""
    dilation = f" d{placed.dilation}" if placed.dilation > 1 else ""
    return f"{block.type} k{format_kernels(block.kernels)}{stride}{dilation}{expansion}{squeeze}"


def _op_kind(op: LayerCost) -> str:
    kind = f"{op.kind} {op.kernel}x{op.kernel}" if op.kind in ("conv", "depthwise") else op.kind
    return f"{kind}/{op.stride}" if op.stride > 1 else kind
