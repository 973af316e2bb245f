"""The configs of data and proxy say what the settings accept, and the default config is the default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from nas.data.sources import KNOWN_DATA, DataSettings
from nas.estimators.proxy.settings import ProxySettings
from tests.paths import CONF


def read(path: Path) -> dict[str, Any]:
    """The config with its ``default`` beneath, as Hydra composes it, but for the data set that it is composed with."""
    fields: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    return {**read(path.with_name("default.yaml")), **fields} if fields.pop("defaults", None) else fields


@pytest.mark.parametrize("name", ["default", "tiny", "full"])
def test_proxy_configs_are_accepted(name: str) -> None:
    settings = ProxySettings(**read(CONF / "proxy" / f"{name}.yaml"))
    assert (settings == ProxySettings()) == (name == "default")


def test_every_known_data_set_has_a_config() -> None:
    for name in KNOWN_DATA:
        settings = DataSettings(**read(CONF / "data" / f"{name}.yaml"))
        # What a first search needs: the digits are no larger than 8 px and few, everything else is cut short.
        first = {"proxy_resolution_px": 8} if name == "digits" else {"subset": 2000}
        assert settings == DataSettings(name=name, **first)
