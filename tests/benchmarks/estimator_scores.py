"""Scores of networks by estimators, stored as they come, and combinations of them."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from nas.core.errors import NasError, unknown_choice
from tests.benchmarks.estimator_kinds import parse_estimator
from tests.benchmarks.estimator_tables import Candidate, Sample

Floats = npt.NDArray[np.float64]
_PROGRESS_S: Final = 30.0
_SPLITS: Final = 10  # random halves over which a fitted combination is averaged


class Scoring(Protocol):
    """The part of an ``Estimator`` that scores networks."""

    cpu_s: float

    def prepare(self) -> None:
        """Do what is done once for all networks; sets ``cpu_s``."""

    def scores(self, candidate: Candidate) -> Mapping[str, float]:
        """Score a network by signal."""

    def cpu_s_of(self, candidate: Candidate) -> float:
        """CPU-seconds that scoring ``candidate`` cost somebody else."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Scores of all networks of a sample, one array (N,) per seed; larger is better.

    ``cpu_s``: CPU-seconds per network, its share of the preparation included. ``has_mean``: whether the mean over seeds
    is an estimator, too.
    """

    label: str
    values: Sequence[Floats]
    cpu_s: float
    has_mean: bool = True


def scored(text: str, sample: Sample, seeds: Sequence[int], runs: Path) -> list[Signal]:
    """Score all networks of ``sample`` by the estimator ``text``, with each of ``seeds``.

    What ``runs`` holds already is not computed again.
    """
    found, cpu_s = [], []
    for seed in seeds:
        folder = runs / "estimators" / sample.table
        estimator = parse_estimator(text, sample, seed, folder / f"{_slug(text)}-{seed}")
        facts = {"estimator": text, "seed": seed, "table": sample.table, **estimator.identity}
        rows = stored_rows(estimator, sample.all, folder / f"{_slug(text)}-{seed}", facts)
        found.append(rows)
        cpu_s.append(sum(row["cpu_s"] for row in rows) / len(rows) + estimator.cpu_s / len(rows))
        if not estimator.seeded:
            break
    names = list(found[0][0]["scores"])
    return [
        Signal(
            label=text if names == [text] else f"{text}/{name}" if text != "counts" else name,
            values=[np.array([row["scores"][name] for row in rows]) for rows in found],
            cpu_s=float(np.mean(cpu_s)),
        )
        for name in names
    ]


def stored_rows(
    estimator: Scoring, candidates: Sequence[Candidate], stem: Path, facts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Stored and new scores of each network; every new one is stored at once.

    The file is ``stem`` with a digest of ``facts``, which are all that the scores depend on.
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:8]
    path = stem.with_name(f"{stem.name}-{digest}.jsonl")
    stored = {row.get("network"): row for row in _read(path)}
    missing = [one for one in candidates if one.name not in stored]
    if None in stored:
        estimator.cpu_s = stored[None]["preparation_cpu_s"]
    if missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        estimator.prepare()
        with path.open("a", encoding="utf-8") as stream:
            if None not in stored:
                stream.write(json.dumps({"preparation_cpu_s": estimator.cpu_s, "facts": facts}, default=str) + "\n")
            shown = time.monotonic()
            for number, candidate in enumerate(missing, start=1):
                stored[candidate.name] = _row(estimator, candidate)
                stream.write(json.dumps(stored[candidate.name]) + "\n")
                stream.flush()
                if time.monotonic() - shown > _PROGRESS_S:
                    shown = time.monotonic()
                    print(f"{path.stem}: {number} of {len(missing)}", file=sys.stderr)
    return [stored[one.name] for one in candidates]


def _row(estimator: Scoring, candidate: Candidate) -> dict[str, Any]:
    start = time.process_time()
    scores = estimator.scores(candidate)
    cpu_s = time.process_time() - start + estimator.cpu_s_of(candidate)
    return {"network": candidate.name, "scores": dict(scores), "cpu_s": round(cpu_s, 4)}


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """Complete lines of a file that may have been left in the middle of one."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    if complete != text:
        path.write_text(complete, encoding="utf-8")
    yield from map(json.loads, complete.splitlines())


def combined(text: str, signals: Mapping[str, Signal], truth: Floats) -> Signal:
    """Combine signals as ``rank:A+B`` (mean rank) or ``linear:A+B`` (fitted ranks) says.

    Ranks are those among the first ``len(truth)`` networks. ``linear``: least squares from the ranks of the signals to
    those of ``truth``; the weights that score a network come from halves of these networks without it, mean of random
    halves.

    Raises: NasError for an unknown rule or signal.
    """
    rule = text.partition(":")[0]
    if rule not in _RULES:
        raise unknown_choice("rule of --combine", rule, (*_RULES, "anchors"))
    chosen = signals_of(text, signals)
    if len(chosen) < 2:
        raise NasError(f"{text}: give two signals or more, joined by +.")
    values = []
    for seed in range(max(len(signal.values) for signal in chosen)):
        columns = [signal.values[seed % len(signal.values)] for signal in chosen]
        ranks = np.stack([_rank_among(column, column[: len(truth)]) for column in columns], axis=1)
        values.append(_RULES[rule](ranks, _rank_among(truth, truth)))
    return Signal(label=text, values=values, cpu_s=cost_of(chosen))


def signals_of(text: str, signals: Mapping[str, Signal]) -> list[Signal]:
    """Signals that ``RULE:A+B`` names. Raises: NasError for an unknown one."""
    parts = text.partition(":")[2].split("+")
    for part in parts:
        if part not in signals:
            raise unknown_choice(f"signal of {text}", part, signals)
    return [signals[part] for part in parts]


def cost_of(signals: Sequence[Signal]) -> float:
    """CPU-seconds per network of ``signals`` together."""
    return sum({_source(one.label): one.cpu_s for one in signals}.values())


def _source(label: str) -> str:
    """Estimator of a signal, whose cost counts once."""
    return label.rpartition("/")[0] or label


def _rank_among(values: Floats, reference: Floats) -> Floats:
    """Share of ``reference`` that is smaller than each value, equal ones counted half."""
    ordered = np.sort(reference)
    below, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / 2 / len(ordered))


def _mean_rank(ranks: Floats, truth: Floats) -> Floats:
    return np.asarray(ranks.mean(axis=1))


def _fitted(ranks: Floats, truth: Floats) -> Floats:
    """Prediction of each network's true rank, by weights from others."""
    fitted, features = len(truth), np.column_stack([np.ones(len(ranks)), ranks])
    rest = np.arange(fitted, len(ranks))
    total, count = np.zeros(len(ranks)), np.zeros(len(ranks))
    for split in range(_SPLITS):
        order = list(range(fitted))
        random.Random(split).shuffle(order)
        halves = np.array(order[: fitted // 2]), np.array(order[fitted // 2 :])
        for train, test in (halves, halves[::-1]):
            weights = np.linalg.lstsq(features[train], truth[train], rcond=None)[0]
            scored_rows = np.concatenate([test, rest])
            total[scored_rows] += features[scored_rows] @ weights
            count[scored_rows] += 1
    return total / count


_RULES: Final[Mapping[str, Callable[[Floats, Floats], Floats]]] = {"rank": _mean_rank, "linear": _fitted}


def _slug(text: str) -> str:
    return "".join(char if char.isalnum() or char in "_.-" else "_" for char in text)[:80]
