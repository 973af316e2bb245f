"""Settings of how a search estimates accuracy, validated without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, unknown_choice
from nas.core.validation import check_number
from nas.estimators.proxy.settings import ProxySettings
from nas.estimators.supernet.settings import ADDED_SETTINGS, FINE_TUNING_FIELDS, SupernetSettings, without_defaults
from nas.estimators.zero_cost.settings import ZeroCostSettings

ESTIMATOR_NAMES: Final = ("proxy", "zero_cost", "supernet")
LEAST_ANCHORS: Final = 4
_MAX_TRAININGS: Final = 10_000
_MAX_EPOCHS: Final = 1_000_000
_AFTER_SEARCH: Final = ("finalists", "checks")
_ADDED_SETTINGS: Final = {"short_epochs": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatorSettings:
    """How a search estimates the accuracy of its candidates.

    ``name``: ``proxy`` trains a proxy of each. With ``zero_cost`` the first ``anchors`` candidates are trained as
    proxies and all others are scored without training; their accuracy is estimated from the scores, as learned from the
    anchors. After the search the ``finalists`` best by estimate are trained, and ``checks`` random ones of the others
    (None: as many as finalists), by which the report says whether the estimate orders networks. ``supernet`` is the
    same with scores by inherited weights besides, of a supernet that is trained before the first candidate.

    ``zero_cost`` and ``zero_cost_batch_size``: ``names`` and ``batch_size`` of ``ZeroCostSettings``; no names: no such
    scores, with ``supernet`` alone. ``supernet``: fields of ``SupernetSettings``. ``short_epochs``: every network is
    scored by the validation loss after a training of so many epochs besides; 0: none.

    Raises: NasError naming the field.
    """

    name: str = "proxy"
    anchors: int = 6
    finalists: int = 4
    checks: int | None = None
    zero_cost: tuple[str, ...] = ZeroCostSettings().names
    zero_cost_batch_size: int = ZeroCostSettings().batch_size
    supernet: SupernetSettings = field(default_factory=SupernetSettings)
    short_epochs: int = 0

    def __post_init__(self) -> None:
        if self.name not in ESTIMATOR_NAMES:
            raise unknown_choice("estimator.name", self.name, ESTIMATOR_NAMES)
        check_number("estimator.anchors", self.anchors, low=LEAST_ANCHORS, high=_MAX_TRAININGS, whole=True)
        check_number("estimator.finalists", self.finalists, low=0, high=_MAX_TRAININGS, whole=True)
        check_number("estimator.checks", self.checks, low=0, high=_MAX_TRAININGS, whole=True, optional=True)
        check_number("estimator.short_epochs", self.short_epochs, low=0, high=_MAX_EPOCHS, whole=True)
        if isinstance(self.zero_cost, list):
            object.__setattr__(self, "zero_cost", tuple(self.zero_cost))
        if not isinstance(self.supernet, SupernetSettings):
            object.__setattr__(self, "supernet", from_mapping(SupernetSettings, self.supernet, "estimator.supernet"))
        _ = self.zero_cost_settings

    @property
    def is_scoring(self) -> bool:
        """Whether most candidates are scored instead of trained."""
        return self.name != "proxy"

    @property
    def most_final_trainings(self) -> int:
        """Upper bound on the trainings after the search: finalists and checks."""
        checks = self.finalists if self.checks is None else self.checks
        return self.finalists + checks if self.is_scoring else 0

    @property
    def zero_cost_settings(self) -> ZeroCostSettings | None:
        """Settings of the zero-cost scores; None without them. Raises: NasError."""
        if self.name == "supernet" and not self.zero_cost:
            return None
        return ZeroCostSettings(names=self.zero_cost, batch_size=self.zero_cost_batch_size)

    def check_fits(self, n_trials: int, pruner: str, proxy: ProxySettings) -> None:
        """Check that a search of ``n_trials`` with ``pruner`` and ``proxy`` fits.

        Raises: NasError.
        """
        if not self.is_scoring:
            return
        if self.anchors >= n_trials:
            lower = "lower estimator.anchors, " if n_trials > LEAST_ANCHORS else ""
            raise NasError(
                f"estimator.anchors {self.anchors}: leaves nothing to score of study.n_trials {n_trials}; raise "
                f"study.n_trials, {lower}or add estimator=proxy to train every candidate."
            )
        if pruner != "none":
            raise NasError(
                f"pruner.name {pruner!r}: stops trainings by their epochs; with estimator={self.name} most candidates "
                "have none, and those that are trained calibrate and check the estimate; add estimator=proxy to train "
                "every candidate, or pruner=none."
            )
        if self.short_epochs:
            self._check_short_epochs(proxy)

    def _check_short_epochs(self, proxy: ProxySettings) -> None:
        """Check that short trainings are shorter than ``proxy.epochs``. Raises: NasError."""
        if self.short_epochs >= proxy.epochs:
            raise NasError(
                f"estimator.short_epochs {self.short_epochs}: must be less than proxy.epochs {proxy.epochs}, or a "
                "score costs what a training does; lower it, raise proxy.epochs, or add estimator.short_epochs=0."
            )
        if self.short_epochs < proxy.warmup_epochs:
            raise NasError(
                f"estimator.short_epochs {self.short_epochs}: must be at least proxy.warmup_epochs "
                f"{proxy.warmup_epochs:g}; raise it, or lower proxy.warmup_epochs."
            )

    def identity(self) -> dict[str, Any]:
        """Settings that must not change within a study; empty for ``proxy``.

        Studies of versions without estimators have none, those of versions without short trainings no
        ``short_epochs``. Finalists and checks are trained after the search and may be increased later; winners are
        fine-tuned after it.
        """
        if not self.is_scoring:
            return {}
        settings = {name: value for name, value in asdict(self).items() if name not in _AFTER_SEARCH}
        supernet = settings.pop("supernet")
        settings = without_defaults(settings, _ADDED_SETTINGS)
        if self.name != "supernet":
            return settings
        of_training = {name: value for name, value in supernet.items() if name not in FINE_TUNING_FIELDS}
        return {**settings, "supernet": without_defaults(of_training, ADDED_SETTINGS)}
