"""OpenVINO models of inference graphs, and the files they are written to (IR)."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from nas.exporters.graph import InferenceGraph
from nas.exporters.model_files import weights_path, write_pair
from nas.exporters.onnx.graph import onnx_model
from nas.exporters.onnx.processing import processed_model

# Class names and normalisation are here in the runtime information of a model, as its ONNX frontend puts them.
_NUMBERED: Final = re.compile(r"[A-Z]\w*_\d+")


def openvino_model(graph: InferenceGraph, *, quantised: bool = False) -> Any:
    """``openvino.Model`` of ``graph``, float32.

    It is read from the graph's ONNX form. A convolution's node is named after the path of its ``Op`` with
    ``/WithoutBiases`` appended, its bias ``Add`` by the path alone (both with ``.linear`` before that, where an
    activation follows); of the groups of a MixConv, the concatenation has the bias. Other nodes have paths as names.
    Class names and normalisation are JSON text in its ``rt_info``. ``quantised``: whether it will be quantised to int8,
    where biases that stay at the groups of a MixConv are faster; such a model has no processing.
    """
    import openvino
    from openvino.passes import ConstantFolding, Manager

    written = onnx_model(graph) if quantised else processed_model(graph)
    model = openvino.Core().read_model(written.SerializeToString())
    _replace_activations(model, graph)
    manager = Manager()
    manager.register_pass(ConstantFolding())  # the frontend leaves shape arithmetic on constants
    manager.run_passes(model)
    if not quantised:
        _move_biases_behind_concats(model)
    # Names of nodes that ONNX does not name have a number counted over the process; files of equal content are equal.
    for index, node in enumerate(model.get_ordered_ops()):
        if _NUMBERED.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{index}")
    return model


def _replace_activations(model: Any, graph: InferenceGraph) -> None:
    """Replace activations that ONNX writes in several nodes by OpenVINO's own.

    NNCF knows blocks by these: with the others it quantises squeeze-excites and inside of activations. Mish stays as it
    is: OpenVINO 2026.4 cannot compile its own after a concatenation and before squeeze-excite.
    """
    from openvino import opset13

    functions = {
        "swish": opset13.swish,
        "hard_sigmoid": opset13.hsigmoid,
        "gelu": lambda source: opset13.gelu(source, "erf"),
    }
    nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    for op in graph.ops:
        if op.activation in functions:
            before, source = nodes[op.path], nodes[f"{op.path}.linear"].output(0)
            after = functions[op.activation](source)
            after.set_friendly_name(op.path)
            after.output(0).get_tensor().set_names({op.path})
            before.output(0).replace(after.output(0))


def _move_biases_behind_concats(model: Any) -> None:
    """Add the biases of concatenated convolutions once, to their concatenation.

    OpenVINO makes one grouped convolution of a split, equal convolutions and a concatenation, which takes less time,
    but not where biases are in between.
    """
    from openvino import opset13

    for concat in model.get_ordered_ops():
        if concat.get_type_name() != "Concat":
            continue
        adds = [value.get_node() for value in concat.input_values()]
        biases = [add.input_value(1) for add in adds if add.get_type_name() == "Add"]
        if len(biases) < len(adds) or any(bias.get_node().get_type_name() != "Constant" for bias in biases):
            continue
        sums = opset13.concat([add.input_value(0) for add in adds], axis=1)
        bias = opset13.constant(np.concatenate([bias.get_node().get_data() for bias in biases], axis=1))
        moved = opset13.add(sums, bias)
        moved.set_friendly_name(concat.get_friendly_name())
        moved.output(0).get_tensor().set_names(concat.output(0).get_names())
        sums.set_friendly_name(f"{concat.get_friendly_name()}/WithoutBiases")
        concat.output(0).replace(moved.output(0))


def write_openvino(model: Any, path: Path) -> tuple[Path, ...]:
    """Write ``model`` to ``path`` (.xml), and its weights beside it (.bin).

    Weights keep their type. Returns both.
    """
    import openvino

    with TemporaryDirectory(prefix="nas-openvino-") as folder:
        source = Path(folder) / "model.xml"
        openvino.save_model(model, source, compress_to_fp16=False)
        return write_pair(path, source.read_bytes(), weights_path(source).read_bytes())
