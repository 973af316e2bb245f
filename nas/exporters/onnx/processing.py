"""Normalisation and post-processing of detectors and segmenters as ONNX operators."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from nas.exporters.graph import InferenceGraph
from nas.exporters.onnx.graph import onnx_model
from nas.exporters.onnx.nodes import GraphBuilder
from nas.exporters.processing import Processing

PIXELS: Final = "image"  # name of the input, uint8
MASK: Final = "mask"
BOXES, SCORES, LABELS = "boxes", "scores", "labels"
_LARGEST_GROWTH: Final = math.log(1000 / 16)  # of a box, as torchvision's BoxCoder has it


def processed_model(graph: InferenceGraph) -> onnx.ModelProto:
    """ONNX model of ``graph`` with its processing, if it has any."""
    model = onnx_model(graph)
    return model if graph.processing is None else with_processing(model, graph, graph.processing)


def with_processing(model: onnx.ModelProto, graph: InferenceGraph, processing: Processing) -> onnx.ModelProto:
    """Return ``model`` with ``processing`` before and after it.

    ``model``: of ``graph``, float32 or int8. Its input ``image`` is uint8 (N, H, W, C); outputs are those
    that ``Processing`` names.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    builder = _Steps(graph, processing)
    builder.normalise(copy.graph.input[0].name)
    before = list(builder.nodes)
    builder.nodes.clear()
    sources = [output.name for output in copy.graph.output]
    outputs = builder.mask(sources[0]) if processing.default_boxes is None else builder.detections(sources)
    nodes = [*before, *copy.graph.node, *builder.nodes]
    for field in (copy.graph.node, copy.graph.input, copy.graph.output):
        del field[:]
    copy.graph.node.extend(nodes)
    copy.graph.initializer.extend(builder.constants)
    batch, channels, height, width = graph.input_shape
    copy.graph.input.append(helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, (batch, height, width, channels)))
    copy.graph.output.extend(outputs)
    return copy


