"""Where things stand: the checkout, its configurations, published figures, and real data that may not be there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
CONF: Final = ROOT / "conf"
REFERENCE: Final = ROOT / "tests" / "reference"
SHARED_DATA: Final = ROOT.parent / "shared" / "data"
