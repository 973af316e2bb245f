"""What every format must do, as tests that those of each format inherit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from nas.arch import zoo
from nas.arch.ops.network import network_segments
from nas.arch.parts import HEAD_KINDS, MOBILENET_V3_SE, HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.formats import FORMATS, FormatModule, Run, is_installed, outputs_of
from nas.exporters.graph import InferenceGraph, inference_graph
from nas.exporters.rewriting.candidates import candidates
from nas.exporters.rewriting.named import named_forms
from nas.model.build import build
from tests.exporters.dense_specs import dense_specs
from tests.exporters.test_onnx_graph import with_random_norms

# Every type of block, partition, grouping, padding, activation and data movement.
BLOCKS = (
    ["er_r2_k3_s2_e4_c24_se0.25", "cn_r1_k3_s1_c24_skip"],
    ["cn_r1_k5_s2_c16", "er_r1_k5_s1_e2_c16_noskip"],
    ["ir_r2_k3.5.7.9_s2_e4_c24_exponential_nsw", "ds_r1_k9.11_s1_c24_nmi"],
    ["ir_r2_k3.5.7_a1.1_p1.1_s2_e3_c36_se0.5_dilated_nhs", "dsa_r1_k7_s1_c20_dilated_nr6"],
    ["ir_r1_k3.5_a1.1_p1.1_s2_e3_c24_se0.25_nmi"],
    ["er_r1_k3_gs20_s2_e4_c24", "ir_r1_k3_gs8_s1_e2_c24", "cn_r1_k3_gs4_s1_c24_skip"],
    ["uir_r1_a3_k5_s2_e4_c24_se0.25", "uir_r2_k3_p3_s1_e2_c24_nsw", "uir_r1_k0_s1_e2_c24"],
    ["uir_r1_a5_k0_s2_e4_c24", "mqa_r1_k3_h3_v2_d8_s1_c24", "mqa_r1_k3_h2_d16_s1_c30", "cn_r1_k1_s1_c20"],
)


class FormatContract:
    """Tests of one format: its runtime gives the outputs of the timm modules.

    ``NAME``: of the format. ``BATCH``: images of a batch that it runs.
    """

    NAME: str
    BATCH = 2

    @pytest.fixture(autouse=True)
    def _skip_without_packages(self) -> None:
        entry = FORMATS[self.NAME]
        for package in entry.packages:
            if not is_installed(package):
                pytest.skip(f"{package} is not installed: pip install 'nas[{entry.extra}]'")

    @property
    def module(self) -> FormatModule:
        return FORMATS[self.NAME].module()

    def graph_of(self, spec: ArchSpec, model: nn.Module, px: int) -> InferenceGraph:
        weights = {name: value.numpy() for name, value in with_random_norms(model).state_dict().items()}
        return inference_graph(spec, weights=weights, batch=self.BATCH, resolution_px=px)

    def check_same(self, run: Run, model: nn.Module, px: int) -> None:
        images = torch.randn(self.BATCH, 3, px, px, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            outputs = model(images)
        found = outputs_of(run(images.numpy()))
        expected = [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            tolerance = FORMATS[self.NAME].tolerance * np.abs(other).max()
            np.testing.assert_allclose(one, other, atol=tolerance, rtol=0)

    @pytest.mark.parametrize(
        ("name", "px"), [("mixnet_s", 64), ("mobilenetv3_small_100", 75), ("tf_mobilenetv3_small_minimal_100", 75)]
    )
    def test_published_networks_give_timm_outputs(self, name: str, px: int) -> None:
        model = timm.create_model(name)
        graph = self.graph_of(zoo.get(name), model, px)
        self.check_same(self.module.open_graph(graph), model, px)

    @pytest.mark.parametrize("padding", ["symmetric", "same"])
    @pytest.mark.parametrize("strings", BLOCKS)
    def test_all_blocks_give_the_built_module_outputs(self, strings: list[str], padding: str) -> None:
        stem, head = StemSpec(channels=20, kernel=5), HeadSpec(channels=40)
        spec = ArchSpec.from_strings("odd", [strings], stem=stem, head=head, padding=padding, classes=11)
        model = build(spec)
        self.check_same(self.module.open_graph(self.graph_of(spec, model, 37)), model, 37)

    @pytest.mark.parametrize("head", [HeadSpec(channels=0), *(HeadSpec(channels=40, kind=kind) for kind in HEAD_KINDS)])
    @pytest.mark.parametrize("activation", ["hard_swish", "gelu"])
    def test_all_heads_and_gates_give_the_built_module_outputs(self, head: HeadSpec, activation: str) -> None:
        fields = {"activation": activation, "squeeze_excite": MOBILENET_V3_SE, "layer_scale": 0.5}
        strings = ["ir_r2_k3_s2_e2_c16_se0.5", "mqa_r1_k3_h3_v2_d8_s1_c16", "uir_r1_a3_k3_s1_e4_c24"]
        spec = ArchSpec.from_strings("gated", [strings], stem=StemSpec(channels=16), head=head, classes=7, **fields)
        model = build(spec)
        self.check_same(self.module.open_graph(self.graph_of(spec, model, 33)), model, 33)

    @pytest.mark.parametrize(("number", "padding"), [(0, "same"), (1, "symmetric"), (2, "symmetric"), (4, "same")])
    def test_detectors_and_segmenters_give_the_built_module_outputs(self, number: int, padding: str) -> None:
        spec = dense_specs(padding)[number]
        model = build(spec)
        graph = self.graph_of(spec, model, spec.resolution_px)
        self.check_same(self.module.open_graph(graph), model, spec.resolution_px)
        assert [len(shape) for shape in graph.output_shapes] == [4] * len(graph.outputs)

    def test_forms_of_the_blocks_of_a_detector_give_the_built_module_outputs(self) -> None:
        spec = dense_specs()[0]
        model = with_random_norms(build(spec))
        weights = {name: value.numpy() for name, value in model.state_dict().items()}
        forms = named_forms(spec, ("merge_mixconv", "dense_pointwise", "pad_channels"))
        graph = inference_graph(spec, weights=weights, batch=self.BATCH, forms=forms)
        assert graph.ops != inference_graph(spec).ops
        self.check_same(self.module.open_graph(graph), model, spec.resolution_px)

    def test_forms_of_a_block_give_the_built_module_outputs(self) -> None:
        stages = [["ir_r2_k3.5.7_a1.1_p1.1_s2_e3_c36_se0.5_nhs"], ["ir_r1_k5.9_s2_e2_c24_se0.25_nsw"]]
        stem, head = StemSpec(channels=20), HeadSpec(channels=16)
        spec = ArchSpec.from_strings("forms", stages, stem=stem, head=head, classes=5)
        model = with_random_norms(build(spec))
        weights = {name: value.numpy() for name, value in model.state_dict().items()}
        choices = [
            [candidate.form for candidate in candidates(part, spec.padding, 8, True)]
            for part in network_segments(spec, 37)[1:-1]
        ]
        # Sixty forms of a block are compared; the first two blocks have different fifths of them.
        for turn in range(0, max(map(len, choices)), 5):
            forms = tuple(found[(turn + 2 * block) % len(found)] for block, found in enumerate(choices))
            graph = inference_graph(spec, weights=weights, batch=self.BATCH, resolution_px=37, forms=forms)
            self.check_same(self.module.open_graph(graph), model, 37)

    def test_large_activations_neither_overflow_nor_vanish(self) -> None:
        spec = ArchSpec.from_strings(
            "large", [["cn_r1_k1_s1_c8_nmi", "cn_r1_k1_s1_c8_nsw", "cn_r1_k1_s1_c8_nhs"]], stem=StemSpec(channels=8),
            head=HeadSpec(channels=0), classes=8, activation="gelu",
        )  # fmt: skip
        model = with_random_norms(build(spec))
        with torch.no_grad():  # a deviation of 200 into each activation
            for name in ("bn1", "blocks.0.0.bn1", "blocks.0.1.bn1", "blocks.0.2.bn1"):
                norm = model.get_submodule(name)
                norm.weight *= 200
        graph = inference_graph(
            spec, weights={name: value.numpy() for name, value in model.state_dict().items()}, batch=self.BATCH,
            resolution_px=9,
        )  # fmt: skip
        self.check_same(self.module.open_graph(graph), model, 9)

    def test_the_file_is_the_graph_and_equal_graphs_give_equal_bytes(self, tmp_path: Path) -> None:
        entry = FORMATS[self.NAME]
        graph = inference_graph(zoo.get("mixnet_s"), batch=self.BATCH, resolution_px=32)
        first, second = (
            self.module.write_model(graph, tmp_path / f"{name}/net{entry.suffix}") for name in ("one", "two")
        )
        assert first[0] == tmp_path / f"one/net{entry.suffix}"
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
        assert sorted((tmp_path / "one").iterdir()) == sorted(first)
        images = np.random.default_rng(0).standard_normal(graph.input_shape, dtype=np.float32)
        logits = self.module.open_model(first[0])(images)
        assert logits.dtype == np.float32 and logits.shape == graph.output_shapes[0]
        np.testing.assert_array_equal(logits, self.module.open_graph(graph)(images))

    def test_outputs_of_a_run_outlive_the_next(self) -> None:
        graph = inference_graph(zoo.get("mobilenetv3_small_050"), batch=self.BATCH, resolution_px=32)
        run = self.module.open_graph(graph)
        images = np.random.default_rng(0).standard_normal(graph.input_shape, dtype=np.float32)
        first = run(images)
        kept = first.copy()
        assert np.abs(run(images * 2) - kept).max() > 0
        np.testing.assert_array_equal(first, kept)

    def test_files_that_are_no_networks_are_refused_in_one_line(self, tmp_path: Path) -> None:
        suffix = FORMATS[self.NAME].suffix
        graph = inference_graph(zoo.get("mobilenetv3_small_050"), batch=self.BATCH, resolution_px=32)
        with pytest.raises(NasError, match=rf"missing{suffix}: [^\n]+$"):
            self.module.open_model(tmp_path / f"missing{suffix}")
        for index in range(len(self.module.write_model(graph, tmp_path / f"net{suffix}"))):
            files = self.module.write_model(graph, tmp_path / f"net{suffix}")
            files[index].write_bytes(files[index].read_bytes()[:100])
            with pytest.raises(NasError, match=r"net\.[^\n]+$"):
                self.module.open_model(files[0])
