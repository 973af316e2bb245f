"""The study manifest, and errors for files that are no manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.core.errors import NasError
from nas.study.manifest import CONFIG_FILE, read_manifest


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", "command, versions, images"),
        ("[command, versions, images]", "command, versions, images"),
        ("images", "command, versions, images"),
        ("{command: nas, images: {}}", "versions"),
    ],
)
def test_a_file_without_what_is_needed_is_told(text: str, missing: str, tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(NasError, match=rf"config\.yaml: {missing} missing; run the study's command again"):
        read_manifest(tmp_path)
