#!/usr/bin/env bash
# A 7x7 depthwise convolution in LiteRT takes 15 times as long as a 5x5 one, as a sum of three small ones 3 times
#
# Packages: ai-edge-litert 2.3.0, numpy 2.4.6; Python 3.11, Linux x86-64.
#
# Behaviour: chains of eight depthwise convolutions on maps of 28 px, one thread, batch 1, float32. XNNPACK, which runs
# them, has routines for 3, 4, 9 and 25 taps, on ARM too (src/configs/dwconv-config.c), and none for more. A tap of a 7x7
# kernel costs 8 times as much as one of a 5x5 kernel. The same 7x7 kernel as a sum of three with dilated columns, {0,
# 3, 6}, {1, 5} and {2, 4}, each of at most 25 taps, gives the same outputs in a fifth of the time. Only x86-64 was timed.
#
# Guessed: time in proportion to taps, so that a 7x7 kernel takes twice as long as a 5x5 one, as in ONNX Runtime.
#
# Output seen (an x86-64 server core with AVX-512, other programs running; microseconds a convolution):
#   64 channels: 5x5 66.5, 7x7 1041.0 (15.6 times), 7x7 as a sum of three 208.9 (0.20 of it)
#   outputs agree
#
# Matters here: MixNets have kernels of 7 to 11 px. nas/exporters/litert/depthwise.py writes them as such sums: mixnet_s
# takes 0.67 and mixnet_m 0.53 of the time of timm's models converted by litert-torch, and a MixConv may be a good
# choice on a phone after all.
#
# Checked: the 7x7 kernel takes at least 6 times as long as the 5x5 one, and at least 2.5 times as long as its sum.
# Times are lower quantiles of the thread's CPU time in 40 interleaved rounds.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ai-edge-litert==2.3.0 numpy==2.4.6
cd "$work"
venv/bin/python - 2>/dev/null <<'PYTHON'
import statistics
import sys
import time

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

LAYERS, PX, CHANNELS, ROUNDS = 8, 28, 64, 40
WHOLE, COLUMNS = [(0, 1, 7)], [(0, 3, 3), (1, 4, 2), (2, 2, 2)]  # first tap, dilation, taps


class Chain:
    """A chain of depthwise convolutions, each a sum over pieces of its kernel."""

    def __init__(self, side, pieces):
        self.graph, self.model = schema.SubGraphT(), schema.ModelT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.version, self.model.subgraphs, self.model.buffers = 3, [self.graph], [schema.BufferT()]
        self.model.operatorCodes = [self.code(kind) for kind in ("DEPTHWISE_CONV_2D", "ADD")]
        rng = np.random.default_rng(side)
        bias = self.tensor((CHANNELS,), np.zeros(CHANNELS, np.float32))
        first = last = self.tensor((1, PX, PX, CHANNELS))
        for _ in range(LAYERS):
            weight = (rng.standard_normal((1, side, side, CHANNELS)) / side).astype(np.float32)
            total = None
            for start, dilation, taps in pieces:
                part = np.ascontiguousarray(weight[:, :, start : start + dilation * taps : dilation][:, :, :taps])
                output = self.tensor((1, PX, PX, CHANNELS))
                options = schema.DepthwiseConv2DOptionsT()
                options.strideH = options.strideW = options.depthMultiplier = 1
                options.dilationHFactor, options.dilationWFactor = 1, dilation
                self.operator(0, [last, self.tensor(part.shape, part), bias], output, "DepthwiseConv2DOptions", options)
                if total is not None:
                    summand, output = output, self.tensor((1, PX, PX, CHANNELS))
                    self.operator(1, [total, summand], output, "AddOptions", schema.AddOptionsT())
                total = output
            last = total
        self.graph.inputs, self.graph.outputs = [first], [last]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        self.interpreter = Interpreter(model_content=bytes(builder.Output()), num_threads=1)
        self.interpreter.allocate_tensors()
        self.ends = first, last

    def code(self, kind):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        return code

    def tensor(self, shape, value=None):
        tensor = schema.TensorT()
        tensor.shape, tensor.name = list(shape), f"t{len(self.graph.tensors)}"
        if value is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(value.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(self, code, inputs, output, kind, options):
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = getattr(schema.BuiltinOptions, kind), options
        self.graph.operators.append(operator)

    def __call__(self, image):
        self.interpreter.set_tensor(self.ends[0], image)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.ends[1])


def seconds(run, image):
    started = time.thread_time()
    run(image)
    return time.thread_time() - started


chains = {"5x5": Chain(5, [(0, 1, 5)]), "7x7": Chain(7, WHOLE), "sum": Chain(7, COLUMNS)}
image = np.random.default_rng(0).standard_normal((1, PX, PX, CHANNELS)).astype(np.float32)
whole, summed = chains["7x7"](image), chains["sum"](image)
agree = np.allclose(whole, summed, atol=1e-4 * np.abs(whole).max())
times = {name: [] for name in chains}
for _ in range(ROUNDS):
    for name, run in chains.items():
        times[name].append(seconds(run, image))
# The third decile: interruptions make single runs longer. The first five rounds warm the caches.
small, large, pieces = (1e6 / LAYERS * statistics.quantiles(times[name][5:], n=10)[2] for name in chains)
print(
    f"{CHANNELS} channels: 5x5 {small:.1f}, 7x7 {large:.1f} ({large / small:.1f} times), 7x7 as a sum of three "
    f"{pieces:.1f} ({pieces / large:.2f} of it) (microseconds a convolution)"
)
print(f"outputs {'agree' if agree else 'DIFFER'}")
as_stated = agree and large >= 6 * small and large >= 2.5 * pieces
print("as stated" if as_stated else "CHANGED: the behaviour is no longer as stated above")
sys.exit(0 if as_stated else 1)
PYTHON
