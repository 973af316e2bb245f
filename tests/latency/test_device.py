"""Devices are told apart by everything that changes a latency."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata

import pytest

from nas.arch.errors import NasError
from nas.latency.device import Device, describe
from nas.latency.settings import LatencySettings

from .law import DEVICE


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


@pytest.mark.parametrize("change", [{"processor": "other"}, {"backend_version": "1"}, {"threads": 2}, {"batch": 2}])
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
        ({"ms_per_gmac": float("nan")}, r"latency\.ms_per_gmac nan:"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(fields: dict[str, object], message: str) -> None:
    with pytest.raises(NasError, match=message):
        LatencySettings(**fields)


def test_a_missing_backend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("nas.latency.device.metadata.version", missing)
    with pytest.raises(NasError, match="pip install onnxruntime"):
        describe("onnxruntime")
