"""The benchmark of sample efficiency: its evolution, its permuted space, what it counts, and its second table."""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import pytest

from nas.arch.complexity import complexity
from nas.core.errors import NasError
from search_spaces.blockwise import BlockwiseSpace
from tests.benchmarks import sample_efficiency, second_table, tabulated_searches
from tests.benchmarks.nas_bench_macro import NasBenchMacroSpace
from tests.benchmarks.regularized_evolution import POPULATION, TOURNAMENT, evolve
from tests.benchmarks.sample_efficiency import ARMS, MODES, Arm, Mode, ask_batch, new_search, trained
from tests.benchmarks.search_figures import Search, accuracy_missed, chosen_missed, first_of, mean, median
from tests.benchmarks.tabulated_searches import MS_PER_GMAC, Network, PermutedMacroSpace, Table
from tests.study.fakes import accuracy_of, small_space

SPACE = NasBenchMacroSpace()
NOTHING, ALL = (dict.fromkeys(SPACE.parameters, layer) for layer in ("id", "e6k5"))


def evolving(values: list[tuple[dict[str, str], tuple[float, ...]]], directions: list[str]) -> optuna.Study:
    study = optuna.create_study(directions=directions)
    choices = {name: optuna.distributions.CategoricalDistribution(layers) for name, layers in SPACE.parameters.items()}
    study.add_trials(
        [
            optuna.trial.create_trial(params=genotype, distributions=choices, values=list(value))
            for genotype, value in values
        ]
    )
    return study


def distance(one: Any, other: Any) -> int:
    return sum(one[name] != other[name] for name in SPACE.parameters)


def test_evolution_changes_one_choice_of_the_best_of_a_tournament_among_the_last_trials() -> None:
    old, young = [(ALL, (1.0,))] * 5, [(NOTHING, (0.5,))] * POPULATION
    study = evolving(old + young, ["maximize"])
    assert {distance(evolve(study, SPACE, random.Random(seed)), NOTHING) for seed in range(50)} == {1}
    study = evolving([*young[1:], (ALL, (0.6,))], ["maximize"])
    draws = 400
    share = fmean(distance(evolve(study, SPACE, random.Random(seed)), ALL) == 1 for seed in range(draws))
    expected = 1 - (1 - 1 / POPULATION) ** TOURNAMENT  # the best is drawn at least once
    assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / draws))


def test_evolution_with_two_objectives_has_parents_that_are_not_dominated() -> None:
    worse = [(NOTHING, (0.5, 2.0))] * (POPULATION - 1)
    study = evolving([*worse, (ALL, (0.5, 1.0))], ["maximize", "minimize"])
    children = [evolve(study, SPACE, random.Random(seed)) for seed in range(60)]
    drawn = [ALL in (trial.params for trial in random.Random(seed).choices(study.trials, k=5)) for seed in range(60)]
    assert [distance(child, ALL) == 1 for child in children] == drawn


def test_the_permuted_space_has_the_same_networks_under_other_names() -> None:
    space, rng = PermutedMacroSpace(0), random.Random(0)
    assert space.size == SPACE.size
    assert not set(space.parameters) & set(SPACE.parameters)
    for _ in range(30):
        arch = SPACE.decode(SPACE.sample(rng))
        assert space.decode(space.encode(arch)).arch_id == arch.arch_id
    first = [
        {SPACE.decode({**ALL, name: layer}).arch_id for layer in layers} for name, layers in SPACE.parameters.items()
    ]
    everything = space.encode(SPACE.decode(ALL))
    other = [
        {space.decode({**everything, name: layer}).arch_id for layer in layers}
        for name, layers in space.parameters.items()
    ]
    assert sorted(map(sorted, first)) == sorted(map(sorted, other))


@pytest.fixture(scope="module")
def table() -> Table:
    """Every network of a small space, with two trainings each."""
    space = small_space()
    archs = [
        space.decode(dict(zip(space.parameters, values, strict=True)), classes=10)
        for values in itertools.product(*space.parameters.values())
    ]
    networks = {
        arch.arch_id: Network(
            genotype=space.encode(arch),
            accuracies=(accuracy_of(arch) - 0.01, accuracy_of(arch) + 0.01),
            macs=complexity(arch).macs,
        )
        for arch in archs
    }
    return Table(
        name="small", at=(10, 20), space=space, networks=networks, points=tuple(arch.arch_id for arch in archs)
    )


@pytest.mark.parametrize("arm", ["random", "evolution", "tpe"])
def test_a_search_trains_each_network_once_and_begins_as_the_others_of_its_seed(table: Table, arm: str) -> None:
    search = new_search(table, MODES["mean"], ARMS[arm], 3)
    found = list(itertools.islice(trained(search, table, MODES["mean"], ARMS[arm]), 30))
    assert len(set(found)) == 30
    first = [search.pricer.decode(genotype).arch_id for genotype in table.first_genotypes(5, 3)]
    assert found[:5] == first
    told = {trial.user_attrs["arch_id"]: trial.value for trial in search.study.trials if trial.values}
    assert told == {name: pytest.approx(table.networks[name].accuracy) for name in told}


def test_batches_are_asked_for_before_any_is_told(table: Table) -> None:
    search = new_search(table, MODES["batches"], ARMS["evolution"], 0)
    tasks = ask_batch(search, ARMS["evolution"], 8)
    assert len({task.arch.arch_id for task in tasks}) == 8
    assert not [trial for trial in search.study.trials if trial.values]


