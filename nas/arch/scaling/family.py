"""Family of a network: members at phi = 0 to 7 or by published coefficients.

The coefficients are those of a compound scaling formula, or EfficientNet's published ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from nas.arch.limits import MAX_PHI
from nas.arch.scaling.compound import ScaledNetwork, scale_rounded
from nas.arch.scaling.published_families import family_of
from nas.arch.scaling.rounding_rules import RoundingRules
from nas.arch.scaling.transform import (
    PUBLISHED_EFFICIENTNET,
    PUBLISHED_EFFICIENTNET_LITE,
    PUBLISHED_EFFICIENTNET_V2,
    Coefficients,
    Compound,
    Factors,
)
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, unknown_choice
from nas.core.validation import check_number

MAX_DROPOUT: Final = 0.5
MAX_DROPOUT_PHI: Final = 7


def dropout_at(phi: float, baseline_dropout: float = 0.2) -> float:
    """Dropout rate of the family member at ``phi``.

    Linear from ``baseline_dropout`` to 0.5 at phi 7, rounded to tenths, never below the baseline's, which is that of
    every negative phi. EfficientNet (section 5.2) raises it linearly from 0.2 for B0 to 0.5 for B7; in tenths that is
    0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5, as in the published code.
    """
    linear = baseline_dropout + (MAX_DROPOUT - baseline_dropout) * min(max(phi, 0.0) / MAX_DROPOUT_PHI, 1.0)
    return max(baseline_dropout, round(linear, 1))


def published_table(baseline: ArchSpec) -> Mapping[str, Coefficients]:
    """Published coefficients for ``baseline``, by member.

    Those of EfficientNet-Lite for a Lite baseline and of EfficientNetV2 for a V2 baseline, otherwise those of
    EfficientNet B0 to B8 and L2.
    """
    tables = {"efficientnet_lite": PUBLISHED_EFFICIENTNET_LITE, "efficientnet_v2": PUBLISHED_EFFICIENTNET_V2}
    return tables.get(family_of(baseline), PUBLISHED_EFFICIENTNET)


def published_member(baseline: ArchSpec, member: str, rules: RoundingRules | None = None) -> ScaledNetwork:
    """Scale ``baseline`` by the published coefficients of an EfficientNet ``member``.

    ``member``: such as ``b3`` (``lite3`` for Lite). The input side grows as that of the published family does, by
    300/224 for ``b3``; for a baseline of 224 px all members have the published sides. Drop-path is the baseline's, as
    published. ``efficientnet_b0`` gives ``efficientnet_b3``, ``mixnet_s`` gives ``mixnet_s_b3``.

    Raises: NasError for an unknown member.
    """
    table = published_table(baseline)
    if member not in table:
        raise unknown_choice("family member", member, table)
    coefficients, first_member = table[member], next(iter(table))
    factors = Factors(
        coefficients.depth, coefficients.width, coefficients.resolution_px / table[first_member].resolution_px
    )
    labels = published_labels(baseline)
    return scale_rounded(
        baseline,
        factors,
        rules,
        name=f"{baseline.name.removesuffix(f'_{first_member}')}_{member}",
        dropout=max(coefficients.dropout, baseline.dropout),
        phi=labels.index(member) if member in labels else None,
    )


def family(
    baseline: ArchSpec,
    coefficients: Compound | Literal["published"],
    phis: Sequence[float] = tuple(range(8)),
    rules: RoundingRules | None = None,
) -> tuple[ScaledNetwork, ...]:
    """Members of ``baseline``'s family at ``phis``.

    Each has its own depth, width, resolution and dropout; drop-path is the baseline's. A ``Compound``: by its formula,
    with dropout by ``dropout_at``. ``published``: phi 0 to 8 are the hand-rounded B0 to B8 (0 to 4 Lite's, 0 to 3
    V2's); L2, which has no phi, is a ``published_member``.

    Raises: NasError for a phi that was not published.
    """
    if coefficients == "published":
        return tuple(published_member(baseline, published_label(baseline, phi), rules) for phi in phis)
    return tuple(formula_member(baseline, coefficients, phi, rules) for phi in phis)


def formula_member(
    baseline: ArchSpec, compound: Compound, phi: float, rules: RoundingRules | None = None, *, label: str = ""
) -> ScaledNetwork:
    """One family member by the compound scaling formula.

    As ``scale_compound``, with dropout by ``dropout_at`` and a name of ``label`` and ``phi``.

    Raises: NasError for a phi out of range.
    """
    check_number("phi", phi, low=-MAX_PHI, high=MAX_PHI)
    return scale_rounded(
        baseline,
        compound.factors(phi),
        rules,
        name=f"{baseline.name}_{label}phi{phi:g}",
        dropout=dropout_at(phi, baseline.dropout),
        compound=compound,
        phi=phi,
    )


def published_labels(baseline: ArchSpec) -> tuple[str, ...]:
    """Published members of whole phi, in order from phi 0.

    b0 to b8, lite0 to lite4, or V2's b0 to b3. L2 has no phi.
    """
    return tuple(label for label in published_table(baseline) if label != "l2")


def published_label(baseline: ArchSpec, phi: float) -> str:
    """Name of the published member at ``phi``: ``b2`` for 2.

    Raises: NasError if there is none.
    """
    labels = published_labels(baseline)
    if phi not in range(len(labels)):
        raise NasError(
            f"phi {phi:g}: the published members are {labels[0]} to {labels[-1]}, at whole phi from 0 to "
            f"{len(labels) - 1}; use coefficients=[1.2,1.1,1.15] for any other phi."
        )
    return labels[int(phi)]
