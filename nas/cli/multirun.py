"""Running one study or, with ``--multirun``, one per combination of values.

A comparison of the studies is printed at the end.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException

from nas.cli import app, hydra_config
from nas.cli.help_layout import HelpEntry
from nas.core.credentials import mask_words
from nas.core.errors import NasError
from nas.core.streams import write_error, write_lines
from nas.study.kind import StudyKind

_FLAGS: Final = ("--multirun", "-m")
_NAME: Final = "study.name"


# Help entries shared by the commands that run studies.
STORAGE_HELP: Final = (
    (
        "study.storage study.patience_s",
        "sqlite:///FILE journal:///FILE postgresql://... mysql://... grpc://HOST:PORT, and how long to retry it",
    ),
)
LIMITS_HELP: Final = (
    ("constraint.latency_ms constraint.macs_m constraint.params_m constraint.peak_memory_mb", "upper limits"),
)
WORKERS_HELP: Final = (
    ("engine.workers engine.address", "parallel trainings; a Ray cluster"),
    (
        "engine.max_retries engine.trial_timeout_s engine.trial_memory_mb",
        "retries after a worker dies, and limits per trial",
    ),
)


class Job(NamedTuple):
    """One study of a multirun: its overrides, and the swept ones by key."""

    overrides: tuple[str, ...]
    swept: Mapping[str, str]


class StudyCommand(NamedTuple):
    """A command that runs studies: configuration, plan factory, study kind.

    ``make_plan`` checks the overrides and returns the plan.
    """

    config_name: str
    make_plan: Callable[[list[str]], Any]
    kind: StudyKind
    help_text: Callable[[], str]


def run_studies(arguments: Sequence[str], command: StudyCommand) -> int:
    """Run ``command`` with ``arguments``: an option, one study, or several.

    Returns the exit code.

    Raises: NasError.
    """
    several, rest = split_multirun_flag(arguments)
    if app.answer_option(command.config_name, rest, command.help_text):
        return 0
    return (run_each if several else run_one)(rest, command)


def multirun_options(several: str) -> tuple[HelpEntry, ...]:
    """Options of commands that run studies; ``several``: an example sweep."""
    return (
        ("json=true", "results as one JSON object on stdout, all else on stderr"),
        ("--multirun, -m", f"one study per combination of values: {several}"),
    )


def split_multirun_flag(arguments: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether ``--multirun`` is given, and the other arguments."""
    rest = [argument for argument in arguments if argument not in _FLAGS]
    return len(rest) < len(arguments), rest


def run_one(arguments: Sequence[str], command: StudyCommand) -> int:
    """Run the study that ``arguments`` configure; return the exit code.

    Raises: NasError.
    """
    plan, as_json = command.make_plan(list(arguments)), _wants_json(arguments, command)
    code = app.launch_study(plan, command.kind, to_stderr=as_json)
    if as_json:
        _print_comparison([plan], as_json=True)
    return code


def run_each(arguments: Sequence[str], command: StudyCommand) -> int:
    """Run one study per combination of values, after checking all plans.

    Finished studies are skipped, a study that fails does not stop the others, and Ctrl-C stops them all. Returns the
    exit code: 2 if a study failed, 130 after Ctrl-C. Raises: NasError for errors found in advance.
    """
    combinations = jobs(arguments)
    plans = _plans(combinations, command.make_plan)
    as_json = _wants_json(combinations[0].overrides, command)
    stream = sys.stderr if as_json else sys.stdout
    started, worst = [], 0
    for number, plan in enumerate(plans, start=1):
        head = f"[{number}/{len(plans)}] {plan.name}"
        try:
            if command.kind.is_finished(plan):
                write_lines(f"{head}: already finished", stream=stream)
                code = 0
            else:
                write_lines(head, stream=stream)
                code = app.launch_study(plan, command.kind, to_stderr=as_json)
        except NasError as error:
            write_error(f"error: {error}")
            worst = app.EXIT_USAGE
            continue
        started.append(plan)
        if code == app.EXIT_INTERRUPTED:
            worst = code
            break
    if started:
        _print_comparison(started, as_json=as_json)
    return worst


