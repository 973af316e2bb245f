"""Random detectors and segmenters for tests of this room."""

from __future__ import annotations

import random
from itertools import islice

from nas.arch.spec import ArchSpec
from nas.latency.random_networks import random_dense_spec, random_spec


def random_dense_specs(count: int, seed: int = 7) -> list[ArchSpec]:
    """The first ``count`` random networks of ``seed`` that can be detectors or segmenters."""
    drawn = (random_dense_spec(random_spec(seed, index), random.Random(index)) for index in range(10 * count))
    return list(islice((spec for spec in drawn if spec), count))
