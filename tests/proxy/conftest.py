"""Real data that the proxy's tests share."""

from __future__ import annotations

import pytest

from nas.proxy.data import ImageData, load
from nas.proxy.sources import DataSettings


@pytest.fixture(scope="session")
def digits() -> ImageData:
    """Real handwritten digits at 16 px."""
    return load(DataSettings(name="digits", resolution_px=16))
