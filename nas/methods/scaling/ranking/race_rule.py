"""Rule by which a study's trainings are scored and tested, stored when it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nas.analysis.significance import SIGNIFICANCE_LEVEL
from nas.methods.scaling.settings import ACCURACY

_KEPT: Final = 0.2  # share of the level that is kept for seeds beyond the planned ones
_POWER: Final = 3  # of the spending function: most of the level is left for the last tests, which have the most seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceRule:
    """Rule by which a study's trainings are scored and tested.

    A training's accuracy and validation loss are means over its ``last_epochs``; networks are compared by the
    ``criterion``, one of them. ``planned_seeds``: number of seeds that the tests of a
    race share the 5% level for (``level``); None: every test has 5%, as in comparisons, which have one. Studies of
    version 0.1 have the defaults.
    """

    last_epochs: int = 1
    planned_seeds: int | None = None
    criterion: str = ACCURACY

    @property
    def has_final_tests(self) -> bool:
        """Whether what a test of the race decides is final."""
        return self.planned_seeds is not None

    @property
    def is_by_accuracy(self) -> bool:
        """Whether networks are compared by accuracy, and not by validation loss."""
        return self.criterion == ACCURACY

    def difference_text(self, difference: float) -> str:
        """A ``difference`` of two networks in words: points of accuracy, or nats."""
        return f"{100 * difference:.2f} points" if self.is_by_accuracy else f"{difference:.3f} nats"

    def level(self, seeds: int) -> float:
        """Significance level of the test after ``seeds`` rounds, from two on.

        Levels add up to at most 5% over all tests, so that by Bonferroni's inequality the probability of a false
        decision anywhere in the race is at most 5%, whatever tests came before and however often ``race.seeds`` is
        raised. They are the steps of a spending function (Lan and DeMets 1983) of the power family (Kim and DeMets
        1987), 4% (n / N)^3 up to the N planned seeds, and of 5% - 1% N / n beyond: with three seeds 1.2% and 2.8%.
        """
        if self.planned_seeds is None or seeds < 2:
            return SIGNIFICANCE_LEVEL
        before = self._spent(seeds - 1) if seeds > 2 else 0.0
        return SIGNIFICANCE_LEVEL * (self._spent(seeds) - before)

    def _spent(self, seeds: int) -> float:
        """Share of the level that the tests up to ``seeds`` rounds spend."""
        planned = max(2, self.planned_seeds or 0)
        if seeds > planned:
            return 1 - _KEPT * planned / seeds
        return float((1 - _KEPT) * (seeds / planned) ** _POWER)
