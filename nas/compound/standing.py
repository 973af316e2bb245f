"""Where each network of a grid stands: its accuracy with error, and whether the noise tells it apart from the best."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from nas.compound.entries import Entries, Entry
from nas.compound.noise import LEVEL, Noise, told_apart
from nas.compound.rounds import Accuracies, answer
from nas.study.rows import Outcome
from nas.study.units import plural

BEST, PEER, WORSE = "best", "not told apart", "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One network: ``accuracies`` of its seeds in [0, 1], and what is to be said of it.

    ``error``: standard error of the mean, from the noise pooled over all networks; None if that is not known.
    ``p_value``: of the difference to the best; None for the best, the baseline, and what was not trained to the end.
    """

    entry: Entry
    accuracies: tuple[float, ...]
    verdict: str
    error: float | None = None
    p_value: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean accuracy; None if no training came to its end."""
        return fmean(self.accuracies) if self.accuracies else None

    @property
    def percent(self) -> str:
        """Mean and standard error in percent."""
        if self.mean is None:
            return ""
        return f"{100 * self.mean:.2f}" + ("" if self.error is None else f" ± {100 * self.error:.2f}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standings:
    """All networks: the baseline, then those that were trained to the end, the best first, then the others."""

    baseline: Standing
    ranked: tuple[Standing, ...]
    others: tuple[Standing, ...]
    noise: Noise

    @property
    def best(self) -> Standing | None:
        """The best network, if one was trained to the end."""
        return self.ranked[0] if self.ranked else None

    @property
    def peers(self) -> tuple[Standing, ...]:
        """Networks that the noise does not tell apart from the best."""
        return tuple(one for one in self.ranked if one.verdict == PEER)

    @property
    def everybody(self) -> tuple[Standing, ...]:
        """All of them."""
        return (self.baseline, *self.ranked, *self.others)

    def sentences(self) -> list[str]:
        """The answer in words."""
        best = self.best
        if best is None:
            return ["No network was trained to the end yet."]
        seeds = plural(len(best.accuracies), "seed")
        said = [f"Best: {best.entry.label} with {best.percent}% ({seeds})"]
        said[0] += "." if self.baseline.mean is None else f"; the baseline has {self.baseline.percent}%."
        if not self.noise.freedom:
            return [*said, "No network was trained twice: how much of the differences is noise is not known."]
        apart = len(self.ranked) - 1 - len(self.peers)
        if self.peers:
            names = ", ".join(one.entry.label for one in self.peers)
            said.append(f"Not told apart from it by the noise: {names}.")
        said.append(
            f"{apart} of the other {len(self.ranked) - 1} are worse by more than the noise (Tukey-Kramer, "
            f"{LEVEL:.0%}); one training's accuracy varies by {100 * self.noise.deviation:.2f} points between seeds "
            f"(pooled, {self.noise.freedom} degrees of freedom)."
        )
        return said


def standings(entries: Entries, accuracies: Accuracies, closed: Mapping[str, tuple[Outcome, str]]) -> Standings:
    """Where all ``entries`` stand; ``closed``: by label, how a training without accuracy ended, and why."""
    found = answer(accuracies)
    noise = found.noise if found else Noise(deviation=0.0, freedom=0, networks=0)
    best = accuracies[found.best] if found else ()
    order = {label: position for position, label in enumerate(found.ranked if found else ())}

    def standing(entry: Entry) -> Standing:
        values, place = tuple(accuracies.get(entry.label, ())), order.get(entry.label)
        if place is None:
            verdict = _untrained(entry, closed.get(entry.label)) if entry is not entries.baseline else ""
        else:
            verdict = BEST if place == 0 else WORSE if told_apart(noise, best, values) else PEER
        return Standing(
            entry=entry,
            accuracies=values,
            verdict=verdict,
            error=noise.standard_error(len(values)) if values else None,
            p_value=noise.p_value(best, values) if place else None,
        )

    every = [standing(entry) for entry in (*entries.trained, *entries.left_out)]
    ranked = sorted((one for one in every if one.entry.label in order), key=lambda one: order[one.entry.label])
    others = tuple(one for one in every if one.entry.label not in order)
    return Standings(baseline=standing(entries.baseline), ranked=tuple(ranked), others=others, noise=noise)


def to_csv(table: Iterable[Standing]) -> str:
    """``networks.csv``: one line per network with its accuracy, its verdict, its cost and its real growth."""
    stream = io.StringIO()
    rows = [_cells(one) for one in table]
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _cells(one: Standing) -> dict[str, object]:
    entry = one.entry
    network, proxy = entry.grown, entry.proxy
    return {
        "network": entry.label,
        **entry.parameters,
        "same": " ".join(entry.same),
        "arch_id": entry.arch.arch_id,
        "accuracy": one.mean,
        "standard_error": one.error,
        "seeds": len(one.accuracies),
        "p_value": one.p_value,
        "verdict": one.verdict,
        **entry.candidate.measures,
        "macs_x": network.macs_growth,
        "params_x": network.params_growth,
        "memory_x": network.memory_growth,
        "latency_x": entry.latency_growth,
        "proxy_depth_x": proxy.realised.depth,
        "proxy_width_x": proxy.realised.width,
        "proxy_resolution_px": proxy.arch.resolution_px,
        "proxy_macs_x": proxy.macs_growth,
    }


def _untrained(entry: Entry, closed: tuple[Outcome, str] | None) -> str:
    """Why a network has no accuracy."""
    if entry.reason:
        return f"left out: {entry.reason}"
    return f"{closed[0]}: {closed[1]}" if closed else "not trained yet"
