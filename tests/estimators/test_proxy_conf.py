"""Proxy and data configs are valid; the default config equals the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from nas.data.sources import KNOWN_DATA, DataSettings
from nas.estimators.proxy.settings import ProxySettings
from tests.paths import CONF


def read(path: Path) -> dict[str, Any]:
    """Merge a config over its ``default.yaml`` as Hydra does; ignore group overrides."""
    fields: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    return {**read(path.with_name("default.yaml")), **fields} if fields.pop("defaults", None) else fields


@pytest.mark.parametrize("name", ["default", "careful", "tiny", "compound", "full"])
def test_proxy_configs_are_accepted(name: str) -> None:
    settings = ProxySettings(**read(CONF / "proxy" / f"{name}.yaml"))
    assert (settings == ProxySettings()) == (name == "default")


def test_every_known_data_set_has_a_config() -> None:
    for name in KNOWN_DATA:
        settings = DataSettings(**read(CONF / "data" / f"{name}.yaml"))
        # Defaults of a first search: digits are 8 px and few images; other data sets are subsampled.
        first: dict[str, Any] = {"proxy_resolution_px": 8} if name == "digits" else {"subset": 2000}
        if name == "mnist_5k":  # few images in all: more of them for validation
            first = {"val_fraction": 0.4}
        assert settings == DataSettings(name=name, **first)
