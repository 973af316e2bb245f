"""Model family by the coefficients found: specs for phi 0 to 7 with their cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from nas.arch.files import dump_spec
from nas.arch.scaling.compound import ScaledNetwork
from nas.arch.scaling.family import formula_member, published_label, published_member
from nas.arch.scaling.rounding_rules import RoundingRules
from nas.arch.scaling.transform import Compound
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.files import write_text_atomically

PHIS: Final = tuple(range(8))
FAMILY_FOLDER: Final = "family"


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyMember:
    """One member of the family.

    ``published``: the same member by EfficientNet's hand-rounded coefficients, if any.
    """

    phi: int
    scaled: ScaledNetwork
    latency_ms: float
    published: ScaledNetwork | None

    @property
    def file(self) -> str:
        """Path of its spec, relative to the study's folder."""
        return f"{FAMILY_FOLDER}/phi_{self.phi}.yaml"


def members_of(baseline: ArchSpec, compound: Compound, rules: RoundingRules, latency_ms: Any) -> list[FamilyMember]:
    """Family members by ``compound`` for phi 0 to 7.

    It ends early where the formula no longer gives a network (the input side has an upper limit).
    """
    members = []
    for phi in PHIS:
        try:
            scaled = formula_member(baseline, compound, phi, rules)
        except NasError:
            break
        members.append(
            FamilyMember(
                phi=phi, scaled=scaled, latency_ms=latency_ms(scaled.arch), published=_published(baseline, phi)
            )
        )
    return members


def write_members(members: Sequence[FamilyMember], folder: Path, provenance: Mapping[str, Any]) -> None:
    """Write the members' specs below ``folder``."""
    for member in members:
        arch = replace(member.scaled.arch, name=f"{member.scaled.baseline.name}_phi{member.phi}")
        facts = {
            **provenance,
            "coefficients": str(member.scaled.compound),
            "phi": member.phi,
            "asked": {name: round(value, 6) for name, value in member.scaled.factors._asdict().items()},
            "realised": {name: round(value, 6) for name, value in member.scaled.realised._asdict().items()},
            "params": member.scaled.cost.params,
            "macs": member.scaled.cost.macs,
            "predicted_ms": round(member.latency_ms, 4),
        }
        write_text_atomically(folder / member.file, dump_spec(arch, facts))


def _published(baseline: ArchSpec, phi: int) -> ScaledNetwork | None:
    try:
        return published_member(baseline, published_label(baseline, phi))
    except NasError:
        return None
