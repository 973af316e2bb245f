"""What optuna-dashboard shows of a study: notes, attached files, and serving it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.reporting.dashboard.board import ARTIFACTS, DashboardBoard
    from nas.reporting.dashboard.exhibit import TrialNotes, is_up_to_date, publish_study, trial_link
    from nas.reporting.dashboard.notes import Pairs, escape_markdown, link, markdown_rows
    from nas.reporting.dashboard.serving import HOST, make_dashboard
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "board": ["ARTIFACTS", "DashboardBoard"],
            "exhibit": ["TrialNotes", "is_up_to_date", "publish_study", "trial_link"],
            "notes": ["Pairs", "escape_markdown", "link", "markdown_rows"],
            "serving": ["HOST", "make_dashboard"],
        },
    )

__all__ = [
    "ARTIFACTS",
    "HOST",
    "DashboardBoard",
    "Pairs",
    "TrialNotes",
    "escape_markdown",
    "is_up_to_date",
    "link",
    "make_dashboard",
    "markdown_rows",
    "publish_study",
    "trial_link",
]