class _Steps(GraphBuilder):
    """Nodes of the steps, named ``pre.`` and ``post.``."""

    def __init__(self, graph: InferenceGraph, processing: Processing) -> None:
        super().__init__()
        self._graph, self._processing = graph, processing
        self._batch, self._classes = graph.batch, graph.spec.classes

    def normalise(self, target: str) -> None:
        """Add the normalisation of pixels to ``target`` (N, C, H, W)."""
        self.node("Cast", [PIXELS], "pre.values", to=TensorProto.FLOAT)
        self.node("Transpose", ["pre.values"], "pre.channels", perm=[0, 3, 1, 2])
        mean, std = (
            self.constant(f"pre.{name}", np.array(values, np.float32).reshape(1, -1, 1, 1) * np.float32(255))
            for name, values in (("mean", self._processing.mean), ("std", self._processing.std))
        )
        self.node("Sub", ["pre.channels", mean], "pre.centred")
        self.node("Div", ["pre.centred", std], target)

    def mask(self, source: str) -> list[Any]:
        """Add the class of each pixel of the input; returns the outputs."""
        side, (shape,) = self._graph.resolution_px, self._graph.output_shapes
        self.resize(source, "post.enlarged", [self._batch, self._classes, side, side])
        self.node("ArgMax", ["post.enlarged"], "post.classes", axis=1, keepdims=0)
        self.node("Cast", ["post.classes"], MASK, to=TensorProto.UINT8)
        return [
            helper.make_tensor_value_info(MASK, TensorProto.UINT8, (self._batch, side, side)),
            helper.make_tensor_value_info(source, TensorProto.FLOAT, shape),
        ]

    def detections(self, sources: list[str]) -> list[Any]:
        """Add decoding and suppression of the maps ``sources``; returns the outputs."""
        levels = len(sources) // 2
        self._scores(sources[:levels])
        self._boxes(sources[levels:])
        found = min(self._processing.max_detections, self._classes * self._anchors)
        self._suppress(found)
        shapes = ((BOXES, TensorProto.FLOAT, (4,)), (SCORES, TensorProto.FLOAT, ()), (LABELS, TensorProto.INT64, ()))
        return [helper.make_tensor_value_info(name, kind, (self._batch, found, *last)) for name, kind, last in shapes]

    @property
    def _anchors(self) -> int:
        boxes = self._processing.default_boxes
        return 0 if boxes is None else len(boxes)

    def _scores(self, maps: list[str]) -> None:
        """Add ``post.scores`` (N, classes, A): probabilities.

        They are 0 where a box does not enter the suppression.
        """
        self._flattened(maps, "post.class_logits", self._classes + 1)
        self.node("Softmax", ["post.class_logits"], "post.shares", axis=2)
        self._slice("post.shares", "post.objects", 1, self._classes + 1, axis=2)  # without the background
        self.node("Transpose", ["post.objects"], "post.by_class", perm=[0, 2, 1])
        most = min(self._processing.candidates, self._anchors)
        self._largest("post.by_class", "post.highest", most)
        self._slice("post.highest", "post.least", most - 1, most, axis=2)
        self.node("GreaterOrEqual", ["post.by_class", "post.least"], "post.is_candidate")
        zero = self.constant("post.zero", np.float32(0))
        self.node("Where", ["post.is_candidate", "post.by_class", zero], "post.scores")

    def _boxes(self, maps: list[str]) -> None:
        """Add ``post.boxes`` (N, A, 4): left, top, right, bottom as shares, clipped."""
        self._flattened(maps, "post.offsets", 4)
        self._slice("post.offsets", "post.moves", 0, 2, axis=2)
        self._slice("post.offsets", "post.growths", 2, 4, axis=2)
        default, weights = np.asarray(self._processing.default_boxes), np.array(self._processing.offset_weights)
        steps = self.constant("post.steps", (default[:, 2:] / weights[:2]).astype(np.float32))
        centres, sizes = self.constant("post.centres", default[:, :2]), self.constant("post.sizes", default[:, 2:])
        self.node("Mul", ["post.moves", steps], "post.moved")
        self.node("Add", ["post.moved", centres], "post.centre")
        self.node("Div", ["post.growths", self.constant("post.weights", weights[2:].astype(np.float32))], "post.logs")
        self.node("Min", ["post.logs", self.constant("post.limit", np.float32(_LARGEST_GROWTH))], "post.limited")
        self.node("Exp", ["post.limited"], "post.factors")
        self.node("Mul", ["post.factors", sizes], "post.size")
        self.node("Mul", ["post.size", self.constant("post.half", np.float32(0.5))], "post.halves")
        self.node("Sub", ["post.centre", "post.halves"], "post.first")
        self.node("Add", ["post.centre", "post.halves"], "post.last")
        self.node("Concat", ["post.first", "post.last"], "post.corners", axis=2)
        edges = [self.constant(f"post.edge{edge}", np.float32(edge)) for edge in (0, 1)]
        self.node("Clip", ["post.corners", *edges], "post.boxes")

    def _suppress(self, found: int) -> None:
        """Add non-maximum suppression by class, and ``found`` boxes of an image.

        They are those with the highest scores.
        """
        limits = [
            self.constant("post.most", np.array([min(self._processing.candidates, self._anchors)], np.int64)),
            self.constant("post.iou", np.array([self._processing.nms_iou], np.float32)),
            self.constant("post.threshold", np.array([self._processing.score_threshold], np.float32)),
        ]
        self.node("NonMaxSuppression", ["post.boxes", "post.scores", *limits], "post.selected")
        self.node("GatherND", ["post.scores", "post.selected"], "post.selected_scores")
        shape = self.constant("post.shape", np.array([self._batch, self._classes, self._anchors], np.int64))
        none = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0])
        self.node("ConstantOfShape", [shape], "post.blank", value=none)
        self.node("ScatterND", ["post.blank", "post.selected", "post.selected_scores"], "post.remaining")
        self.reshape("post.remaining", "post.flat", [self._batch, self._classes * self._anchors])
        self._largest("post.flat", SCORES, found, indices="post.places")
        anchors = self.constant("post.anchors", np.int64(self._anchors))
        self.node("Div", ["post.places", anchors], LABELS)
        self.node("Mod", ["post.places", anchors], "post.box")
        self.reshape("post.box", "post.box_rows", [self._batch, found, 1])
        self.node("GatherND", ["post.boxes", "post.box_rows"], BOXES, batch_dims=1)

    def _flattened(self, maps: list[str], target: str, columns: int) -> None:
        """Add ``target`` (N, A, columns) of maps (N, boxes * columns, H, W).

        The order is by map, row, column and box.
        """
        parts = []
        for level, source in enumerate(maps):
            part = f"{target}.{level}"
            self.node("Transpose", [source], f"{part}.last", perm=[0, 2, 3, 1])
            self.reshape(f"{part}.last", part, [self._batch, -1, columns])
            parts.append(part)
        self.node("Concat", parts, target, axis=1)

    def _slice(self, source: str, target: str, start: int, end: int, *, axis: int) -> None:
        ends = (("start", start), ("end", end), ("axis", axis))
        numbers = [self.constant(f"{target}.{name}", np.array([value], np.int64)) for name, value in ends]
        self.node("Slice", [source, *numbers], target)

    def _largest(self, source: str, target: str, count: int, *, indices: str = "") -> None:
        """Add the ``count`` largest values along the last axis, and their ``indices``."""
        number = self.constant(f"{target}.count", np.array([count], np.int64))
        names = [target, indices or f"{target}.indices"]
        self.nodes.append(helper.make_node("TopK", [source, number], names, target, axis=-1))
