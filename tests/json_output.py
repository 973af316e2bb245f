"""What a command answers with json=true: one line and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

MS_PER_GMAC = 30  # conf/latency/macs.yaml


def json_answer(
    command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> dict[str, Any]:
    """The answer of ``command`` to ``arguments``."""
    assert command([*arguments, "json=true"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    data = json.loads(out)
    assert isinstance(data, dict)
    return data
