"""Seeds that separate two networks, and the chance that the remaining ones will."""

from __future__ import annotations

import math
from typing import Final

from nas.analysis.significance import deviations_to_separate
from nas.core.formatting import plural
from nas.methods.scaling.ranking.noise import Noise
from nas.methods.scaling.ranking.race_rule import RaceRule
from nas.methods.scaling.settings import MAX_SEEDS

_VERSION_0_1: Final = RaceRule()


def seeds_to_separate(noise: Noise, difference: float, rule: RaceRule = _VERSION_0_1) -> int | None:
    """Seeds of each of two networks at which their ``difference`` is significant.

    If it is as large as it was measured, with a power of 80%: the smallest n with
    ``difference`` >= ``deviation`` / sqrt(n) * (q + sqrt(2) * 0.84), where q is Tukey's quantile at the level of the
    test after n rounds. None if that is more than ``race.seeds`` may be, or if there is no difference or no noise.
    """
    if difference <= 0 or not noise.freedom or not noise.deviation:
        return None
    seeds, wanted = 0, 2
    while seeds < wanted <= MAX_SEEDS:  # the level falls as seeds are added: it rises to the smallest solution
        seeds = wanted
        distance = deviations_to_separate(noise.networks, rule.level(seeds))
        wanted = math.ceil((noise.deviation * distance / difference) ** 2)
    return seeds if wanted <= seeds else None


def seeds_text(seeds: int | None) -> str:
    """What ``seeds_to_separate`` returns, in words."""
    return f"about {plural(seeds, 'seed')}" if seeds else f"more than {MAX_SEEDS:,} seeds"


def chance_to_separate(
    noise: Noise, difference: float, *, seeds: int, most: int, more_per_round: int, rule: RaceRule
) -> float:
    """Probability that two networks are significantly different after ``most`` seeds.

    Given that their means over ``seeds`` seeds each differ by ``difference``. This is the predictive power of
    Spiegelhalter, Freedman and Blackburn (1986): the true difference is normally distributed about the measured one,
    with its standard error, and the trainings to come about the true one. The difference of the means at the end has
    then the variance 2 s^2 (1 / seeds - 1 / most). ``more_per_round``: trainings of a round, which the noise s is
    estimated from as well.
    """
    left = most - seeds
    future = Noise(deviation=noise.deviation, freedom=noise.freedom + left * more_per_round, networks=noise.networks)
    critical = future.critical_difference(rule.level(most), 2 / most)
    if critical is None:
        return 0.0
    spread = noise.deviation * math.sqrt(2 * (1 / seeds - 1 / most))
    if not spread:
        return float(difference > critical)
    return 0.5 * math.erfc((critical - difference) / (math.sqrt(2) * spread))
