#!/usr/bin/env bash
# A dilated 3x3 depthwise convolution in ncnn takes up to four times as long as an undilated one
#
# Packages: ncnn 1.0.20261020, onnxruntime 1.31.1 for comparison, onnx 1.23.2, numpy 2.4.6; Python 3.11, Linux x86-64.
#
# Behaviour: chains of eight depthwise convolutions on maps of 28 px, one thread, batch 1. With dilation 2 a 3x3 kernel
# in ncnn takes 1.5 to 1.8 times as long on 64 channels, 2.6 to 2.9 times on 60, and 4.0 to 4.7 times on 62. On 60
# channels that is the time of a dense 5x5 kernel, which covers the same 5x5 px with 25 weights, not 9. In ONNX
# Runtime dilation costs nothing on any of them (0.8 to 1.0 times). Outputs agree to 1e-5. Other processors than x86-64
# were not tried.
#
# Guessed: equal times, as for equal multiply-adds and equal traffic: dilation is the cheap way to a large
# receptive field. That a number of channels that fills no vector is slower was expected; that dilation then costs a
# multiple was not.
#
# Output seen (an x86-64 server core with AVX2, other programs running; microseconds a convolution):
#   64 channels: ncnn 3x3 19.6, dilated 34.8 (1.8 times), 5x5 60.6; onnxruntime 17.2, 15.4 (0.9 times), 32.8
#   60 channels: ncnn 3x3 30.4, dilated 87.7 (2.9 times), 5x5 87.0; onnxruntime 21.5, 17.9 (0.8 times), 35.3
#   62 channels: ncnn 3x3 100.3, dilated 415.3 (4.1 times), 5x5 618.3; onnxruntime 121.7, 109.6 (0.9 times), 281.2
#
# Matters here: spaces may offer dilated kernels (BlockSpec.dilated), and a MixConv hands its groups channel counts that
# fill no vector. A latency calibration of one runtime says nothing about dilation in another: a search for ncnn wants
# measurements from ncnn, with dilated blocks among them.
#
# Checked: on 62 channels the dilated kernel takes at least 2 times as long in ncnn, at most 1.4 times in ONNX Runtime.
# Times are lower quantiles of the thread's CPU time in 60 interleaved rounds.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    ncnn==1.0.20261020 onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'PYTHON'
import statistics
import sys
import time

import ncnn
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

LAYERS, PX, ROUNDS = 8, 28, 60
SHAPES = {"3x3": (3, 1), "3x3 dilated": (3, 2), "5x5": (5, 1)}
ort.set_default_logger_severity(3)


def weights(channels, side):
    rng = np.random.default_rng(side)
    return [(rng.standard_normal((channels, 1, side, side)) / side).astype(np.float32) for _ in range(LAYERS)]


def in_ncnn(channels, side, dilation):
    """A chain of depthwise convolutions in ncnn: a call that computes one channels x PX x PX map from another."""
    pad = dilation * (side // 2)
    lines = ["7767517", f"{LAYERS + 1} {LAYERS + 1}", "Input in 0 1 b0"]
    lines += [
        f"ConvolutionDepthWise dw{i} 1 1 b{i} b{i + 1} 0={channels} 1={side} 2={dilation} 3=1 4={pad} 5=0 "
        f"6={channels * side * side} 7={channels}"
        for i in range(LAYERS)
    ]
    name = f"{channels}-{side}-{dilation}"
    with open(f"{name}.param", "w") as file:
        file.write("\n".join(lines) + "\n")
    with open(f"{name}.bin", "wb") as file:
        for weight in weights(channels, side):
            file.write(np.zeros(1, np.uint32).tobytes() + weight.tobytes())  # 0: float32 follows
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.load_param(f"{name}.param")
    net.load_model(f"{name}.bin")

    def run(image):
        extractor = net.create_extractor()
        extractor.input("b0", ncnn.Mat(image))
        return np.array(extractor.extract(f"b{LAYERS}")[1])

    run.net = net  # kept alive
    return run


def in_onnxruntime(channels, side, dilation):
    """The same chain in ONNX Runtime."""
    pad = dilation * (side // 2)
    nodes = [
        helper.make_node(
            "Conv", [f"b{i}", f"w{i}"], [f"b{i + 1}"], group=channels, pads=[pad] * 4, dilations=[dilation] * 2
        )
        for i in range(LAYERS)
    ]
    shape = [1, channels, PX, PX]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("b0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"b{LAYERS}", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights(channels, side))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"b0": image[None]})[0][0]


def seconds(run, image):
    started = time.thread_time()
    run(image)
    return time.thread_time() - started


ratios = {}
agree = True
for channels in (64, 60, 62):
    image = np.random.default_rng(channels).standard_normal((channels, PX, PX)).astype(np.float32)
    runs = {
        (runtime, shape): build(channels, *SHAPES[shape])
        for runtime, build in (("ncnn", in_ncnn), ("onnxruntime", in_onnxruntime))
        for shape in SHAPES
    }
    agree &= all(np.allclose(runs["ncnn", s](image), runs["onnxruntime", s](image), atol=1e-3) for s in SHAPES)
    times = {key: [] for key in runs}
    for _ in range(ROUNDS):
        for key, run in runs.items():
            times[key].append(seconds(run, image))
    parts = []
    for runtime in ("ncnn", "onnxruntime"):
        # The third decile: interruptions make single runs longer. The first five rounds warm the caches.
        plain, dilated, wide = (
            1e6 / LAYERS * statistics.quantiles(times[runtime, shape][5:], n=10)[2] for shape in SHAPES
        )
        ratios[runtime, channels] = dilated / plain
        parts.append(f"{runtime} 3x3 {plain:.1f}, dilated {dilated:.1f} ({dilated / plain:.1f} times), 5x5 {wide:.1f}")
    print(f"{channels} channels: {'; '.join(parts)} (microseconds a convolution)")
print(f"outputs of the two runtimes {'agree' if agree else 'DIFFER'}")

as_stated = agree and ratios["ncnn", 62] >= 2 and ratios["onnxruntime", 62] <= 1.4
print("as stated" if as_stated else "CHANGED: the behaviour is no longer as stated above")
sys.exit(0 if as_stated else 1)
PYTHON
