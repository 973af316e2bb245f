"""ncnn files of specs: outputs, and what they say where no runtime is needed."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.graph import inference_graph
from nas.exporters.ncnn.graph import ncnn_model
from tests.exporters.format_contract import FormatContract


class TestNcnn(FormatContract):
    NAME = "ncnn"
    BATCH = 1


def layers(text: str) -> list[tuple[str, list[str], list[str], dict[str, str]]]:
    """Type, inputs, outputs and parameters of the layers of a text, as ncnn's documentation describes it."""
    found = []
    for line in text.splitlines()[2:]:
        kind, _, ins, outs, *rest = line.split()
        names, values = rest[: int(ins) + int(outs)], rest[int(ins) + int(outs) :]
        found.append((kind, names[: int(ins)], names[int(ins) :], dict(value.split("=") for value in values)))
    return found


@pytest.mark.parametrize("name", ["mixnet_s", "mobilenetv3_large_100", "mobilenetv1_050"])
def test_every_blob_is_written_once_and_read_once(name: str) -> None:
    text = ncnn_model(inference_graph(zoo.get(name), resolution_px=32)).text
    magic, counts = text.splitlines()[:2]
    assert magic == "7767517"
    written = [blob for _, _, outputs, _ in layers(text) for blob in outputs]
    read = Counter(blob for _, inputs, _, _ in layers(text) for blob in inputs)
    assert counts == f"{len(layers(text))} {len(written)}"
    assert len(set(written)) == len(written)
    assert read == Counter(set(written) - {"out0"})


def test_weights_are_those_of_the_layers() -> None:
    spec = zoo.get("mixnet_s")
    model = ncnn_model(inference_graph(spec, resolution_px=32))
    sizes = {"Convolution": "6", "ConvolutionDepthWise": "6", "InnerProduct": "2"}
    weighted = [(sizes[kind], values) for kind, _, _, values in layers(model.text) if kind in sizes]
    weights = sum(int(values[number]) for number, values in weighted)
    biases = sum(int(values["0"]) for _, values in weighted)
    # Four bytes each, and four that tell the type before each tensor of weights.
    assert len(model.weights) == 4 * (weights + biases + len(weighted))
    # Batch norms, two parameters per channel, became one bias per channel; other layers have theirs already.
    normed = sum(op.out_channels for op in inference_graph(spec).ops if op.norm)
    assert weights + biases == complexity(spec).params - normed


def test_activations_are_fused_where_ncnn_does_it() -> None:
    strings = [["cn_r1_k3_s1_c8_nr6", "cn_r1_k3_s1_c8_nhs", "ir_r1_k3.5_s1_e2_c8_nmi", "ds_r1_k3_s1_c8_nsw"]]
    spec = ArchSpec.from_strings("fused", strings, stem=StemSpec(channels=8), head=HeadSpec(channels=8), classes=3)
    text = ncnn_model(inference_graph(spec, resolution_px=16)).text
    found = {outputs[0]: (kind, values) for kind, _, outputs, values in layers(text)}
    assert found["conv_stem"][1]["9"] == "1"
    kind, values = found["blocks.0.0.conv"]
    assert (kind, values["9"], values["-23310"]) == ("Convolution", "3", "2,0.00000000e+00,6.00000000e+00")
    assert found["blocks.0.1.conv"][1]["9"] == "6"
    assert found["blocks.0.2.conv_pw"][1]["9"] == "5"
    assert found["blocks.0.2.conv_dw"][0] == "Mish"  # after the concat of its groups
    assert (found["blocks.0.3.conv_dw.linear"][0], found["blocks.0.3.conv_dw"][0]) == ("ConvolutionDepthWise", "Swish")


def test_numbers_are_read_back_as_the_same_float32() -> None:
    text = ncnn_model(inference_graph(zoo.get("mobilenetv3_small_050"), resolution_px=32)).text
    slopes = {np.float32(number) for number in re.findall(r" 0=([\d.e+-]+) 1=[\d.e+-]+$", text, re.MULTILINE)}
    assert np.float32(1 / 6) in slopes


def test_several_images_are_refused() -> None:
    with pytest.raises(NasError, match=r"format ncnn: batch 2: ncnn runs one image at a time; set batch=1\.$"):
        ncnn_model(inference_graph(zoo.get("mobilenetv3_small_050"), batch=2, resolution_px=32))
