"""Classes and normalisation as the metadata of an exported file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nas.arch.inputs import input_facts as input_facts
from nas.arch.spec import ArchSpec


def input_metadata(spec: ArchSpec, provenance: Mapping[str, Any] | None) -> dict[str, str]:
    """``input_facts`` as JSON text by name, for formats whose metadata are text.

    Raises: NasError as ``input_facts``.
    """
    return {name: json.dumps(value) for name, value in input_facts(spec, provenance).items()}
