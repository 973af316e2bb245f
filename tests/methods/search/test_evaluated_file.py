"""Tests of CSV files of evaluated networks: trials of another search, tables of a user's own, and mistakes."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.arch import zoo
from nas.arch.files import save_spec
from nas.core.errors import NasError
from nas.methods.search.trials import evaluated_file
from nas.methods.search.trials.evaluated_file import read_evaluated_file
from nas.methods.search.trials.evaluations import PriorEvaluation
from nas.reporting.search_columns import records_to_csv
from nas.study.trial_record import Outcome, TrialRecord
from tests.methods.search.test_network_encoding import block_text
from tests.study.fakes import mobilenet_v1, small_space

SMALL = small_space()
BLOCKS = "ds_r1_k3_s1_c8; ir_r1_k5_s2_e3_c16"
FIRST = 'blocks,accuracy,width,s0.channels\n"'


def read(folder: Path, text: str, space: Any = SMALL) -> tuple[PriorEvaluation, ...]:
    path = folder / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return read_evaluated_file(path, space).evaluations


def record(number: int, genotype: dict[str, Any], outcome: Outcome, **fields: Any) -> TrialRecord:
    blocks = block_text(SMALL.decode(genotype))
    return TrialRecord(number=number, outcome=outcome, genotype=genotype, blocks=blocks, **fields)


def test_the_table_of_a_search_is_read_as_it_is(tmp_path: Path) -> None:
    """Trained networks with their accuracy, scored ones with their estimate, and nothing else."""
    rng = random.Random(0)
    genotypes = [dict(SMALL.sample(rng)) for _ in Outcome]
    figures: dict[Outcome, dict[str, float]] = {
        Outcome.TRAINED: {"accuracy": 0.8125, "standard_error": 0.01, "estimated_accuracy": 0.7},
        Outcome.SCORED: {"estimated_accuracy": 0.6, "estimate_error": 0.05},
        Outcome.DUPLICATE: {"accuracy": 0.8125, "standard_error": 0.01},
    }
    rows = [
        record(number, genotype, outcome, **figures.get(outcome, {}))
        for number, (outcome, genotype) in enumerate(zip(Outcome, genotypes, strict=True))
    ]
    found = read(tmp_path, records_to_csv(rows))
    by_outcome = dict(zip(Outcome, genotypes, strict=True))
    assert found == (
        PriorEvaluation(genotype=by_outcome[Outcome.TRAINED], accuracy=0.8125, standard_error=0.01, source="mine.csv"),
        PriorEvaluation(
            genotype=by_outcome[Outcome.SCORED], accuracy=0.6, standard_error=0.05, source="mine.csv (estimated)"
        ),
    )
    assert read_evaluated_file(tmp_path / "mine.csv", SMALL).note == "1 estimated"


def test_a_table_of_specs_published_names_and_repeated_measurements(tmp_path: Path) -> None:
    save_spec(zoo.get("mobilenetv1_050"), tmp_path / "half.yaml")
    text = "spec,accuracy,standard_error,source,date\nmobilenetv1_100,0.709,,ImageNet,2017\n"
    text += "# a comment\nhalf.yaml,0.633,0.002,,\nhalf.yaml,0.64,0.002,,2018\n"
    found = read(tmp_path, text, mobilenet_v1())
    assert [(one.genotype["width"], one.genotype["resolution_px"]) for one in found] == [(1.0, 224), *[(0.5, 224)] * 2]
    assert [(one.accuracy, one.standard_error, one.source) for one in found] == [
        (0.709, None, "ImageNet"),
        (0.633, 0.002, "mine.csv"),
        (0.64, 0.002, "mine.csv"),
    ]


def test_choices_as_a_spreadsheet_writes_them(tmp_path: Path) -> None:
    """Without the decimals of 1.0, and truth values in capitals."""
    assert [one.genotype for one in read(tmp_path, "width,resolution_px,accuracy\n1,224,.7\n", mobilenet_v1())] == [
        {"width": 1.0, "resolution_px": 224}
    ]
    space = small_space([{"kernel": [3, 5], "expansion": 3, "skip": [True, False]}])
    genotype = {**space.sample(random.Random(0)), "s1.b0.skip": False}
    text = f"{','.join(genotype)},accuracy\n{','.join(map(str, genotype.values()))},.7\n".replace("False", "FALSE")
    (found,) = read(tmp_path, text, space)
    assert found.genotype == genotype


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{FIRST}{BLOCKS}",80.1,1,8\n', r"line 2: accuracy '80\.1': accuracies are in \[0, 1\]; divide percents by"),
        (f'{FIRST}{BLOCKS}",-0.1,1,8\n', r"line 2: accuracy '-0\.1': accuracies are in \[0, 1\]\."),
        (f'{FIRST}{BLOCKS}",nan,1,8\n', r"line 2: accuracy 'nan': accuracies are in \[0, 1\]\."),
        (f'{FIRST}{BLOCKS}",0,8,1,8\n', "line 2: 5 cells for 4 columns: if accuracy is 0,8, numbers take a"),
        (f'{FIRST}{BLOCKS}",,1,8\n', "line 2: accuracy is missing"),
        (f'{FIRST}{BLOCKS}",.5,1,8\n,.5,1,8\n', "line 3: blocks is missing, and spec"),
        (f'{FIRST}ds_r1_k3_s1_c8; ir_r1_k7_s2_e3_c16",.5,1,8\n', r"line 2: space 'small' cannot .* Leave the row out"),
        (f'{FIRST}ds_r1_kx_s1_c8",.5,1,8\n', "line 2: block 'ds_r1_kx_s1_c8': unknown option 'kx'"),
        (f'{FIRST}{BLOCKS}",.5,1.3,8\n', r"line 2: width '1\.3': space 'small' offers 0\.5, 1\.0\. Leave the row out"),
        ("spec,accuracy\nmobilenetv1_10,.5\n", "line 2: spec 'mobilenetv1_10': neither .* Did you mean 'mobile"),
        ("spec,accuracy\nno.yaml,.5\n", r"line 2: cannot read spec file '.*no\.yaml': No such file"),
        ("spec,accuracy\nmixnet_s,.5\n", "line 2: space 'small' cannot express this network: .* Leave the row out"),
        (f'spec,blocks,accuracy\nmixnet_s,"{BLOCKS}",.5\n', "line 2: has both blocks and spec"),
        ("spec,accuracy,standard_error\nmixnet_s,.5,2\n", "line 2: standard_error '2': standard errors of"),
        ("spec,acuracy\n", "line 1: unknown column 'acuracy'; .* Did you mean 'accuracy'"),
        ("spec,top1\n", "line 1: column 'accuracy' is missing"),
        ("network,accuracy\na,.5\n", r"line 1: no column says what the networks are; add blocks .* or spec"),
        ("spec;accuracy\nmixnet_s;0,5\n", "line 1: the columns are separated by ';'"),
        ("", "contains no rows; add some"),
        ("spec,accuracy\n", "contains no evaluated network; add rows with an accuracy"),
        ("spec,accuracy,outcome\nmixnet_s,,failed\n", r"contains no evaluated network \(1 failed\); add rows"),
        ("spec,accuracy,outcome\nmixnet_s,,good\n", "line 2: outcome 'good': must be one of trained, scored"),
        (f"spec,accuracy,source\nmobilenetv1_100,.5,{'x' * 101}\n", "source 'x{40}...': must have at most 100"),
        ("width,resolution_px,accuracy\n1,96,.7\n", r"line 2: blocks is missing, and spec"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(NasError, match=rf"^study\.evaluated: .*mine\.csv.*{message}") as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NasError, match=r"^study\.evaluated: cannot read '.*none\.csv': No such file"):
        read_evaluated_file(tmp_path / "none.csv", SMALL)
    (tmp_path / "mine.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(NasError, match=r"mine\.csv': not a text file in UTF-8"):
        read_evaluated_file(tmp_path / "mine.csv", SMALL)


def test_trials_of_a_space_with_more_choices_are_not_taken_for_others(tmp_path: Path) -> None:
    """A column of a choice that the space has not is not ignored where the network would be another."""
    genotype = dict(SMALL.sample(random.Random(0)))
    row = record(0, genotype, Outcome.TRAINED, accuracy=0.5)
    row = replace(row, genotype={**genotype, "resolution_px": 64})
    with pytest.raises(NasError, match=r"line 2: resolution_px '64': space 'small' has 32\. Leave the row out, or"):
        read(tmp_path, records_to_csv([row]))


def test_a_long_file_name_is_shortened_as_the_source(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 97}.csv"
    path.write_text("spec,accuracy,source\nmobilenetv1_100,.5,\nmobilenetv1_100,.5,mine\n", encoding="utf-8")
    found = read_evaluated_file(path, mobilenet_v1()).evaluations
    assert [one.source for one in found] == [f"{'x' * 97}...", "mine"]


def test_there_is_a_largest_number_of_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluated_file, "MAX_EVALUATIONS", 2)
    with pytest.raises(NasError, match=r"mine\.csv: 3 evaluated networks; keep at most 2\."):
        read(tmp_path, "spec,accuracy\n" + 3 * "mobilenetv1_100,.5\n", mobilenet_v1())
