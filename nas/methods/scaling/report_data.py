"""``report.html`` of a grid: the answer, accuracy over cost, the surface, the family, and every training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from nas.methods.scaling.family_files import FamilyMember
from nas.methods.scaling.plots import network_row_id
from nas.methods.scaling.ranking.columns import GROWTH_COLUMNS, ranking_columns, training_columns
from nas.methods.scaling.ranking.noise import pooled_noise
from nas.methods.scaling.ranking.ranking import Ranking
from nas.methods.scaling.ranking.rounds import rank_means
from nas.methods.scaling.trial_attributes import LABEL_ATTRIBUTE, accuracies_of
from nas.reporting.columns import select
from nas.reporting.html_page import template
from nas.study.trial_record import TrialRecord

if TYPE_CHECKING:
    import optuna
    from jinja2 import Template

_NETWORK_COLUMNS: Final = (
    "network", "accuracy", "standard_error", "seeds", "p_value", "macs_m", "latency_ms",
    *(column.name for column in GROWTH_COLUMNS), "verdict",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingReport:
    """Everything that a grid's report says.

    ``command`` goes on with the study. ``facts``: pairs of name and value. ``plots``: caption to SVG. ``trainings``:
    label and row of every trial. ``noun``: what a network stands for: a triple, a rule, or nothing but a network.
    """

    title: str
    command: str
    facts: tuple[tuple[str, str], ...]
    summary: str
    standings: Ranking
    notes: tuple[str, ...]
    plots: Mapping[str, str]
    members: tuple[FamilyMember, ...]
    trainings: tuple[tuple[str, TrialRecord], ...]
    noun: str


def render_scaling_report(data: ScalingReport) -> str:
    """The whole page as text, with no address to fetch anything from."""
    return _template().render(
        data=data,
        summary=data.summary,
        network_columns=select(ranking_columns(data.noun), *_NETWORK_COLUMNS),
        training_columns=training_columns(),
    )


@cache
def _template() -> Template:
    return template("nas.methods.scaling", "compound.html", {"row_id": network_row_id})


def best_network_facts(study: optuna.Study) -> list[dict[str, Any]]:
    """The network of the highest mean accuracy in ``study`` as plain data, as the report names it.

    Of stepwise expansion a network of an earlier step may be the best.
    """
    accuracies = accuracies_of(study)
    found = rank_means(accuracies, pooled_noise(accuracies))
    if found is None:
        return []
    values = accuracies[found.best]
    trials = study.get_trials(deepcopy=False)
    attributes = next(trial.user_attrs for trial in trials if trial.user_attrs.get(LABEL_ATTRIBUTE) == found.best)
    return [
        {
            "name": found.best,
            "arch_id": attributes.get("arch_id"),
            "accuracy": fmean(values),
            "latency_ms": attributes.get("latency_ms"),
            "seeds": len(values),
        }
    ]
