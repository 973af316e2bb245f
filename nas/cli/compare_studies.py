"""Comparison of studies: trials, accuracy, Pareto front, time, winners.

It also reports whether the studies are comparable at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from nas.analysis.history import ReferencePoint, accuracy_and_ms, busy_hours, hypervolume
from nas.arch.heads.task_scores import TASK_SCORES, TaskScore, with_score_name
from nas.cli.compare_output import Comparison
from nas.cli.resolve.studies import FoundStudy
from nas.core.formatting import MISSING, decimal, percent, shown_path
from nas.latency.store import read_device, read_speed
from nas.methods import kind_of
from nas.study.manifest import PREDICTOR_FILE, REPORT_FILE
from nas.study.storage.attributes import system_attributes
from nas.study.storage.opening import study_identity
from nas.study.trial_attributes import trial_records
from nas.study.trial_record import TrialRecord, count_outcomes, trained_networks

_COLUMNS: Final = (
    "study", "trained", "scored", "stopped", "infeasible", "repeated", "failed", "running", "best", "at ms",
    "volume", "clock min", "CPU min",
)  # fmt: skip
_DISPENSABLE: Final = ("scored", "stopped", "repeated", "failed", "running", "clock min", "infeasible")
_WINNERS_SHOWN: Final = 5
# Accuracies or latencies of studies that differ in these settings are not comparable.
_COMPARABILITY_PREFIXES: Final = ("objective.task", "data.", "proxy.", "latency.")


class _StudyData(NamedTuple):
    """A study to compare: identity settings, trial records, device.

    ``identity``: settings by dotted name that the study was started with.
    """

    label: str
    found: FoundStudy
    identity: Mapping[str, Any]
    rows: Sequence[TrialRecord]
    device: str

    @property
    def score(self) -> TaskScore:
        """What accuracies are; known before the first trial."""
        return TASK_SCORES[self.identity.get("objective.task", "classification")]

    @property
    def points(self) -> list[tuple[float, float]]:
        """Accuracy and latency in ms of all trained networks."""
        return [accuracy_and_ms(row) for row in trained_networks(self.rows)]


def compare_studies(studies: Sequence[FoundStudy]) -> Comparison:
    """Compare ``studies`` in their current state, read-only.

    Hypervolumes are shares of the rectangle between a common reference point, the lowest accuracy and the highest
    latency of any trained network, and the best of both. They are None where data, proxy or device differ.
    Raises: NasError.
    """
    compared = [_study_data(found, label) for found, label in zip(studies, _labels(studies), strict=True)]
    differing = _differing(compared)
    points = [point for one in compared for point in one.points]
    reference = None
    if points and not differing:
        reference = ReferencePoint(min(high for high, _ in points), max(slow for _, slow in points))
    whole = (
        hypervolume([(max(high for high, _ in points), min(slow for _, slow in points))], reference) if reference else 0
    )
    records = [
        {**_record(one), "hypervolume": hypervolume(one.points, reference) / whole if reference and whole else None}
        for one in compared
    ]
    return Comparison(
        kind="studies",
        records=records,
        columns=_COLUMNS,
        rows=[_cells(record) for record in records],
        dispensable=_DISPENSABLE,
        remarks=[*_remarks(compared, reference, differing), *map(_winners_line, records)],
        shared={"reference": reference._asdict() if reference else None, "differing": differing},
        facts=[(one.label, f"{shown_path(one.found.folder)}; {one.device}") for one in compared],
    )


def _study_data(found: FoundStudy, label: str) -> _StudyData:
    identity = study_identity(system_attributes(found.study))
    predictor_file = found.folder / PREDICTOR_FILE
    device = (
        str(read_device(predictor_file)) if predictor_file.is_file() else str(identity.get("latency.device", "unknown"))
    )
    speed = read_speed(predictor_file) if predictor_file.is_file() else None
    if speed and speed.moved:  # two studies of latency.speed=now may have found two speeds
        identity = {**identity, "latency.speed": f"now, {speed.moved:.2f} times the calibration's latency"}
        device = f"{device}, latency.speed={identity['latency.speed']}"
    return _StudyData(label, found, identity, trial_records(found.study, _val_images(found)), device)


def _val_images(found: FoundStudy) -> int | None:
    return found.manifest.images.val if found.manifest else None


def _labels(studies: Sequence[FoundStudy]) -> list[str]:
    """Study names; folders where two names are equal."""
    names = [found.study.study_name for found in studies]
    return [
        shown_path(found.folder) if names.count(name) > 1 else name for found, name in zip(studies, names, strict=True)
    ]


def _record(one: _StudyData) -> dict[str, Any]:
    """A study as plain data."""
    report = one.found.folder / REPORT_FILE
    hours = busy_hours(one.found.study.get_trials(deepcopy=False))
    trained, kind = trained_networks(one.rows), kind_of(one.identity, one.label)
    best = max(trained, key=lambda row: (row.accuracy or 0.0, -(row.latency_ms or 0.0)), default=None)
    return {
        "name": one.label,
        "folder": str(one.found.folder),
        "report": str(report) if report.is_file() else None,
        "kind": kind.name,
        **{outcome.value: count for outcome, count in count_outcomes(one.rows).items()},
        "score": one.score.metric,
        "best_accuracy": best.accuracy if best else None,
        "best_standard_error": best.standard_error if best else None,
        "best_latency_ms": best.latency_ms if best else None,
        "clock_s": round(3600 * max(hours.values(), default=0.0), 1),
        "cpu_s": round(sum(row.cpu_s or 0.0 for row in one.rows), 1),
        "device": one.device,
        "winners": kind.winners(one.found.study, _val_images(one.found)),
        "baselines": kind.baselines(one.found.study),
        "conclusion": kind.conclusion(one.found.study, one.found.manifest),
    }


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    outcomes = ("scored", "stopped", "infeasible", "duplicate", "failed", "running")
    return (
        record["name"],
        f"{record['trained']:,}",
        *(f"{record[name]:,}" if record[name] else "" for name in outcomes),
        with_score_name(percent(record["best_accuracy"], record["best_standard_error"]), record["score"]),
        decimal(record["best_latency_ms"]),
        percent(record["hypervolume"]),
        decimal(record["clock_s"] / 60, 1),
        decimal(record["cpu_s"] / 60, 1),
    )


def _winners_line(record: Mapping[str, Any]) -> str:
    """The winners of a study, and its baselines, in one line."""
    winners = [_network_text(one) for one in record["winners"][:_WINNERS_SHOWN]]
    hidden = len(record["winners"]) - _WINNERS_SHOWN
    more = f", and {hidden} more" if hidden > 0 else ""
    baselines = ", ".join(f"{_network_text(one)} ({one['published']})" for one in record["baselines"])
    against = f"; baselines: {baselines}" if baselines else ""
    return f"{record['name']}: {', '.join(winners) or MISSING}{more}{against}"


def _network_text(one: Mapping[str, Any]) -> str:
    return f"{one['name']} {percent(one['accuracy'], one.get('standard_error'))} at {decimal(one['latency_ms'])} ms"


def _differing(compared: Sequence[_StudyData]) -> list[str]:
    """Names of settings that differ and make the studies incomparable.

    Accuracies or latencies of studies with different values cannot be compared.
    """
    keys = {key for one in compared for key in one.identity if key.startswith(_COMPARABILITY_PREFIXES)}
    # A setting that a study kind lacks counts as off: a grid never measures before it trains.
    return sorted(key for key in keys if len({json.dumps(one.identity.get(key) or None) for one in compared}) > 1)


def _remarks(compared: Sequence[_StudyData], reference: ReferencePoint | None, differing: Sequence[str]) -> list[str]:
    remarks = []
    if any(key.startswith("latency.") for key in differing):
        remarks.append("latencies are not comparable:")
        remarks += [f"  {one.label}: {one.device}" for one in compared]
    others = [key for key in differing if not key.startswith("latency.")]
    if others:
        values = "; ".join(f"{key} {', '.join(str(one.identity.get(key)) for one in compared)}" for key in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        remarks.append(f"accuracies are not comparable, these settings differ: {values}{more}")
    if not remarks:
        remarks.append(f"device: {compared[0].device}")
    if reference:
        remarks.append(
            f"volume: area dominated by the front, in % of the rectangle from {percent(reference.accuracy)} and "
            f"{decimal(reference.latency_ms)} ms to the best {compared[0].score.name} and latency of all"
        )
    return [*remarks, "winners:"]
