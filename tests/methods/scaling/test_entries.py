"""Tests of a grid's networks against plain loops, and of their proxies."""

from __future__ import annotations

import io
import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.files import dump_spec
from nas.arch.scaling.compound import ALPHAS, BETAS, GAMMAS
from nas.arch.scaling.rounding_rules import rules_for
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import StageSpec
from nas.core.errors import NasError, SpecError
from nas.methods.scaling.config import BASELINE_FILE
from nas.methods.scaling.preflight import print_growth
from nas.methods.scaling.session import baseline_as_started
from nas.methods.scaling.settings import GridSettings
from tests.methods.scaling.fakes import GRID, PROXY, entries_of, make_plan

FINE = GridSettings(alpha=ALPHAS, beta=BETAS, gamma=GAMMAS, realised_tolerance=None)


def labels(triples: list[tuple[float, float, float]]) -> list[str]:
    return ["/".join(f"{value:g}" for value in triple) for triple in triples]


def test_every_triple_of_equal_cost_is_there_once_and_the_published_one_is() -> None:
    found = entries_of(make_plan(grid=FINE))
    loops = [
        triple
        for triple in itertools.product(ALPHAS, BETAS, GAMMAS)
        if abs(triple[0] * triple[1] ** 2 * triple[2] ** 2 - 2) <= 0.1 + 1e-9
    ]
    networks = found.trained
    assert found.requested == len(loops) and not found.left_out
    assert sorted([entry.label for entry in networks] + [name for entry in networks for name in entry.same]) == sorted(
        labels(loops)
    )
    assert len({entry.arch.arch_id for entry in networks}) == len(networks) < len(loops)
    assert "1.2/1.1/1.15" in found.by_label


def test_a_started_study_keeps_the_block_strings_of_its_baseline(tmp_path: Path) -> None:
    """A version that reads more of timm's definition does not change the networks of a study midway."""
    today = zoo.get("mnasnet_100")
    earlier = replace(today, stages=(StageSpec.parse(["ds_r1_k3_s1_c16"]), *today.stages[1:]))
    assert earlier.arch_id == today.arch_id
    assert baseline_as_started(today, tmp_path) is today
    (tmp_path / BASELINE_FILE).write_text(dump_spec(earlier), encoding="utf-8")
    assert baseline_as_started(today, tmp_path) == earlier
    assert baseline_as_started(other := replace(today, classes=10), tmp_path) is other


def test_triples_that_rounding_makes_equal_are_named() -> None:
    """Different alphas can give the same number of blocks.

    A ceiling per stage gives 1.1 and 1.2 the same 23 blocks, MixNet's rounding gives 1 and 1.1 the same 16.
    """
    grid = replace(FINE, alpha=(1.1, 1.2), beta=(1.1,), gamma=(1.2,))
    (entry,) = entries_of(make_plan(grid=grid, rules=rules_for(zoo.get("efficientnet_b0")))).trained
    assert (entry.label, entry.same, entry.arch.depth) == ("1.1/1.1/1.2", ("1.2/1.1/1.2",), 23)


def test_growth_is_that_of_the_rounded_network() -> None:
    found = entries_of(make_plan())
    entry, base = found.by_label["1.2/1.1/1.15"], zoo.get("efficientnet_b0")
    expected = scale(base, Scaling(width=1.1, depth=1.2, resolution_px=256, depth_rule="round"))
    assert entry.arch.arch_id == expected.arch_id
    assert entry.scaled.macs_growth == complexity(expected).macs / complexity(base).macs
    assert entry.latency_growth == pytest.approx(entry.scaled.macs_growth)  # priced by multiply-adds


def test_what_rounding_makes_too_costly_is_left_out_and_said() -> None:
    rules = rules_for(zoo.get("efficientnet_b0"))  # the ceiling of EfficientNet
    found = entries_of(make_plan(rules=rules))
    for entry in (*found.trained, *found.left_out):
        off = abs(entry.scaled.macs_growth - 2) > 0.25
        assert bool(entry.reason) == off, entry.label
        assert not off or entry.reason == f"macs grow x{entry.scaled.macs_growth:.2f} after rounding"
    assert found.trained and found.left_out


def test_a_proxy_keeps_a_tenth_of_the_width_a_block_of_depth_and_a_pixel_of_resolution() -> None:
    found = entries_of(make_plan())
    published = found.by_label["1.2/1.1/1.15"]
    network, proxy = published.scaled.realised, published.proxy.realised
    assert proxy.depth == network.depth == 19 / 16
    # The network's own channels, rounded to multiples of 8, grew by 1.08 (geometric mean); so do the proxy's.
    assert proxy.width == pytest.approx(network.width, abs=0.02) and network.width > 1.06
    assert (found.baseline.proxy.arch.resolution_px, published.proxy.arch.resolution_px) == (20, round(20 * 256 / 224))
    assert len({entry.proxy.arch.arch_id for entry in found.trained}) == len(found.trained)
    coarse = entries_of(make_plan(), replace(PROXY, divisor=8)).by_label["1.2/1.1/1.15"]
    assert coarse.proxy.realised.width < 1.04  # what a coarse divisor would have left of it


