"""How long tests wait for other processes: beyond what the slowest machine takes, for only what hangs reaches it."""

from __future__ import annotations

from typing import Final

DEADLINE_S: Final = 3600.0
