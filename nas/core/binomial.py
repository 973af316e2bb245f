"""Binomial statistics of a share of trials, such as the accuracy on N images."""

from __future__ import annotations

import math


def binomial_error(share: float, trials: int) -> float:
    """Standard error of a ``share`` of ``trials``: sqrt(p (1 - p) / n).

    A share of 0 or 1 counts as half a trial away from it: no finite sample makes it certain.
    """
    clipped = min(max(share, 0.5 / trials), 1 - 0.5 / trials)
    return math.sqrt(clipped * (1 - clipped) / trials)


def binomial_tail(successes: int, trials: int, share: float) -> float:
    """Upper tail of a binomial: the probability of at least ``successes``.

    Of ``trials`` independent trials, each with success probability ``share``, in (0, 1).
    """
    if successes <= 0:
        return 1.0
    log_all = math.lgamma(trials + 1)
    return math.fsum(
        math.exp(
            log_all
            - math.lgamma(count + 1)
            - math.lgamma(trials - count + 1)
            + count * math.log(share)
            + (trials - count) * math.log1p(-share)
        )
        for count in range(successes, trials + 1)
    )
