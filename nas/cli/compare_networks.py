"""Comparison of networks: exact cost, predicted latency, known accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nas.arch.files import load_spec_file
from nas.arch.heads.task_scores import TASK_SCORES, with_score_name
from nas.arch.spec import ArchSpec
from nas.cli.compare_output import Comparison
from nas.cli.resolve.networks import is_spec_file, resolve_arch
from nas.cli.resolve.predictors import latency_remark, network_totals, scope_remark
from nas.core.formatting import decimal, interval, percent

if TYPE_CHECKING:
    from nas.latency.predictors.base import LatencyPredictor

_COLUMNS: Final = (
    "network",
    "accuracy",
    "ms",
    "× ms",
    "90% interval",
    "M MACs",
    "× MACs",
    "M params",
    "MB",
    "blocks",
    "px",
)
_DISPENSABLE: Final = ("px", "90% interval", "blocks", "× MACs", "MB")
_RATIOS: Final = ("latency_ms", "macs", "params", "peak_memory_bytes")


class Network(NamedTuple):
    """A network to compare, and the provenance from its spec file."""

    given: str
    arch: ArchSpec
    provenance: Mapping[str, Any]


def find_networks(names: Sequence[str]) -> list[Network]:
    """Resolve ``names`` as ``arch=`` does. Raises: NasError."""
    networks = []
    for name in names:
        arch = resolve_arch(name, "names")
        networks.append(Network(name, arch, load_spec_file(Path(name)).provenance if is_spec_file(name) else {}))
    return networks


def compare_networks(networks: Sequence[Network], predictor: LatencyPredictor) -> Comparison:
    """Compare ``networks``, with latency predicted by ``predictor``.

    Ratios are relative to the first network.
    """
    facts = [network_totals(network.arch, predictor) for network in networks]
    records = [
        {
            **fact,
            "name": label,
            "blocks": network.arch.depth,
            "accuracy": network.provenance.get("proxy_accuracy"),
            "score": TASK_SCORES[network.arch.task].metric,
            "accuracy_of": _accuracy_of(network.provenance),
            **{f"{name}_ratio": fact[name] / facts[0][name] for name in _RATIOS},
        }
        for network, fact, label in zip(networks, facts, _labels(networks), strict=True)
    ]
    from nas.latency.predictors.base import error_text

    return Comparison(
        kind="networks",
        records=records,
        columns=_COLUMNS,
        rows=[_cells(record, known=predictor.error is not None) for record in records],
        dispensable=_DISPENSABLE,
        remarks=_remarks(networks, records, predictor),
        shared={"device": str(predictor.device)},
        facts=(("device", str(predictor.device)), ("latency predictor", error_text(predictor))),
    )


def _cells(record: Mapping[str, Any], *, known: bool) -> tuple[str, ...]:
    return (
        record["name"],
        "" if record["accuracy"] is None else with_score_name(percent(record["accuracy"]), record["score"]),
        decimal(record["latency_ms"]),
        decimal(record["latency_ms_ratio"]),
        interval(record["latency_low_ms"], record["latency_high_ms"]) if known else "",
        decimal(record["macs"] / 1e6, 1),
        decimal(record["macs_ratio"]),
        decimal(record["params"] / 1e6),
        decimal(record["peak_memory_bytes"] / 1e6),
        str(record["blocks"]),
        str(record["resolution_px"]),
    )


def _labels(networks: Sequence[Network]) -> list[str]:
    """Table labels of ``networks``, prefixed with the study for winners.

    Networks whose labels would be equal are shown as the user gave them.
    """
    labels = [
        f"{network.provenance['study']}/{network.arch.name}" if "study" in network.provenance else network.arch.name
        for network in networks
    ]
    count = Counter(labels)
    return [network.given if count[label] > 1 else label for network, label in zip(networks, labels, strict=True)]


def _accuracy_of(provenance: Mapping[str, Any]) -> str | None:
    """The proxy, data set and study that a reported accuracy comes from.

    It is not the accuracy of the full network, and must not be read as such.
    """
    if "proxy_accuracy" not in provenance:
        return None
    return f"proxy on {provenance.get('data', 'unknown data')}, study {provenance.get('study', 'unknown')}"


def _remarks(
    networks: Sequence[Network], records: Sequence[Mapping[str, Any]], predictor: LatencyPredictor
) -> list[str]:
    remarks = [latency_remark(predictor), "×: relative to the first"]
    remarks += dict.fromkeys(filter(None, (scope_remark(network.arch.task) for network in networks)))
    sources = sorted({record["accuracy_of"] for record in records if record["accuracy_of"]})
    if sources:
        remarks.append(f"accuracy: {'; '.join(sources)}")
    if len(sources) > 1:
        remarks.append("accuracies of different studies are comparable only if data and proxy were the same")
    for name, values in (
        ("classes", {network.arch.classes for network in networks}),
        ("input channels", {network.arch.in_channels for network in networks}),
    ):
        if len(values) > 1:
            remarks.append(f"{name} differ ({', '.join(map(str, sorted(values)))}), and so do the costs")
    return remarks
