"""NAS-Bench-Macro of the benchmarks: its networks cost what the table says, and equal networks are one."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from nas.arch.complexity import complexity
from nas.core.errors import NasError
from tests.benchmarks.nas_bench_macro import FILE, LAYERS, MacroTable, NasBenchMacroSpace, distinct_key
from tests.paths import REFERENCE, SHARED_DATA

PUBLISHED = json.loads((REFERENCE / "nas_bench_macro.json").read_text(encoding="utf-8"))["networks"]
SPACE = NasBenchMacroSpace()
NAMES = tuple(f"l{index}" for index in range(8))


def genotype(key: str) -> dict[str, str]:
    return {name: LAYERS[int(digit)] for name, digit in zip(NAMES, key, strict=True)}


@pytest.mark.parametrize("key", PUBLISHED)
def test_networks_cost_what_the_authors_counted(key: str) -> None:
    cost = complexity(SPACE.decode(genotype(key)))
    assert (cost.params, cost.macs) == (PUBLISHED[key]["params"], PUBLISHED[key]["macs"])


def test_where_the_identities_stand_makes_no_difference_after_a_stage_s_first_layer() -> None:
    keys = ["".join(digits) for digits in itertools.product("012", repeat=3)]  # of the second stage
    ids = {key: SPACE.decode(genotype(f"12{key}000")).arch_id for key in keys}
    assert ids["001"] == ids["010"] != ids["100"]
    assert ids["012"] != ids["021"]
    assert len(set(ids.values())) == 3 * (1 + 2 + 4)  # first layer; the two others: none, one of two, two of two
    assert {key: ids[distinct_key(f"12{key}000")[2:5]] for key in keys} == ids


def test_a_network_is_encoded_and_others_are_refused_with_the_reason() -> None:
    spec = SPACE.decode(genotype("20102210"), classes=7)
    assert SPACE.encode(replace(spec, name="another")) == genotype("20120210")
    with pytest.raises(NasError, match="2 stages, it has 3"):
        SPACE.encode(replace(spec, stages=spec.stages[:2]))
    with pytest.raises(NasError, match=r"4 blocks in stage 2 \(3\)"):
        longer = replace(spec.stages[2], blocks=(*spec.stages[2].blocks, *spec.stages[2].blocks[-1:] * 2))
        SPACE.encode(replace(spec, stages=(*spec.stages[:2], longer)))
    with pytest.raises(NasError, match="cannot express another"):
        SPACE.encode(replace(spec, name="another", resolution_px=64))


def test_different_networks_are_drawn_by_seed(tmp_path: Path) -> None:
    points = ["".join(digits) for digits in itertools.product("012", repeat=8)]
    path = tmp_path / FILE.name  # accuracy rises with the sum of the digits, the same for equal networks
    rows = {
        key: {"test_acc": [sum(map(int, key)) + part for part in (0, 1, 5)], "params": 1, "flops": 1} for key in points
    }
    path.write_text(json.dumps(rows), encoding="utf-8")
    table = MacroTable(path)
    assert table.truth("11111111") == pytest.approx((0.10, math.sqrt(7) / 100))  # 8, 9 and 13 percent
    assert table.draw(50, seed=0) == table.draw(60, seed=0)[:50] != table.draw(50, seed=1)
    drawn = table.draw(3969, seed=0)
    assert len(set(drawn)) == 3969 == 9 * 21 * 21
    assert (
        min(sum(map(int, key)) for key in table.draw(396, seed=0, best=True))
        >= sorted(sum(map(int, key)) for key in drawn)[-396]
    )
    with pytest.raises(NasError, match="397 networks: there are 396"):
        table.draw(397, seed=0, best=True)


def test_a_missing_table_is_named() -> None:
    with pytest.raises(NasError, match=r"nothing\.json is not here: get it from"):
        MacroTable(Path("nothing.json"))


@pytest.mark.skipif(not (SHARED_DATA / FILE).is_file(), reason=f"{FILE.name}: not here")
def test_every_network_of_the_table_costs_what_it_says_and_equal_ones_have_one_row() -> None:
    table = MacroTable(SHARED_DATA / FILE)
    assert len(table.by_key) == SPACE.size and len(table.by_arch) == len(table.distinct) == 9 * 21 * 21
    for key in table.distinct[::10]:
        cost = complexity(table.decode(key))
        assert (cost.params, cost.macs) == (table.by_key[key].params, table.by_key[key].macs)
    assert all(table.by_key[key] == table.by_key[distinct_key(key)] for key in table.by_key)
