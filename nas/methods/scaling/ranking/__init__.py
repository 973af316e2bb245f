"""Ranking of scaled networks: noise between seeds, rounds, significance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.methods.scaling.ranking.conclusion import RaceConclusion
    from nas.methods.scaling.ranking.ranking import RankedNetwork, Ranking
else:
    __getattr__, __dir__ = lazy_exports(
        __name__, {"conclusion": ["RaceConclusion"], "ranking": ["RankedNetwork", "Ranking"]}
    )

__all__ = ["RaceConclusion", "RankedNetwork", "Ranking"]
