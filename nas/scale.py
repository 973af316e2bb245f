"""``python -m nas.scale arch=efficientnet_b0 phi=2``: scale a network.

It scales up or down: by phi, by multipliers, or to a cost target; and rewrites its last stage and activations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from nas.arch.limits import MAX_PHI
from nas.arch.rewrites import HEAD_REWRITES, Rewrites
from nas.arch.scaling.compound import ScaledNetwork
from nas.arch.scaling.family import formula_member, published_labels, published_member
from nas.arch.scaling.request import SCALING_RULES, ScalingRequest, target_measures
from nas.arch.scaling.rounding_rules import FAMILY_RULES, RoundingOverrides, RoundingRules
from nas.arch.scaling.transform import coefficients_of
from nas.arch.spec import ArchSpec
from nas.cli import app, hydra_config
from nas.cli.help_layout import entries, option_lines, paragraph
from nas.cli.resolve.networks import known_networks, resolve_arch
from nas.cli.resolve.predictors import resolve_predictor
from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, quoted
from nas.core.streams import write_lines
from nas.core.validation import check_number

_TARGETS: Final = ("target_ms", "target_macs_m", "target_params_m", "target_memory_mb")
_REWRITES: Final = ("head", "hswish_from")
_REQUEST: Final = ("rule", "dwr_alpha", "phi", "width", "depth", "resolution_px")
_KEYS: Final = (
    *("arch", *_REQUEST, *_TARGETS, *_REWRITES, "coefficients", "rounding"),
    *("family", "phis", "out", "json", "runs_dir", "latency"),
)


def main() -> None:
    """Console entry point."""
    app.run_command(command, short=True)


def command(arguments: list[str]) -> int:
    """Print and write a scaled network, or a whole family.

    A single network is printed beside its baseline.
    """
    arguments = app.word_as_setting(arguments, "arch")
    if app.answer_option("scale", arguments, _help):
        return 0
    config = hydra_config.compose_config("scale", arguments)
    app.check_keys(config, _KEYS)
    app.check_flags(config, "family", "json")
    if not isinstance(config["out"], str | None):
        raise NasError(f"out {quoted(config['out'])}: must be the path of a file (a folder with family=true), or null.")
    request, baseline = _request(config), resolve_arch(config["arch"])
    rules = from_mapping(RoundingOverrides, config["rounding"], "rounding").rules(baseline)
    return (_family if config["family"] else _single)(config, request, baseline, rules)


def _request(config: Mapping[str, Any]) -> ScalingRequest:
    """The requested scaling. Raises: NasError."""
    fields, given = {name: config[name] for name in _REQUEST}, config["coefficients"]
    if given == "published":
        if config["rule"] not in ("compound", "published"):
            raise NasError(f"coefficients 'published': do not apply to rule={config['rule']}; set only one of them.")
        fields["rule"] = "published"
    targets = {name: config[name] for name in _TARGETS if config[name] is not None}
    rewrites = Rewrites(**{name: config[name] for name in _REWRITES})
    return ScalingRequest(**fields, targets=targets, coefficients=coefficients_of(given), rewrites=rewrites)


def _single(config: Mapping[str, Any], request: ScalingRequest, baseline: ArchSpec, rules: RoundingRules) -> int:
    """Scale one network.

    Everything that needs no latency is checked before the predictor is loaded, which may trigger a calibration.
    """
    from nas.cli.scale_output import check_free, print_rewrites, print_scaled, scaling_facts, write_scaled

    path = Path(config["out"]).expanduser() if config["out"] else None
    if path and path.suffix not in (".yaml", ".yml"):
        raise NasError(f"out {str(path)!r}: must end in .yaml.")
    member = None if "target_ms" in request.targets else request.resolve(baseline, target_measures(), rules)
    if member and path:
        check_free(member, path)
    predictor = resolve_predictor(config)
    member = member or request.resolve(
        baseline, target_measures(lambda arch: predictor.predict(arch).latency_ms), rules
    )
    facts = scaling_facts(member, request.applied_rule, predictor)
    if path:
        write_scaled(member, facts, path, predictor)
    if config["json"]:
        write_lines(json.dumps({"baseline": baseline.name, **facts, "path": str(path) if path else None}))
        return 0
    print_rewrites(member, facts, predictor)
    if not request.is_empty:
        print_scaled(member, facts, predictor)
    if not request.is_empty and member.arch.arch_id == member.baseline.arch_id:
        write_lines(
            "rounding left the baseline unchanged; rounding.depth_rule=round and a smaller divisor allow finer steps"
        )
    write_lines(f"written: {path}" if path else "add out=scaled.yaml to write its spec")
    return 0


def _family(config: Mapping[str, Any], request: ScalingRequest, baseline: ArchSpec, rules: RoundingRules) -> int:
    """Scale to all members at ``phis``, by published coefficients and formula.

    Published coefficients only where there are any.
    """
    from nas.cli.scale_output import check_free, print_family, print_rewrites, scaling_facts, write_scaled

    if not request.is_empty:
        raise NasError("family=true scales to all phis: remove phi, width, depth, resolution_px and targets.")
    members = _members(config, request, baseline, rules)
    baseline = members[0][1].baseline
    folder = Path(config["out"] or app.runs_dir(config) / "families" / _file_name(baseline)).expanduser()
    paths = [folder / rule / f"{_file_name(member.arch)}.yaml" for rule, member in members]
    for (_, member), path in zip(members, paths, strict=True):
        check_free(member, path)
    predictor = resolve_predictor(config)
    facts = [scaling_facts(member, rule, predictor) for rule, member in members]
    for (_, member), fact, path in zip(members, facts, paths, strict=True):
        write_scaled(member, fact, path, predictor)
    if config["json"]:
        listed = [{**fact, "path": str(path)} for fact, path in zip(facts, paths, strict=True)]
        write_lines(json.dumps({"baseline": members[0][1].given.name, "members": listed}))
        return 0
    print_rewrites(members[0][1], facts[0], predictor)
    print_family([(member, fact) for (_, member), fact in zip(members, facts, strict=True)], predictor)
    write_lines(f"written: {len(paths)} spec files in {folder}")
    return 0


def _members(
    config: Mapping[str, Any], request: ScalingRequest, baseline: ArchSpec, rules: RoundingRules
) -> list[tuple[str, ScaledNetwork]]:
    """(rule, member) pairs at every phi; not every phi has a published member."""
    phis = config["phis"]
    for phi in phis if isinstance(phis, list) else ():
        check_number("phis", phi, low=-MAX_PHI, high=MAX_PHI)
    if not isinstance(phis, list) or not phis or len(set(phis)) < len(phis):
        raise NasError(f"phis {quoted(phis)}: must be a list of different numbers, such as [-1,0,1,2].")
    if request.rule == "published" and min(phis) < 0:
        raise NasError(f"phis {quoted(min(phis))}: nothing is published below phi 0; use rule=compound.")
    steps = request.rewrites.steps(baseline)
    baseline = steps[-1].after if steps else baseline
    labels = published_labels(baseline)
    formula = "compound" if request.rule == "published" else request.rule
    label = "" if formula == "compound" else f"{formula}_"
    members = []
    for phi in sorted(phis):
        if phi in range(len(labels)):
            members.append(("published", published_member(baseline, labels[int(phi)], rules)))
        members.append((formula, formula_member(baseline, request.compound, phi, rules, label=label)))
    return [(rule, replace(member, rewrites=steps)) for rule, member in members]


def _file_name(arch: ArchSpec) -> str:
    """File name for a network, without path separators.

    Spec files come from anywhere: the names in them are not trusted as paths.
    """
    return re.sub(r"[^\w.+-]+|^\.+", "_", arch.name)


def _help() -> str:
    how_far = entries(
        ("phi=2", "units of about twice the MACs; phi=-1 is about half"),
        ("width=1.4 depth=1.2 resolution_px=260", "multipliers, and the input side in px"),
        (" ".join(f"{name}=" for name in _TARGETS), "the largest phi within the limit"),
    )
    rewritten = entries(
        (f"head={' | '.join(HEAD_REWRITES)}", "MobileNetV3's efficient last stage"),
        ("hswish_from=0.5", "h-swish in the blocks after this share of them"),
    )
    how = entries(
        ("rule=", " | ".join(SCALING_RULES)),
        ("coefficients=", "[1.2,1.1,1.15] or published"),
        ("dwr_alpha=0.8", "the share of the growth that rule=dwr assigns to the width"),
        ("rounding.depth_rule=round rounding.divisor=8 ...", "override the rules of the baseline's family"),
        ("rounding.family=", f"as another family: {' | '.join(FAMILY_RULES)}"),
        ("latency=", " | ".join(hydra_config.choices("latency"))),
    )
    results = option_lines(
        "scale",
        ("out=scaled.yaml", "writes the spec"),
        ("family=true", "writes members at phis=[0,1,...,7], published and by the formula, to a folder"),
        ("json=true", 'one JSON object: {"baseline", "phi", "macs", "latency_ms", ...} or {"baseline", "members"}'),
        ("runs_dir=runs", "the folder of calibrations and families"),
    )
    baseline = (
        "arch=NAME, or NAME",
        "mixnet_s, timm/fbnetc_100, or a spec file such as runs/my-study/winners/winner_1.yaml",
    )
    return f"""{paragraph(__doc__ or "")}

{entries(baseline)}
How far:
{how_far}
How:
{how}
Before that, or alone:
{rewritten}
Results:
{results}

{known_networks()}"""


if __name__ == "__main__":
    main()
