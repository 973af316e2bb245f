"""OpenVINO files of specs: outputs, metadata, precision."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from nas.arch import zoo
from nas.arch.parts import MOBILENET_V3_SE, HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.exporters.graph import inference_graph
from tests.exporters.format_contract import FormatContract


class TestOpenVino(FormatContract):
    NAME = "openvino"

    def test_activations_are_single_operations_of_openvino(self) -> None:
        from nas.exporters.openvino.model import openvino_model

        strings = [["ir_r1_k3_s1_e2_c8_se0.25_nhs", "ds_r1_k3.5_s1_c8_nsw", "cn_r1_k3_s1_c8"]]
        spec = ArchSpec.from_strings(
            "activations", strings, stem=StemSpec(channels=8), head=HeadSpec(channels=8), classes=3,
            activation="gelu", squeeze_excite=MOBILENET_V3_SE,
        )  # fmt: skip
        nodes = openvino_model(inference_graph(spec, resolution_px=16)).get_ordered_ops()
        kinds = {node.get_friendly_name(): node.get_type_name() for node in nodes}
        assert kinds["conv_stem"] == kinds["blocks.0.2.conv"] == kinds["conv_head"] == "Gelu"
        assert kinds["blocks.0.0.conv_pw"] == "HSwish"
        assert kinds["blocks.0.0.se.conv_expand"] == "HSigmoid"
        assert kinds["blocks.0.1.conv_dw"] == "Swish"
        assert not {"Erf", "Sigmoid", "HardSigmoid"} & set(kinds.values())

    def test_equal_groups_of_a_pointwise_convolution_are_one_in_the_runtime(self) -> None:
        import openvino

        from nas.exporters.openvino.model import openvino_model

        strings = [["ir_r1_k3.5_a1.1_p1.1_s2_e2_c16_nsw"]]
        spec = ArchSpec.from_strings("groups", strings, stem=StemSpec(channels=16), head=HeadSpec(channels=8))
        model = openvino_model(inference_graph(spec, resolution_px=16))
        nodes = openvino.Core().compile_model(model, "CPU").get_runtime_model().get_ordered_ops()
        kinds = [node.get_rt_info()["layerType"].value for node in nodes]
        # Stem, expansion, two depthwise convolutions, projection, head; only the depthwise ones read parts.
        assert (kinds.count("Convolution"), kinds.count("Split"), kinds.count("Concatenation")) == (6, 1, 1)

    def test_class_names_and_normalisation_are_in_the_file(self, tmp_path: Path) -> None:
        import openvino

        facts = {
            "class_names": ["it's", 'a "newt"\n', *(f"class {index}" for index in range(998))],
            "normalisation": {"mean": [0.25, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        }
        graph = inference_graph(zoo.get("mobilenetv3_small_050"), resolution_px=32, provenance=facts)
        path, _ = self.module.write_model(graph, tmp_path / "net.xml")
        model = openvino.Core().read_model(path)
        found = {name: json.loads(model.get_rt_info(["framework", name]).value) for name in facts}
        assert found == facts

    def test_weights_are_float32_in_the_file(self, tmp_path: Path) -> None:
        spec = zoo.get("mobilenetv3_small_050")
        _, weights = self.module.write_model(inference_graph(spec, resolution_px=32), tmp_path / "net.xml")
        data, classifier = weights.read_bytes(), inference_graph(spec, resolution_px=32)
        weight, _ = classifier.parameters(classifier.ops[-1])
        assert np.ascontiguousarray(weight).tobytes() in data
