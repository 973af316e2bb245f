"""Settings groups of a scaling study: grid, rules, tables, and race over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from nas.arch.limits import MAX_FACTOR, MAX_RESOLUTION_PX
from nas.arch.scaling.compound import ALPHAS, BETAS, GAMMAS
from nas.arch.scaling.rules import DIRECTIONS
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import check_number

TARGETS: Final = ("macs", "latency")
STEPWISE: Final = "stepwise"
COMPARED: Final = (*DIRECTIONS, "compound", "dwr", STEPWISE)
WIDTH_LINES, WIDTH_RESOLUTION = "width_lines", "width_resolution"
TABLES: Final = (WIDTH_LINES, WIDTH_RESOLUTION)
# For width_lines, wide enough that the first line reaches the cost at which the last one begins.
WIDTHS: Final = {WIDTH_LINES: (1.0, 1.5, 2.2), WIDTH_RESOLUTION: (1.0, 0.75, 0.5, 0.25)}
ACCURACY, VAL_LOSS = "accuracy", "val_loss"
MAX_SEEDS: Final = 10_000
SIDES: Final = (7, 6, 5, 4)  # sevenths of the baseline's side: 224, 192, 160 and 128 px for 224 px


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSettings:
    """Grid of triples ``alpha`` x ``beta`` x ``gamma`` and the cost it accepts.

    A triple is taken if its growth is within ``tolerance`` of 2 per unit of phi. ``realised_tolerance``: the same for
    the growth after rounding; triples beyond it are not trained, because a costlier network wins by its cost (None:
    train them all).
    """

    alpha: tuple[float, ...] = ALPHAS
    beta: tuple[float, ...] = BETAS
    gamma: tuple[float, ...] = GAMMAS
    tolerance: float = 0.1
    realised_tolerance: float | None = 0.25

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            values = getattr(self, name)
            for value in _listed(f"grid.{name}", values, "factors, such as [1.0, 1.1, 1.2]", optional=False):
                check_number(f"grid.{name}", value, low=1, high=MAX_FACTOR)
            object.__setattr__(self, name, tuple(sorted({float(value) for value in values})))
        check_number("grid.tolerance", self.tolerance, low=0)
        check_number("grid.realised_tolerance", self.realised_tolerance, low=0, optional=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSettings:
    """Multipliers of a table's networks.

    ``widths``: multipliers on each line; None: the default ones of the selected table. ``starts``: (depth, resolution)
    multipliers of the baseline at which the lines of ``width_lines`` begin. ``resolution_px``: input sides of
    ``width_resolution``; None: MobileNetV1's fractions of the baseline's.
    """

    widths: tuple[float, ...] | None = None
    starts: tuple[tuple[float, float], ...] = ((1.0, 1.0), (1.0, 1.3), (2.0, 1.0), (2.0, 1.3))
    resolution_px: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for width in _listed("table.widths", self.widths, "multipliers, such as [1.0, 1.4]", optional=True):
            check_number("table.widths", width, low=0, high=MAX_FACTOR, open_low=True)
        for side in _listed(
            "table.resolution_px", self.resolution_px, "input sides, such as [224, 160]", optional=True
        ):
            check_number("table.resolution_px", side, low=1, high=MAX_RESOLUTION_PX, whole=True)
        pairs = "[depth, resolution] multipliers, such as [[1, 1], [2, 1.3]]"
        for pair in _listed("table.starts", self.starts, pairs, optional=False):
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise NasError(f"table.starts {quoted(pair)}: must be a list of {pairs}.")
            for factor in pair:
                check_number("table.starts", factor, low=0, high=MAX_FACTOR, open_low=True)
        for name in ("widths", "resolution_px"):
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(dict.fromkeys(values)))
        object.__setattr__(self, "starts", tuple(dict.fromkeys(map(tuple, self.starts))))


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceSettings:
    """Number of trainings per network: one each, then up to ``seeds`` for the best.

    ``finalists``: the best of the first round, which get a second training whatever the noise; from the third on, only
    those get one that are statistically indistinguishable from the best (Tukey-Kramer). ``stop_share``: in the first
    round a training ends halfway if its accuracy is among the lowest ``stop_share`` there, once four others reached
    that epoch; 0 disables stopping. ``min_power``: the race ends where no finalist has this chance of being separated
    from the best within ``seeds``; 0 trains all seeds all the same. ``last_epochs``: a training's accuracy is the mean
    over its last ones, as many; None: the last third, at least one. ``criterion``: what networks are compared by,
    ``accuracy`` or ``val_loss``.
    """

    seeds: int = 3
    finalists: int = 4
    stop_share: float = 0.25
    min_power: float = 0.1
    last_epochs: int | None = None
    criterion: str = ACCURACY

    def __post_init__(self) -> None:
        check_number("race.seeds", self.seeds, low=1, high=MAX_SEEDS, whole=True)
        check_number("race.finalists", self.finalists, low=2, whole=True)
        check_number("race.stop_share", self.stop_share, low=0, high=1, open_high=True)
        check_number("race.min_power", self.min_power, low=0, high=1, open_high=True)
        if self.criterion not in (ACCURACY, VAL_LOSS):
            raise unknown_choice("race.criterion", self.criterion, (ACCURACY, VAL_LOSS))
        check_number("race.last_epochs", self.last_epochs, low=1, whole=True, optional=True)

    def averaged_epochs(self, epochs: int) -> int:
        """Number of last epochs of all ``epochs`` that are averaged."""
        return self.last_epochs or max(1, epochs // 3)


def compared_of(value: object) -> tuple[str, ...]:
    """Parse ``compare``: null, a list of rules, or the name of one table.

    Raises: NasError for anything else.
    """
    if value is None:
        return ()
    if isinstance(value, str) and value in TABLES:
        return (value,)
    if not isinstance(value, list) or not value:
        lists = "a list such as [depth,width,resolution,compound]"
        raise NasError(f"compare {quoted(value)}: must be {lists}, one of {', '.join(TABLES)}, or null.")
    return tuple(str(name) for name in value)


def _listed(field: str, value: object, what: str, *, optional: bool) -> list[Any]:
    """Items of a non-empty list; empty for null where ``optional``. Raises: NasError."""
    if optional and value is None:
        return []
    if not isinstance(value, list | tuple) or not value:
        raise NasError(f"{field} {quoted(value)}: must be a list of {what}.")
    return list(value)
