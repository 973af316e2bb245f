"""Rule by which a study's trainings are scored and tested, stored when it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nas.analysis.significance import SIGNIFICANCE_LEVEL

_KEPT: Final = 0.2  # share of the level that is kept for seeds beyond the planned ones
_POWER: Final = 3  # of the spending function: most of the level is left for the last tests, which have the most seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceRule:
    """Rule by which a study's trainings are scored and tested.

    A training's accuracy is the mean over its ``last_epochs``. ``planned_seeds``: number of seeds that the tests of a
    race share the 5% level for (``level``); None: every test has 5%, as in comparisons, which have one. Studies of
    version 0.1 have the defaults.
    """

    last_epochs: int = 1
    planned_seeds: int | None = None

    @property
    def has_final_tests(self) -> bool:
        """Whether what a test of the race decides is final."""
        return self.planned_seeds is not None

    def level(self, seeds: int) -> float:
        """Significance level of the test after ``seeds`` rounds, of which the second has the first test.

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
