"""Tests of device descriptions and latency settings."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from types import SimpleNamespace

import pytest
import yaml

from nas.core.errors import NasError
from nas.latency.device import Device
from nas.latency.host import describe, driver_version
from nas.latency.settings import BACKENDS, LatencySettings
from tests.latency.synthetic_device import KERNEL_DEVICE as DEVICE
from tests.paths import CONF


def test_this_machine_is_described_by_what_is_installed() -> None:
    device = describe("onnxruntime", threads=2, batch=3)
    assert device.backend_version == metadata.version("onnxruntime")
    assert (device.threads, device.batch, device.precision) == (2, 3, "float32")
    assert device.processor
    for part in (device.processor, "onnxruntime", "2 threads", "batch 3", "float32"):
        assert part in str(device)
    assert device == describe("onnxruntime", threads=2, batch=3)


def test_plain_data_and_back_is_the_same_device_with_the_same_key() -> None:
    again = Device.from_dict(DEVICE.to_dict())
    assert again == DEVICE
    assert again.key == DEVICE.key
    with pytest.raises(NasError, match="field precision is missing"):
        Device.from_dict({name: value for name, value in DEVICE.to_dict().items() if name != "precision"})


@pytest.mark.parametrize(
    "change",
    [{"processor": "other"}, {"backend_version": "1"}, {"threads": 2}, {"batch": 2}, {"precision": "int8"}],
)
def test_any_difference_is_another_key(change: dict[str, object]) -> None:
    assert replace(DEVICE, **change).key != DEVICE.key


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backend": "onxruntime"}, r"latency\.backend 'onxruntime'.*Did you mean 'onnxruntime'\?"),
        ({"threads": 0}, r"latency\.threads 0:"),
        ({"batch": True}, r"latency\.batch true:"),
        ({"seed": -1}, r"latency\.seed -1:"),
        ({"budget_s": 9}, r"latency\.budget_s 9: must be a number of at least 15"),
        ({"precision": "int4"}, r"latency\.precision 'int4': onnxruntime runs float32, int8\.$"),
        (
            {"backend": "torch", "precision": "int8"},
            r"torch runs float32\. int8 is for onnxruntime, litert, openvino\.",
        ),
        ({"backend": "ncnn", "batch": 2}, r"latency\.batch 2: ncnn runs one image at a time; set it to 1\.$"),
        ({"backend": "macs", "precision": "int8"}, r"macs runs float32\."),
        ({"backend": "cuda", "threads": 2}, r"latency\.threads 2: cuda launches its kernels from one thread"),
        ({"ms_per_gmac": float("nan")}, r"latency\.ms_per_gmac nan:"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(fields: dict[str, object], message: str) -> None:
    with pytest.raises(NasError, match=message):
        LatencySettings(**fields)


def test_a_missing_backend_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("nas.latency.host.metadata.version", missing)
    with pytest.raises(NasError, match="pip install onnxruntime"):
        describe("onnxruntime")


@pytest.mark.parametrize(
    "name",
    [
        "cuda",
        "cuda_graph",
        "litert",
        "litert_int8",
        "macs",
        "ncnn",
        "onnxruntime",
        "onnxruntime_int8",
        "openvino",
        "openvino_int8",
        "torch",
    ],
)
def test_configurations_match_their_names(name: str) -> None:
    path = CONF / "latency" / f"{name}.yaml"
    settings = LatencySettings(**yaml.safe_load(path.read_text(encoding="utf-8")))
    backend = name.removesuffix("_int8")
    assert backend in BACKENDS
    assert (settings.backend, settings.precision) == (backend, "int8" if name.endswith("_int8") else "float32")


def test_a_gpu_is_described_by_its_name_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    properties = SimpleNamespace(name="NVIDIA Made-up", multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    device = describe("cuda_graph", batch=32, precision="float16")
    assert (device.processor, device.cores, device.precision) == ("NVIDIA Made-up", 132, "float16")
    versions = f"torch {metadata.version('torch')}, CUDA {torch.version.cuda}, cuDNN 91002, driver "
    assert device.backend_version.startswith(versions)
    assert "NVIDIA Made-up (132 multiprocessors" in str(device)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC version: 12.3.0", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build", "570.86.15"),
        ("", "unknown"),
    ],
)  # fmt: skip
def test_driver_version_is_parsed_from_proc(text: str, version: str) -> None:
    assert driver_version(text) == version
