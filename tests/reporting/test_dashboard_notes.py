"""Tests of Markdown notes: content per outcome, escaping of markup."""

from __future__ import annotations

import shlex
from datetime import timedelta

import pytest

from nas.reporting.dashboard.notes import (
    StudyNote,
    TrialNote,
    code_block,
    escape_markdown,
    link,
    markdown_table,
    sparkline,
    wrap_command,
)
from nas.study.trial_record import Outcome, TrialRecord


def row(outcome: Outcome = Outcome.TRAINED, **fields: object) -> TrialRecord:
    return TrialRecord(number=7, outcome=outcome, **fields)  # type: ignore[arg-type]


def test_the_note_of_a_trained_trial_has_its_cost_and_accuracy() -> None:
    note = TrialNote(
        row=row(
            accuracy=0.9722, predicted_ms=9.234, latency_low_ms=7.2, latency_high_ms=10.42, measured_ms=9.92,
            measured_spread_ms=0.35, macs_m=187.64, params_m=1.18, peak_memory_mb=3.91, cpu_s=12.345,
            arch_id="50b9294db916", blocks="ds_r1_k3_s1_c16; ir_r1_k3.5_s2_e6_c24 ir_r2_k3_s1_e3_c24",
        ),
        label="W3",
        duration=timedelta(seconds=75.2),
        curve={1: 0.5, 2: 0.8, 3: 0.9722},
        facts=[("seed", "2")],
        drawing="/a/b",
    ).markdown  # fmt: skip
    assert note.startswith("**Trained**. **Winner W3.**") and note.endswith("\n\n![drawing of the network](/a/b)")
    for cells in (
        ("seed", "2"),
        ("proxy accuracy", "97.22%"),
        ("predicted latency", "9.23 ms (90% interval 7.20 to 10.42)"),
        ("measured latency", "9.92 ms (spread 0.35)"),
        ("cost", "187.6 M MACs, 1.18 M parameters, 3.91 MB peak memory"),
        ("took", "0:01:15 by the clock, 12.3 s of CPU in training"),
        ("learning curve", "▁▅█ accuracy 50.00% after epoch 1, 97.22% after epoch 3"),
        ("network", "50b9294db916"),
    ):
        assert f"| {cells[0]} | {cells[1]} |" in note
    assert (
        "```text\nstage 0:  ds_r1_k3_s1_c16\nstage 1:  ir_r1_k3.5_s2_e6_c24\n          ir_r2_k3_s1_e3_c24\n```" in note
    )


def test_the_note_of_a_segmenter_names_its_scores_in_words() -> None:
    trained = row(task="segmentation", accuracy=0.4, standard_error=0.02, metrics={"pixel_accuracy": 0.8})
    note = TrialNote(row=trained, metric="miou", curve={1: 0.2, 2: 0.4}).markdown
    assert "| proxy mIoU | 40.00 ± 2.00% |" in note and "| share of correct pixels | 80.00% |" in note
    assert "mIoU 20.00% after epoch 1, 40.00% after epoch 2" in note


@pytest.mark.parametrize(
    ("outcome", "reason", "expected"),
    [
        (Outcome.INFEASIBLE, "latency_ms 15.2 > 14", r"**Not trained: beyond a limit**: latency\_ms 15.2 \> 14."),
        (Outcome.DUPLICATE, "same as trial 3", "**Not trained again**: same as trial 3."),
        (Outcome.FAILED, "ValueError: a|b", r"**Failed**: ValueError: a\|b."),
        (Outcome.STOPPED, "41.2% after epoch 1, behind", "**Training stopped early**: 41.2% after epoch 1, behind."),
        (Outcome.RUNNING, "", "**Running when this was written**."),
    ],
)
def test_every_other_outcome_has_its_reason(outcome: Outcome, reason: str, expected: str) -> None:
    assert TrialNote(row=row(outcome, reason=reason)).markdown == expected


def test_what_took_no_time_has_no_duration() -> None:
    assert "took" not in TrialNote(row=row(Outcome.INFEASIBLE), duration=timedelta(seconds=0.4)).markdown


def test_a_reward_is_no_percentage() -> None:
    note = TrialNote(row=row(), metric="reward", curve={1: 0.51234}).markdown
    assert "reward 0.5123 after epoch 1" in note


def test_a_study_note_has_the_command_that_resumes_it() -> None:
    command = "python -m nas.search +space=mixnet 'space.choices.groups=[1, 2]' " + " ".join(
        f"proxy.name{index}=value" for index in range(9)
    )
    note = StudyNote(
        title="Search a_b",
        summary="3 tried.",
        command=command,
        facts=[("data", "a|b")],
        caption="Winners",
        best=[("", "trial"), ("**W1**", "[trial 3](/x)")],
        reading=["one", "two"],
    ).markdown
    assert note.startswith(
        "# Search a\\_b\n\n3 tried.\n\n## Winners\n\n|  | trial |\n| --- | --- |\n| **W1** | [trial 3](/x) |"
    )
    assert "- one\n- two" in note and r"| data | a\|b |" in note
    code = note.partition("```sh\n")[2].partition("\n```")[0]
    assert shlex.split(code.replace("\\\n", "")) == shlex.split(command)
    assert max(map(len, code.splitlines())) <= 76 and code.count("\n") >= 2


def test_a_study_without_winners_has_no_empty_table() -> None:
    note = StudyNote(title="a", summary="b", command="c", facts=[]).markdown
    assert "##  " not in note and "Winners" not in note


def test_nothing_is_taken_for_markup() -> None:
    assert escape_markdown("*a* <img src=x>\n| `b` [c](d) #") == r"\*a\* \<img src=x\> \| \`b\` \[c\](d) \#"
    assert code_block("a ```` b", "text") == "`````text\na ```` b\n`````"
    assert link("a]b", "/c") == r"[a\]b](/c)"
    assert markdown_table(("a", "b"), ("c", "d")) == "| a | b |\n| --- | --- |\n| c | d |"


def test_sparklines_span_their_values() -> None:
    assert sparkline([0.0, 1.0, 0.5]) == "▁█▅"
    assert sparkline([2.0, 2.0]) == ""
    assert "| accuracy 50.00% after epoch 1, 50.00% after" in TrialNote(row=row(), curve={1: 0.5, 2: 0.5}).markdown


def test_a_short_command_stays_in_one_line() -> None:
    assert wrap_command("python -m nas.search +space=mixnet") == "python -m nas.search +space=mixnet"
