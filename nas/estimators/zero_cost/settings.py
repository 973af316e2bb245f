"""Zero-cost settings, validated without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import check_number

SCORE_NAMES: Final = ("naswot", "synflow", "grad_norm", "snip", "jacob_cov", "zen")
LABELLED_SCORES: Final = ("grad_norm", "snip")  # gradients of the cross entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroCostSettings:
    """Which zero-cost scores are computed, and on how many images.

    ``names``: of ``SCORE_NAMES``, each at most once. ``batch_size``: images of the one batch that all networks get.

    Raises: NasError naming the field.
    """

    names: tuple[str, ...] = ("naswot",)
    batch_size: int = 64

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not self.names:
            choices = ", ".join(SCORE_NAMES)
            raise NasError(f"estimator.zero_cost {quoted(self.names)}: must be a list of at least one of {choices}.")
        for name in self.names:
            if name not in SCORE_NAMES:
                raise unknown_choice("estimator.zero_cost", name, SCORE_NAMES)
        if len(set(self.names)) < len(self.names):
            raise NasError(f"estimator.zero_cost {quoted(list(self.names))}: must name each score once.")
        check_number("estimator.zero_cost_batch_size", self.batch_size, low=2, high=100_000, whole=True)
