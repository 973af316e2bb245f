"""A grid after its last training: the answer, the family, tables, plots, report, and what is printed about them."""

from __future__ import annotations

from typing import Any

import optuna
from rich.console import Console

from nas.core.console import print_lines
from nas.methods.scaling.context import ScalingContext
from nas.methods.scaling.dashboard import write_scaling_notes
from nas.methods.scaling.family_files import write_members
from nas.methods.scaling.ranking.ranking import Ranking
from nas.methods.scaling.render import scaling_answer, write_scaling_report
from nas.methods.scaling.session import ScalingSession
from nas.methods.scaling.terminal import cells_table, closing_lines, ranks_table
from nas.study.trial_attributes import trial_records


def conclude_scaling(session: ScalingSession, study: optuna.Study, console: Console) -> Ranking:
    """Write answer, family, tables, plots and report of all that the study holds, and print the answer."""
    context = session.context(study)
    answer = scaling_answer(context, study)
    write_members(answer.members, session.plan.folder, _provenance(context, study))
    report = write_scaling_report(context, study, answer)
    write_scaling_notes(context, study, report)
    if session.is_complete(study):
        session.evaluator.forget_all()
    plan, found = session.plan, answer.found
    console.print(cells_table(plan, answer.table) if answer.table else ranks_table(plan, found))
    print_lines(console, *answer.said, *found.way, *closing_lines(plan, answer.members, trial_records(study)))
    return found


def _provenance(context: ScalingContext, study: optuna.Study) -> dict[str, Any]:
    plan, versions = context.plan, dict(context.versions)
    return {"study": study.study_name, "data": plan.data.name, "command": plan.command, "versions": versions}
