"""Tests of tables of networks of all costs.

The sixteen published networks, lines from several baselines, and their comparison at equal cost.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.core.errors import NasError
from nas.methods.scaling.design.entries import Design
from nas.methods.scaling.plots.tables import lines_plot, matrix_plot
from nas.methods.scaling.ranking.ranking import BEST, rank_networks
from nas.methods.scaling.ranking.table_lines import TableLayout, compared_at, table_layout, table_sentences
from nas.methods.scaling.settings import RaceSettings, TableSettings
from nas.methods.scaling.terminal import print_cells
from nas.methods.scaling.trial_attributes import accuracies_of, training_of
from tests.methods.scaling.fakes import PROXY, FakeTrainer, entries_of, make_plan, make_race, table
from tests.paths import REFERENCE

PUBLISHED = REFERENCE / "mobilenet_v1.json"
SIXTEEN = make_plan(
    baseline="mobilenetv1_100", compare=("width_resolution",), race=RaceSettings(seeds=2),
    proxy=replace(PROXY, width_multiplier=0.5, resolution_px=28),
)  # fmt: skip
LINES = make_plan(baseline="efficientnet_b0", compare=("width_lines",), race=RaceSettings(seeds=2))


def test_the_sixteen_networks_of_mobilenet_v1_at_their_published_cost() -> None:
    found = entries_of(SIXTEEN, SIXTEEN.proxy)
    rows = json.loads(PUBLISHED.read_text(encoding="utf-8"))["checkpoints"]["rows"]
    expected = {(f"w{row['width']:g}", f"{row['resolution']}px"): row for row in rows}
    cells = {place: entry for entry in found.trained for place in entry.cells}
    assert set(cells) == set(expected) and len(found.trained) == found.requested == 16
    base = complexity(replace(zoo.get("mobilenetv1_100"))).macs
    for place, row in expected.items():
        cost = cells[place].scaled.cost
        assert (cost.macs, cost.params) == (row["exact_macs_1000"], row["exact_params_1000"])
        assert cells[place].scaled.macs_growth == row["exact_macs_1000"] / base
        shrunk = {"depth": 1.0, "width": row["width"], "resolution": row["resolution"] / 224}
        assert cells[place].parameters == pytest.approx(shrunk)


def test_the_baseline_is_a_cell_of_its_table_and_trained_once() -> None:
    found = entries_of(SIXTEEN, SIXTEEN.proxy)
    assert found.baseline is found.trained[0] and found.baseline.label == "w1 224px"
    trainer = FakeTrainer(found, lambda label, repeat: 0.5 + 0.01 * repeat)
    race = make_race(SIXTEEN, found, trainer)
    race.run()
    assert len(trainer.trained) == 16 * 2 == race.most_trainings
    ranking = rank_networks(found, accuracies_of(race.study), {})
    assert ranking.baseline.mean == pytest.approx(0.505) and len(ranking.all_networks) == len(ranking.ranked) == 16
    for trial in race.study.trials:
        label, _ = training_of(trial)
        params = {name: value for name, value in trial.params.items() if name != "seed"}
        assert params == found.by_label[label].parameters


def test_a_table_without_the_baseline_in_it_trains_the_baseline_beside_it() -> None:
    plan = replace(LINES, table=TableSettings(widths=(1.4,), starts=((1.0, 1.0), (2.0, 1.0))))
    found = entries_of(plan)
    assert list(found.by_label) == ["baseline", "d1 r1 w1.4", "d2 r1 w1.4"] and not found.baseline.cells


def test_lines_begin_at_their_depth_and_resolution() -> None:
    found = entries_of(LINES)
    base = zoo.get("efficientnet_b0")
    assert len(found.trained) == 12 and found.baseline.label == "d1 r1 w1"
    for entry in found.trained:
        depth, side, width = (float(part[1:]) for part in entry.label.split())
        assert entry.arch.depth == depth * base.depth
        assert entry.arch.resolution_px == int(224 * side / 4 + 0.5) * 4
        assert entry.scaled.factors == (depth, width, side)


def test_networks_that_rounding_makes_one_share_a_training_and_stand_in_both_cells() -> None:
    plan = replace(LINES, table=TableSettings(widths=(1.0, 1.4, 1.401), starts=((1.0, 1.0),)))
    found = entries_of(plan)
    assert [entry.label for entry in found.trained] == ["d1 r1 w1", "d1 r1 w1.4"] and found.requested == 3
    assert found.trained[1].same == ("d1 r1 w1.401",)
    drawn = table_layout(found, rank_networks(found, {}, {}))
    assert drawn.columns == ("w1", "w1.4", "w1.401") and drawn.rows == ("d1 r1",)
    assert drawn.cells["d1 r1", "w1.4"] is drawn.cells["d1 r1", "w1.401"]


def accuracies(found: Design, value: dict[str, float], noise: float) -> dict[str, tuple[float, float]]:
    give = table(value, noise)
    return {label: (give(label, 0), give(label, 1)) for label in found.by_label}


def test_lines_are_held_against_each_other_at_the_cost_that_all_reach() -> None:
    """Accuracy is linear in log(MACs), so that interpolation is exact.

    The lines differ by one percentage point.
    """
    found = entries_of(LINES)
    lift = {"d1 r1": 0.0, "d1 r1.3": 0.01, "d2 r1": 0.02, "d2 r1.3": 0.03}

    def height(label: str, growth: float) -> float:
        return 0.5 + 0.05 * math.log(growth) + lift[label.rpartition(" ")[0]]

    narrow = entries_of(replace(LINES, table=TableSettings(widths=(1.0, 1.4))))  # the first ends before the last begins
    value = dict.fromkeys(narrow.by_label, 0.5)
    assert compared_at(table_layout(narrow, rank_networks(narrow, accuracies(narrow, value, 0.001), {}))) is None
    value = {entry.label: height(entry.label, entry.scaled.macs_growth) for entry in found.trained}
    for noise, significant in ((0.001, True), (0.1, False)):
        ranking = rank_networks(found, accuracies(found, value, noise), {})
        drawn = table_layout(found, ranking)
        growth, heights = compared_at(drawn) or pytest.fail("no common cost")
        assert growth == found.by_label["d1 r1 w2.2"].scaled.macs_growth
        assert {row: one.accuracy for row, one in heights.items()} == pytest.approx(
            {row: height(f"{row} w", growth) for row in heights}
        )
        assert heights["d1 r1"].variance == 0.5 and all(0.25 <= one.variance <= 0.5 for one in heights.values())
        text = " ".join(table_sentences(drawn, ranking))
        assert f"At x{growth:.2f} MACs" in text and text.index("d2 r1.3 has") < text.index("d1 r1.3 has")
        assert ("Statistically indistinguishable" not in text) == significant


def test_the_cheapest_of_those_as_good_as_the_best_is_named() -> None:
    found = entries_of(SIXTEEN, SIXTEEN.proxy)
    value = {label: 0.9 if label.startswith("w1") else 0.5 for label in found.by_label}
    value["w1 224px"] = 0.91
    ranking = rank_networks(found, accuracies(found, value, 0.02), {})
    assert ranking.best is not None and ranking.best.entry.label == "w1 224px" and ranking.best.verdict == BEST
    share = complexity(found.by_label["w1 128px"].arch).macs / complexity(found.baseline.arch).macs
    assert f"The cheapest of these, w1 128px, has {share:.0%} of the best one's MACs." in ranking.sentences()


def test_a_limit_leaves_cells_empty_and_the_table_whole() -> None:
    plan = replace(
        SIXTEEN, constraints=replace(SIXTEEN.constraints, macs_m=600.0), table=TableSettings(widths=(1.4, 1.0))
    )
    found = entries_of(plan, plan.proxy)
    assert [entry.label for entry in found.left_out] == ["w1.4 224px", "w1.4 192px"]
    ranking = rank_networks(found, accuracies(found, dict.fromkeys(found.by_label, 0.5), 0.01), {})
    drawn = table_layout(found, ranking)
    assert drawn.columns == ("224px", "192px", "160px", "128px") and drawn.rows == ("w1.4", "w1")
    assert len(drawn.line("w1.4")) == 2 and "left out: macs_m" in drawn.cells["w1.4", "224px"].verdict
    svg = matrix_plot(drawn, ranking).svg
    assert svg.count("left out") == 2 and svg.count("50.00") == 6
    lines = lines_plot(drawn, ranking, lambda one: one.entry.scaled.cost.macs / 1e6, name="macs", axis="MACs, M").svg
    assert all(f">{name}</text>" in lines for name in ("w1.4", "w1", "baseline"))


def test_impossible_tables_are_answered_with_what_is_possible() -> None:
    with pytest.raises(NasError, match=r"table: resolution_px 16: too small .* use at least 32 px"):
        entries_of(replace(SIXTEEN, table=TableSettings(resolution_px=(224, 16))))
    with pytest.raises(
        NasError, match=r"none of 1 networks of the table meets macs_m <= 600; .*or change the multipliers"
    ):
        limits = replace(SIXTEEN.constraints, macs_m=600.0)
        entries_of(replace(SIXTEEN, constraints=limits, table=TableSettings(widths=(2.0,), resolution_px=(224,))))


@pytest.mark.parametrize("width", [24, 40, 80])
def test_columns_without_room_follow_in_a_table_of_their_own(width: int) -> None:
    columns = tuple(f"{side}px" for side in range(96, 224, 16))
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    print_cells(console, SIXTEEN, TableLayout(rows=("w1",), columns=columns, cells={}))
    heads = [line.replace("┃", " ").split() for line in console.file.getvalue().splitlines() if "px" in line]
    assert [name for names in heads for name in names] == list(columns) and (len(heads) > 1) == (width < 80)