def jobs(arguments: Sequence[str]) -> list[Job]:
    """All combinations of Hydra sweep values in ``arguments``, last fastest.

    Raises: NasError for what Hydra cannot read, and if nothing has several values.
    """
    given = [hydra_config.normalize_override(argument) for argument in arguments]
    hydra_config.check_form(given)
    alternatives = [_alternatives(text) for text in given]
    if all(len(values) == 1 for values in alternatives):
        raise NasError("--multirun: no setting has several values; add some, such as study.seed=0,1,2.")
    return [
        Job(
            tuple(override for override, _ in chosen),
            {override.partition("=")[0].lstrip("+"): value for override, value in chosen if value is not None},
        )
        for chosen in itertools.product(*alternatives)
    ]


def _alternatives(text: str) -> list[tuple[str, str | None]]:
    """Expand a sweep override into (override, swept value) pairs.

    The swept value is None for an override with a single value. Raises: NasError.
    """
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise hydra_config.unreadable_override(text, " ".join(str(error).split())) from None
    if not override.is_sweep_override():
        return [(text, None)]
    if not override.is_discrete_sweep():
        raise NasError(f"{text!r}: infinitely many values; list them one by one.")
    key, value = override.get_key_element(), override.value()
    if isinstance(value, Glob):
        values = value.filter(hydra_config.choices(key.lstrip("+")))
        if not values:
            raise NasError(f"{text!r}: matches none of {', '.join(hydra_config.choices(key.lstrip('+')))}.")
    else:
        values = list(override.sweep_string_iterator())
    return [(f"{key}={item}", item) for item in values]


def distinct_names(names: Sequence[str], swept: Sequence[Mapping[str, str]]) -> list[str]:
    """Study names made unique by their swept values: ``mixnet-mnist_5k-seed1``.

    Only as many swept values are appended as distinguish the studies.

    They do not depend on the order of the settings nor, as long as there are several, on how many values they have.
    """
    distinct = list(names)
    for key in sorted(set().union(*swept)):
        values: dict[str, set[str]] = {}
        for name, job in zip(distinct, swept, strict=True):
            values.setdefault(name, set()).add(job[key])
        if max(map(len, values.values())) > 1:
            group, _, leaf = key.rpartition(".")
            shown = [mask_words([f"{key}={job[key]}"])[0].partition("=")[2] for job in swept]
            suffixes = [f"{leaf if group else ''}{value}" for value in shown]
            distinct = [
                f"{name}-{re.sub('[^A-Za-z0-9._-]+', '_', text)}" for name, text in zip(distinct, suffixes, strict=True)
            ]
    return distinct


def _plans(combinations: Sequence[Job], make_plan: Callable[[list[str]], Any]) -> list[Any]:
    """Build a checked plan per job, with distinct names. Raises: NasError."""
    plans = [make_plan(list(job.overrides)) for job in combinations]
    names = distinct_names([plan.name for plan in plans], [job.swept for job in combinations])
    if len(set(names)) < len(names):
        raise NasError(f"--multirun: two studies would be named {max(names, key=names.count)!r}; give each value once.")
    return [
        plan if name == plan.name else make_plan([*_without_name(job.overrides), f"{_NAME}={name}"])
        for plan, name, job in zip(plans, names, combinations, strict=True)
    ]


def _without_name(overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if override.partition("=")[0] != _NAME]


def _wants_json(overrides: Sequence[str], command: StudyCommand) -> bool:
    return bool(hydra_config.compose_config(command.config_name, overrides)["json"])


def _print_comparison(plans: Sequence[Any], *, as_json: bool) -> None:
    """Print a comparison of the studies of ``plans``."""
    from nas.cli.compare_studies import compare_studies
    from nas.cli.resolve.studies import resolve_study

    studies = [resolve_study(plan.name, plan.runs_dir, plan.study.storage) for plan in plans]
    comparison = compare_studies(studies)
    if as_json:
        write_lines(comparison.json())
    else:
        write_lines("")
        comparison.print()