def test_an_exhausted_space_ends_the_search() -> None:
    space = BlockwiseSpace(
        name="tiny",
        stem={"channels": 8},
        head={"channels": 8},
        stages=[{"channels": 8, "kernel": [3, 5], "type": "ds"}],
    )
    (name,) = space.parameters
    archs = [space.decode({name: kernel}, classes=10) for kernel in space.parameters[name]]
    networks = {
        arch.arch_id: Network(genotype=space.encode(arch), accuracies=(0.5,), macs=complexity(arch).macs)
        for arch in archs
    }
    tiny = Table(name="tiny", at=(1,), space=space, networks=networks, points=tuple(networks))
    search = new_search(tiny, Mode(), Arm(), 0)
    assert sorted(trained(search, tiny, Mode(), Arm())) == sorted(networks)


def test_figures_of_a_search(table: Table) -> None:
    worst_first = tuple(reversed(table.order))
    search = Search(table="small", mode="mean", arm="random", seed=0, trials=1, cpu_s=0.0, arch_ids=worst_first)
    assert first_of(search, table.top) == len(worst_first) - 9
    assert first_of(search, frozenset({"nothing"})) == math.inf
    accuracies = sorted(one.accuracy for one in table.networks.values())
    assert accuracy_missed(table, search, 20) == pytest.approx(100 * (accuracies[-1] - accuracies[19]))
    of_seed = {name: table.training(name, 0) for name in worst_first[:20]}
    chosen = max(of_seed, key=lambda name: of_seed[name])
    assert chosen_missed(table, search, 20) == pytest.approx(100 * (accuracies[-1] - table.networks[chosen].accuracy))


def test_medians_and_means_have_errors() -> None:
    assert median([0.0, 2.0], 9) == {"median": 1.0, "se": pytest.approx(math.sqrt(0.5), rel=0.05), "not_found": 0}
    assert median([1.0, math.inf, math.inf], 9)["median"] is None
    assert median([1.0, 2.0, math.inf], 9)["median"] == 2.0
    assert mean([1.0, 3.0]) == {"mean": 2.0, "se": 1.0}


def test_hypervolume_missed_is_the_area_between_staircases() -> None:
    corners = {"small": (0.7, 10), "middle": (0.8, 20), "large": (0.9, 40), "bad": (0.6, 40)}
    networks = {
        name: Network(genotype={}, accuracies=(accuracy,), macs=round(ms / MS_PER_GMAC * 1e9))
        for name, (accuracy, ms) in corners.items()
    }
    table = Table(name="four", at=(1,), space=None, networks=networks, points=tuple(networks), least_accuracy=0.75)
    # From 60% and 40 ms: 10% x 30 ms of the small one, and 10% x 20 ms more of the middle one.
    assert table.hypervolume_missed(["small"], "smallest") == pytest.approx(2 / 5)
    assert table.hypervolume_missed(["middle"], "75%") == pytest.approx(0)
    assert table.hypervolume_missed(["small", "large"], "75%") == pytest.approx(1)


def test_searches_are_read_from_the_file_that_an_earlier_run_wrote(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--table", "curves", "--arms", "random", "evolution", "--modes", "pareto", "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", ["sample_efficiency.py", *options, "--results", str(tmp_path / "searches.jsonl")])
    sample_efficiency.main()
    first = capsys.readouterr().out
    monkeypatch.setattr(sample_efficiency, "run", None)
    sample_efficiency.main()
    assert capsys.readouterr().out == first
    found = json.loads(first.splitlines()[-1])["found"]
    assert [(one["mode"], one["arm"]) for one in found] == [("pareto", "random"), ("pareto", "evolution")]


def test_the_second_table_is_every_network_of_its_space() -> None:
    table, space = tabulated_searches.second(), BlockwiseSpace(**second_table.SPACE)
    rows = second_table.read_rows()
    assert 200 <= len(table.networks) <= 260
    assert len(rows) == len(table.networks) + second_table.REPEATED
    for row in rows:
        values = {name: {str(value): value for value in space.parameters[name]} for name in space.parameters}
        arch = space.decode({name: values[name][row[name]] for name in values}, classes=10)
        cost = complexity(arch)
        assert (row["arch_id"], int(row["macs"]), int(row["params"])) == (arch.arch_id, cost.macs, cost.params)
        assert 0.2 < float(row["accuracy"]) < 0.7


def test_the_noise_of_the_second_table_is_that_of_its_repeated_trainings() -> None:
    noise = json.loads(second_table.FACTS.read_text(encoding="utf-8"))["noise"]
    rows = second_table.read_rows()
    twice = {row["arch_id"] for row in rows if row["repeat"] == "1"}
    pairs = [[float(row["accuracy"]) for row in rows if row["arch_id"] == name] for name in twice]
    within = math.sqrt(fmean((one - other) ** 2 / 2 for one, other in pairs))
    assert noise["accuracy"]["within"] == pytest.approx(within, abs=1e-5)
    assert noise["networks"] == len(twice) == second_table.REPEATED


def test_a_table_with_missing_networks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_table, "read_rows", lambda: [])
    with pytest.raises(NasError, match="train what is missing"):
        tabulated_searches.second()
