"""Kernels that ONNX Runtime ran for a set of networks, recorded per version and instruction set.

``tests/reference/ort_kernels.json`` says how. ``python -m tests.latency.ort_recordings NAME`` adds what runs on this
processor.
"""

from __future__ import annotations

import csv
import io
import lzma
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from nas.arch import zoo
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.latency.measure.kernel_match import Profile
from nas.latency.measure.ort_profile import Event, ProfiledNetwork

FILE: Final = Path(__file__).parents[1] / "reference" / "ort_kernels.csv.xz"
COLUMNS: Final = ("recording", "network", "type", "name", "inputs", "outputs")
# The blocks of timm's architecture of the same name.
_V4 = [
    ["cn_r1_k3_s2_c32", "cn_r1_k1_s1_c32"],
    ["cn_r1_k3_s2_c96", "cn_r1_k1_s1_c64"],
    ["uir_r1_a5_k5_s2_e3_c96", "uir_r4_k3_s1_e2_c96", "uir_r1_a3_k0_s1_e4_c96"],
    ["uir_r1_a3_k3_s2_e6_c128", "uir_r1_a5_k5_s1_e4_c128", "uir_r1_k5_s1_e4_c128", "uir_r1_k5_s1_e3_c128"],
    ["uir_r2_k3_s1_e4_c128", "cn_r1_k1_s1_c960"],
]
# MixConv and grouped convolutions of sizes on and off the blocks of 8 and 16 channels, down to one channel.
_GROUPS = [
    ["ds_r2_k3.5.7.9.11_s1_c8_se0.25"],
    ["ir_r2_k3.5.7_s2_e6_c24_a1.1_p1.1", "ir_r2_k3.5_s1_e4_c32_se0.5_nsw", "ir_r1_k3.5_s1_e2_c32"],
    ["ir_r1_k3.5.7.9_s2_e3_c45_p1.1.1_exponential", "er_r2_k3_s1_e2_c32_nhs", "cn_r1_k3_gs8_s1_c64"],
    ["cn_r1_k3_gs16_s1_c64", "cn_r1_k3_gs4_s1_c32", "cn_r1_k1_gs16_s1_c64"],
    ["dsa_r1_k3_s2_c36", "ir_r1_k5_s1_e6_c20_se0.1", "uir_r1_a3_k3_s1_e3_c24", "cn_r1_k1_s1_c18"],
    ["ds_r2_k3_s1_c18", "ds_r1_k3_s1_c10"],
]
_ATTENTION = [["cn_r1_k3_s2_c24", "mqa_r1_k3_h2_v2_d8_s1_c24", "mqa_r1_k3_h4_d16_s1_c24", "cn_r1_k1_s1_c32"]]


def networks() -> dict[str, ArchSpec]:
    """The recorded networks by name; together they have every kind of kernel that is predicted."""
    sides = {"mixnet_s": 64, "mobilenetv3_large_100": 64, "mobilenetv3_small_100": 32, "efficientnet_b0": 32}
    published = {name: replace(zoo.get(name), resolution_px=px) for name, px in sides.items()}
    v4 = _network("mobilenetv4_conv_small", _V4, "relu", head=HeadSpec(kind="pool_conv_norm", channels=1280))
    groups = [_network(f"groups_{act}", _GROUPS, act) for act in ("relu6", "swish", "hard_swish", "mish", "gelu")]
    return {**published, **{spec.name: spec for spec in (v4, *groups)}}


def attention() -> ArchSpec:
    """A recorded network with kernels that are not predicted: its attention is simplified."""
    return _network("attention", _ATTENTION, "relu")


@cache
def read_recordings() -> dict[str, dict[str, Profile]]:
    """Profiles by recording and network, in the form of ``ProfiledNetwork.finish``; every kernel takes 1 us."""
    recordings: dict[str, dict[str, list[tuple[Event, float]]]] = {}
    for row in _rows():
        recording, network, kind, name, inputs, outputs = row
        arguments = {"op_name": kind, "input_type_shape": _tensors(inputs), "output_type_shape": _tensors(outputs)}
        event = {"name": f"{name}_kernel_time", "args": arguments}
        recordings.setdefault(recording, {}).setdefault(network, []).append((event, 1.0))
    return {name: dict(profiles) for name, profiles in recordings.items()}


def record(recording: str) -> None:
    """Add what runs on this machine to the file."""
    rows = [row for row in _rows() if row[0] != recording] if FILE.exists() else []
    for network, spec in {**networks(), "attention": attention()}.items():
        rows.extend([recording, network, *kernel] for kernel in _kernels(spec))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    FILE.write_bytes(lzma.compress(text.getvalue().encode(), preset=9))


def _rows() -> list[list[str]]:
    with lzma.open(FILE, "rt", encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def _network(name: str, stages: list[list[str]], activation: str, head: HeadSpec | None = None) -> ArchSpec:
    return ArchSpec.from_strings(
        name,
        stages,
        stem=StemSpec(channels=32 if head else 8),
        head=head or HeadSpec(channels=100),
        activation=activation,
        resolution_px=32,
        classes=10,
    )


def _kernels(spec: ArchSpec) -> Iterator[tuple[str, str, str, str]]:
    profile = ProfiledNetwork(spec, threads=1, batch=1, seed=0)
    profile.run()
    for event, _ in profile.finish([1.0]):
        arguments = event["args"]
        shapes = (_text(arguments[f"{end}_type_shape"]) for end in ("input", "output"))
        yield arguments["op_name"], event["name"].removesuffix("_kernel_time"), *shapes


def _text(tensors: list[dict[str, list[int]]]) -> str:
    return " ".join("x".join(map(str, next(iter(tensor.values())))) for tensor in tensors)


def _tensors(text: str) -> list[dict[str, Any]]:
    return [{"float": [int(side) for side in shape.split("x") if side]} for shape in text.split(" ")]


if __name__ == "__main__":
    record(sys.argv[1])
