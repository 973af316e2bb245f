"""Output of ``nas.scale``: terminal tables, JSON, spec files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.arch.files import dump_scaled_spec, load_spec, save_spec
from nas.arch.rewrites import RewriteStep
from nas.arch.scaling.compound import ScaledNetwork
from nas.cli.resolve.predictors import latency_remark, latency_remarks, network_totals, short_count
from nas.core.errors import NasError, SpecError
from nas.core.files import write_text_atomically
from nas.core.formatting import interval
from nas.core.tables import TableRow, print_table
from nas.core.version import __version__

if TYPE_CHECKING:
    from nas.latency.predictors.base import LatencyPredictor

_FAMILY: Final = (
    "phi", "coefficients", "depth", "width", "px", "blocks", "dropout", "drop-path", "MACs", "x", "params",
    "memory MB", "latency ms",
)  # fmt: skip
_REWRITES: Final = ("", "MACs", "saved", "params", "saved", "latency ms", "saved")
_DISPENSABLE: Final = ("drop-path", "dropout", "memory MB", "blocks", "params")


def scaling_facts(member: ScaledNetwork, rule: str | None, predictor: LatencyPredictor) -> dict[str, Any]:
    """A scaled network as plain data: rewrites, factors, costs, growth.

    Factors as requested and as realised after rounding, both of the network after the rewrites.
    """
    before, after = network_totals(member.baseline, predictor), network_totals(member.arch, predictor)
    compound, rounding = member.compound, member.rounding if rule else None  # rewrites round nothing
    origin = rounding.origin if rounding else None
    return {
        "rewrites": [_rewrite_facts(step, predictor) for step in member.rewrites],
        "rule": rule,
        "rounding": rounding and {**(origin._asdict() if origin else {}), **rounding.settings},
        "coefficients": [compound.alpha, compound.beta, compound.gamma] if compound else None,
        "phi": member.phi,
        "asked": member.factors._asdict(),
        "realised": member.realised._asdict(),
        **after,
        "blocks": member.arch.depth,
        "dropout": member.arch.dropout,
        "drop_path": member.arch.drop_path,
        "growth": {name: after[name] / before[name] for name in ("params", "macs", "activations", "peak_memory_bytes")}
        | {"latency": after["latency_ms"] / before["latency_ms"]},
    }


def _rewrite_facts(step: RewriteStep, predictor: LatencyPredictor) -> dict[str, Any]:
    """One rewrite as plain data: the network before and after, and what it saves."""
    before, after = (network_totals(arch, predictor) for arch in (step.before, step.after))
    saved = {name: before[name] - after[name] for name in ("params", "macs", "latency_ms")}
    return {"rewrite": step.setting, "change": step.change, "before": before, "after": after, "saved": saved}


def write_scaled(member: ScaledNetwork, facts: Mapping[str, Any], path: Path, predictor: LatencyPredictor) -> None:
    """Write the spec file of a scaled network.

    It holds the block arguments of the baseline, and the coefficients that scale it; of a network that was only
    rewritten, the block strings.

    Raises: NasError where the file cannot be written, or contains a different network.
    """
    check_free(member, path)
    latency: dict[str, Any] = {"device": facts["device"], "predicted_ms": round(facts["latency_ms"], 4)}
    if predictor.error:
        latency["predicted_90_percent_ms"] = [round(facts[f"latency_{end}_ms"], 4) for end in ("low", "high")]
    origin = {key: facts[key] for key in ("rule", "rounding", "coefficients", "phi") if facts[key] is not None}
    provenance = {
        "baseline": member.given.name,
        "baseline_id": member.given.arch_id,
        **({"rewrites": [step.setting for step in member.rewrites]} if member.rewrites else {}),
        **origin,
        "versions": {"nas": __version__},
        **{key: facts[key] for key in ("arch_id", "params", "macs", "activations", "peak_memory_bytes")},
        "latency": latency,
    }
    if facts["rule"] is None:
        save_spec(member.arch, path, provenance)
        return
    named = replace(member.baseline, name=member.arch.name)
    write_text_atomically(path, dump_scaled_spec(named, member.scaling, provenance))


def check_free(member: ScaledNetwork, path: Path) -> None:
    """Refuse to overwrite anything but an earlier file of the same network.

    Raises: NasError.
    """
    if not path.exists():
        return
    try:
        same = load_spec(path).arch_id == member.arch.arch_id
    except SpecError:
        same = False
    if not same:
        raise NasError(f"out {str(path)!r}: exists and is not a spec of {member.arch.name}; choose another.")


def print_rewrites(member: ScaledNetwork, facts: Mapping[str, Any], predictor: LatencyPredictor) -> None:
    """Print what each rewrite changes and saves; nothing if there is none."""
    steps: list[dict[str, Any]] = facts["rewrites"]
    if not steps:
        return
    rows = [_rewrite_row(member.given.name, steps[0]["before"], None, predictor)]
    rows += [_rewrite_row(step["rewrite"], step["after"], step["before"], predictor) for step in steps]
    changes = [f"{step['rewrite']}: {step['change']}" for step in steps]
    print_table(_REWRITES, rows, [*changes, *_depth_warning(member), latency_remark(predictor), ""])


def _rewrite_row(
    name: str, after: Mapping[str, Any], before: Mapping[str, Any] | None, predictor: LatencyPredictor
) -> TableRow:
    """Cells of a network after a rewrite, with what was saved.

    ``before``: the network that was rewritten; None for the first one.
    """
    cells = [name]
    texts = {"macs": short_count(after["macs"]), "params": short_count(after["params"])}
    for key, text in (*texts.items(), ("latency_ms", _latency(after, predictor))):
        cells += [text, "" if before is None else f"{1 - after[key] / before[key]:.1%}"]
    return cells


def _depth_warning(member: ScaledNetwork) -> list[str]:
    """A remark where depth repeats the 1x1 convolution of the efficient last stage."""
    given, before, after = (arch.stages[-1] for arch in (member.given, member.baseline, member.arch))
    is_new = given.blocks[-1].type != "cn" and before.blocks[-1].type == "cn"
    if not is_new or after.depth == before.depth:
        return []
    return [
        f"depth {member.factors.depth:g} repeats the last stage, {before.blocks[-1]}, {after.depth} times, as "
        "mobilenetv3_large_150d does; rounding.fixed_ends=true keeps its repeats, and those of the first stage"
    ]


def print_scaled(member: ScaledNetwork, facts: Mapping[str, Any], predictor: LatencyPredictor) -> None:
    """Print baseline and result with requested factors and realised growth."""
    arches, requested, realised, growth = (
        (member.baseline, member.arch),
        member.factors,
        member.realised,
        facts["growth"],
    )
    both = (network_totals(member.baseline, predictor), facts)
    channels = [f"{arch.stem.channels} to {arch.stages[-1].blocks[-1].channels}" for arch in arches]
    rows: list[tuple[str, Sequence[str], float | None, float | None]] = [
        ("depth, blocks", [str(arch.depth) for arch in arches], realised.depth, requested.depth),
        ("width, channels", channels, realised.width, requested.width),
        ("resolution, px", [str(arch.resolution_px) for arch in arches], realised.resolution, requested.resolution),
        ("MACs", [short_count(each["macs"]) for each in both], growth["macs"], None),
        ("parameters", [short_count(each["params"]) for each in both], growth["params"], None),
        ("peak memory, MB", [_memory(each) for each in both], growth["peak_memory_bytes"], None),
        ("latency, ms", [f"{each['latency_ms']:.2f}" for each in both], growth["latency"], None),
        *([("90% interval, ms", [_interval(each) for each in both], None, None)] if predictor.error else []),
        ("dropout", [f"{arch.dropout:g}" for arch in arches], None, None),
        ("drop-path", [f"{arch.drop_path:g}" for arch in arches], None, None),
    ]
    columns = ("", member.baseline.name, member.arch.name, "growth", "requested")
    cells = [
        (name, *texts, *("" if factor is None else f"{factor:.3f}" for factor in factors))
        for name, texts, *factors in rows
    ]
    print_table(columns, cells, [*_remarks(member, predictor), *latency_remarks(member.arch, predictor)])


def print_family(members: Sequence[tuple[ScaledNetwork, Mapping[str, Any]]], predictor: LatencyPredictor) -> None:
    """Print one row per family member, grouped by phi.

    Published and formula members of the same phi are adjacent.
    """
    rows: list[TableRow] = []
    last = None
    for member, facts in members:
        if last is not None and facts["phi"] != last:
            rows.append(None)
        last = facts["phi"]
        cells = (
            f"{facts['phi']:g}",
            "published" if facts["rule"] == "published" else str(member.compound),
            f"{member.factors.depth:.2f}",
            f"{member.factors.width:.2f}",
            str(facts["resolution_px"]),
            str(facts["blocks"]),
            f"{facts['dropout']:g}",
            f"{facts['drop_path']:g}",
            short_count(facts["macs"]),
            f"{facts['growth']['macs']:.2f}",
            short_count(facts["params"]),
            _memory(facts),
            _latency(facts, predictor),
        )
        rows.append(cells)
    print_table(_FAMILY, rows, _remarks(members[0][0], predictor), dispensable=_DISPENSABLE)


def _remarks(member: ScaledNetwork, predictor: LatencyPredictor) -> list[str]:
    """What the figures of ``member`` rest on: rounding rules and predictor."""
    return [*(member.rounding.summary if member.rounding else ()), latency_remark(predictor)]


def _memory(facts: Mapping[str, Any]) -> str:
    return f"{facts['peak_memory_bytes'] / 1e6:.2f}"


def _latency(facts: Mapping[str, Any], predictor: LatencyPredictor) -> str:
    """Predicted latency in ms, with its 90% interval if it has one."""
    if predictor.error is None:
        return f"{facts['latency_ms']:.2f}"
    return f"{facts['latency_ms']:.2f} ({_interval(facts)})"


def _interval(facts: Mapping[str, Any]) -> str:
    return interval(facts["latency_low_ms"], facts["latency_high_ms"])