def test_latency_as_target_takes_the_place_of_multiply_adds() -> None:
    """With latency by multiply-adds, the rule is realised growth within the tolerance."""
    for phi in (1, 2):
        found = entries_of(make_plan(target="latency", phi=phi))
        base = zoo.get("efficientnet_b0")
        kept = []
        for alpha, beta, gamma in itertools.product(GRID.alpha, GRID.beta, GRID.gamma):
            side = max(4, int(224 * gamma**phi / 4 + 0.5) * 4)
            divisor = 1 if beta == 1 else 8
            scaling = Scaling(
                width=beta**phi, depth=alpha**phi, resolution_px=side, depth_rule="round", divisor=divisor
            )
            growth = complexity(scale(base, scaling)).macs / complexity(base).macs
            if abs(growth ** (1 / phi) - 2) <= 0.1:
                kept.append((alpha, beta, gamma))
        assert sorted(name for entry in found.trained for name in (entry.label, *entry.same)) == sorted(labels(kept))


def test_rules_are_compared_at_equal_cost() -> None:
    found = entries_of(make_plan(compare=("depth", "width", "resolution", "compound", "dwr"), phi=2))
    assert list(found.by_label) == ["baseline", "depth", "width", "resolution", "compound", "dwr"]
    for label, entry in list(found.by_label.items())[1:]:
        assert entry.scaled.macs_growth == pytest.approx(4, rel=0.05), label
    depth, width = found.by_label["depth"], found.by_label["width"]
    assert depth.arch.resolution_px == width.arch.resolution_px == 224 and depth.arch.depth > 3 * width.arch.depth
    assert depth.parameters["width"] == depth.parameters["resolution"] == 1 and 3.2 < depth.parameters["depth"] < 4.8


def test_a_memory_limit_leaves_out_what_breaks_it() -> None:
    free = entries_of(make_plan())
    limit = sorted(entry.candidate.measures["peak_memory_mb"] for entry in free.trained)[4]
    found = entries_of(make_plan(limits={"peak_memory_mb": limit}))
    assert all(entry.candidate.measures["peak_memory_mb"] <= limit for entry in found.trained)
    assert len(found.trained) >= 5 and all("peak_memory_mb" in entry.reason for entry in found.left_out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": replace(GRID, alpha=(1.3,), beta=(1.3,), tolerance=0.01)}, r"grid\.tolerance 0\.01: .* needs 0\.19"),
        ({"grid": replace(GRID, alpha=(1.2,), beta=(1.1,), realised_tolerance=0.1)}, r"of 1 .* x1\.78: 0\.22 suffices"),
        ({"limits": {"macs_m": 300.0}}, r"the baseline itself breaks it \(macs_m 385\.8 > 300\).*smaller baseline"),
        (
            {"limits": {"macs_m": 500.0}},
            r"none of 10 networks of x2 macs meets macs_m <= 500; the lowest values are macs_m .*lower phi",
        ),
        ({"phi": 12}, r"phi 12 with .* blocks .* at most 4,096\. Lower phi"),
    ],
)  # fmt: skip
def test_impossible_requests_are_answered_with_what_is_possible(changes: dict, message: str) -> None:
    with pytest.raises(NasError, match=message):
        entries_of(make_plan(**changes))


def test_images_smaller_than_the_strides_are_refused() -> None:
    plan = make_plan()
    small = replace(plan, baseline=replace(plan.baseline, resolution_px=16))
    with pytest.raises(SpecError, match="too small for 'efficientnet_b0', whose total stride is 32"):
        entries_of(small)


def test_growth_per_unit_of_phi_is_what_counts() -> None:
    found = entries_of(make_plan(phi=2, grid=replace(GRID, realised_tolerance=0.3)))
    for entry in found.trained:
        assert abs(math.sqrt(entry.scaled.macs_growth) - 2) <= 0.3


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


@pytest.mark.parametrize("width", [56, 80])
def test_the_table_of_growth_fits_a_terminal_and_breaks_no_word(width: int) -> None:
    plan = make_plan(grid=replace(FINE, realised_tolerance=0.05))
    found, console = entries_of(plan), terminal(width)
    assert found.left_out and any(entry.same for entry in found.all_entries)
    print_growth(console, plan, found)
    lines = console.file.getvalue().splitlines()
    rows = {
        entry.label: [line.split() for line in lines if line.startswith(f"{entry.label} ")]
        for entry in found.all_entries
    }
    for entry in found.all_entries:
        shown = [words for words in rows[entry.label] if len(words) > 2 and words[1][0].isdigit()]
        assert [float(words[1]) for words in shown] == [round(entry.scaled.macs_growth, 2)], entry.label
    for entry in found.left_out:
        assert f"{entry.label} is left out: {entry.reason}" in lines
    table = lines[2 : lines.index("", 4)]
    assert max(len(line.rstrip()) for line in table) <= width
    assert ("columns omitted, the terminal is too narrow: memory" in "\n".join(lines)) == (width < 80)
