"""Tests of the nas.compound_grid command.

Its error messages, a complete small grid on real images, and its state after a kill.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import timm
import torch
from optuna.trial import TrialState, create_trial

import nas.model.timm_entrypoint  # noqa: F401  (registers nas_arch in timm)
from nas.arch.files import load_spec_file
from nas.arch.scaling.rounding_rules import RoundingRules
from nas.compound_grid import command, make_plan
from nas.core.errors import NasError
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.session import is_scaling_finished
from nas.report import command as report
from nas.study.trial_attributes import count_finished, trial_records
from nas.study.trial_record import TrialRecord
from tests.deadline import DEADLINE_S
from tests.engines.commands import Forked
from tests.engines.kill_at_write import kill_at_write
from tests.json_output import json_answer
from tests.methods.scaling.tiny import (
    TINY,
    Finished,
    Page,
    networks,
    outcomes,
    study_in_dashboard,
    trained_above_chance,
)
from tests.paths import ROOT
from tests.studies import open_study_file


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    """Grids run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    trained_above_chance(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("phi=0", r"phi 0: must be a number above 0"),
        ("phi=two", r"phi 'two': must be a number above 0"),
        ("baseline=mixnet_z", r"baseline 'mixnet_z': neither .* Did you mean 'mixnet_"),
        ("baseline=null", r"which network\? Add baseline= with"),
        ("target=flops", r"unknown target 'flops': choose from macs, latency"),
        ("compare=[depth,height]", r"unknown compare 'height': choose from depth, width, resolution, compound, dwr"),
        ("compare=depth", r"compare 'depth': must be a list such as \[depth,width.* one of width_lines, width_resol"),
        ("compare=[width_lines,depth]", r"compare \[width_lines, depth\]: a table cannot be combined with others"),
        ("compare=width_lines phi=2", r"phi 2: a table has no target growth; leave it out, and set table\.widths"),
        ("compare=width_resolution target=latency", r"target latency: a table has no target growth"),
        ("table.widths=[0]", r"table\.widths 0: must be a number above 0"),
        ("table.widths=2", r"table\.widths 2: must be a list of multipliers"),
        ("table.starts=[1,2]", r"table\.starts 1: must be a list of \[depth, resolution\] multipliers"),
        ("table.starts=null", r"table\.starts null: must be a list"),
        ("table.sides_px=[224]", r"unknown key 'table\.sides_px': it is called table\.resolution_px\."),
        ("table.resolution_px=[22.4]", r"table\.resolution_px 22\.4: must be a whole number of at least 1"),
        ("compare=[depth,depth]", r"compare \[depth, depth\]: list each rule once"),
        ("coefficients=[1.2,1.1]", r"coefficients \[1\.2, 1\.1\]: must be \[alpha,beta,gamma\]"),
        ("coefficients=[0.9,1,1]", r"alpha 0\.9: must be at least 1"),
        ("grid.alpha=[0.9]", r"grid\.alpha 0\.9: must be a number of at least 1"),
        ("grid.alpha=[]", r"grid\.alpha \[\]: must be a list of factors"),
        ("grid.tolerance=-1", r"grid\.tolerance -1: must be a number of at least 0"),
        ("rounding.depth_rule=cell", r"unknown depth_rule 'cell': choose from ceil, .* Did you mean 'ceil'"),
        ("rounding.divisor=0", r"rounding\.divisor 0: must be at least 1"),
        ("rounding=3", r"rounding: must be a mapping"),
        ("race.finalists=1", r"race\.finalists 1: must be a whole number of at least 2"),
        ("race.last_epochs=3", r"race\.last_epochs 3: must be at most proxy\.epochs \(2\), or null\."),
        ("race.last_epochs=0", r"race\.last_epochs 0: must be a whole number of at least 1, or null"),
        ("race.criterion=loss", r"unknown race\.criterion 'loss': choose from accuracy, val_loss"),
        ("race.min_power=1", r"race\.min_power 1: must be a number of at least 0 and below 1"),
        ("race.stop_share=1", r"race\.stop_share 1: must be a number of at least 0 and below 1"),
        ("latency=onnxruntime latency.refine=true", r"latency\.refine true: a scaling study measures no latency"),
        ("study.name=a/b", r"study\.name 'a/b': may hold letters"),
        ("study.n_trials=3", r"unknown key 'study\.n_trials'"),
        ("nonsense=3", r"unknown key 'nonsense'"),
        ("data=cifar10", r"data\.root: missing"),
        ("data=detection", r"data\.name 'detection': this command trains classifiers only"),
    ],
)
def test_mistakes_name_what_is_wrong_and_leave_nothing_behind(tmp_path: Path, overrides: str, message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        command(["latency=macs", *overrides.split()])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_impossible_grids_end_before_a_study_is_begun(tmp_path: Path) -> None:
    for override, message in (
        ("constraint.peak_memory_mb=0.1", r"the baseline itself breaks it \(peak_memory_mb"),
        ("grid.gamma=[1.3]", r"grid\.tolerance 0\.1: none of 6 triples.* or give more values"),
        ("phi=30", r"phi 30: must be a number above 0 and at most 12"),
        ("phi=12", r"phi 12 with"),
    ):
        with pytest.raises(NasError, match=f"(?i){message}"):
            command([*TINY, override])
    assert list(tmp_path.iterdir()) == []


def test_help_and_configuration_load_nothing_heavy() -> None:
    code = """
import sys
from nas.compound_grid import command, make_plan
command(["--help"]), command(["--cfg", "job"]), make_plan(["latency=macs"])
print(sorted({"torch", "timm", "optuna", "sklearn", "matplotlib", "onnxruntime"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "alpha (depth), beta (width)" in done.stdout


def test_names_and_identity_tell_studies_apart() -> None:
    plans = {
        "efficientnet_b0-digits-phi1": make_plan(["phi=1"]),
        "mixnet_s-digits-phi0.5-latency": make_plan(["phi=0.5", "baseline=mixnet_s", "target=latency"]),
        "efficientnet_b0-digits-phi2-compare": make_plan(["phi=2", "compare=[depth,width]"]),
        "mobilenetv1_100-digits-width_resolution": make_plan(["baseline=mobilenetv1_100", "compare=width_resolution"]),
    }
    assert {name: plan.name for name, plan in plans.items()} == {name: name for name in plans}
    first = make_plan(["phi=1"]).identity("here")
    assert make_plan(["phi=1", "race.seeds=9", "race.min_power=0"]).identity("here") == first
    for other in (
        "race.last_epochs=2",
        "race.criterion=val_loss",
        "phi=2",
        "grid.tolerance=0.05",
        "race.finalists=5",
        "rounding.divisor=4",
        "study.seed=1",
    ):
        assert make_plan(["phi=1", other]).identity("here") != first, other
    lines = make_plan(["compare=width_lines"]).identity("here")
    for other in ("table.widths=[1.0,1.4]", "table.starts=[[1,1]]", "rounding.divisor=4", "compare=width_resolution"):
        assert make_plan(["compare=width_lines", other]).identity("here") != lines, other
    for same in ("table.resolution_px=[96]", "grid.tolerance=0.05", "coefficients=[1.3,1.1,1.1]"):  # of others
        assert make_plan(["compare=width_lines", same]).identity("here") == lines, same


def test_rules_that_earlier_versions_did_not_have_leave_their_studies_alone() -> None:
    """They rounded every network by the limit of 0.9, and scaled MobileNetV3's stem at every width."""
    earlier = {"width_rule", "divisor", "depth_rule", "stem", "head", "fixed_ends", "resolution_rule"}
    baseline = "baseline=mobilenetv3_large_100"
    grid, table = make_plan(["phi=1", baseline]), make_plan([baseline, "compare=width_resolution"])
    assert {key for key in grid.identity("here") if "rounding" in key} == {f"rounding.{name}" for name in earlier}
    assert table.identity("here")["rounding.fixed_stem_below"] == 0.75  # its widths begin at 0.25

    def read(plan: ScalingPlan, name: str) -> RoundingRules:
        kept = {key: value for key, value in plan.settings["rounding"].items() if key in earlier}
        config, baseline = {**plan.settings, "rounding": kept}, replace(plan.baseline, name=name)
        return ScalingPlan.of(config, baseline=baseline, runs_dir=plan.runs_dir, command="").rules

    assert read(table, "mobilenetv3_large_100") == replace(table.rules, fixed_stem_below=0.0)
    assert read(grid, "tf_efficientnetv2_b0").round_limit == 0.9


def test_kept_settings_give_the_rules_and_their_family_again() -> None:
    for overrides in ([], ["rounding.family=tinynet", "rounding.divisor=4"]):
        plan = make_plan(["phi=1", *overrides])
        again = ScalingPlan.of(plan.settings, baseline=plan.baseline, runs_dir=plan.runs_dir, command="")
        assert (again.rules, again.rules.summary) == (plan.rules, plan.rules.summary)


def test_an_interrupt_before_the_first_result_leaves_a_report_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # treated as Ctrl-C
        time.sleep(DEADLINE_S)

    monkeypatch.setattr(ProxyEvaluator, "evaluate", evaluate)
    assert command(list(TINY)) == 130
    said = capsys.readouterr().out
    assert (
        "No network has finished training yet." in said and "stopped; go on with: python -m nas.compound_grid" in said
    )
    assert "not trained yet" in (tmp_path / "runs" / "tiny" / "report.html").read_text(encoding="utf-8")

    def of_a_study_at_work(running: optuna.Study) -> list[TrialRecord]:
        running.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"network": "baseline", "seed": 9}))
        return trial_records(running)

    monkeypatch.setattr("nas.methods.scaling.report_data.trial_records", of_a_study_at_work)
    assert report(["study=tiny"]) == 0


def made(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.suffix in (".html", ".csv", ".svg", ".png")
    }


def test_a_grid_leaves_an_answer_a_report_and_a_family_that_timm_builds(
    grid: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(grid.folder, tmp_path, dirs_exist_ok=True)
    said = grid.output
    folder = tmp_path / "runs" / "tiny"
    rows = networks(folder)
    (best,) = [row for row in rows.values() if row["verdict"] == "best"]
    trained = [row for row in rows.values() if row["accuracy"]]
    assert {"1/1/1.4", "1/1.4/1", "1.4/1/1.2", "2/1/1", "baseline"} == set(rows) and len(trained) == len(rows)
    assert best["seeds"] == rows["baseline"]["seeds"] == "2" and f"Best: {best['network']} with" in said
    assert sum(int(row["seeds"]) for row in trained) == count_finished(open_study_file(tmp_path)) == 8
    assert "of its proxy" in said and "8/8" in said
    assert "rounding: channels to multiples of 8" in said and "rules of the family " in said

    page = (folder / "report.html").read_text(encoding="utf-8")
    links = Page(page).links
    files = [link for link in links if not link.startswith(("#", "data:image/png;base64,"))]
    assert files and all((folder / link).is_file() for link in files), files
    assert "family/phi_7.yaml" in links and "://" not in re.sub("http://www.w3.org/|sqlite:///", "", page)
    assert "10 classes: 0, 1, 2, 3, 4, ...; images per class: 10 train, 35 to 37 validation" in said
    assert page.count('src="data:image/png;base64,') == 10  # samples of each digit
    first = made(folder)
    for name in first:
        (folder / name).unlink()
    (told,) = json_answer(report, capsys, ("tiny",))["studies"]
    assert made(folder) == first

    for name in ("macs", "latency", "surface"):
        assert (folder / f"{name}.svg").read_text(encoding="utf-8").startswith("<svg")
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")

    answer = study_in_dashboard(tmp_path)
    note, best_one = answer["note"]["body"], f"| {best['network']} | {100 * float(best['accuracy']):.2f} ± "
    assert note.startswith("# tiny: compound grid") and best_one in note and f"Best: {best['network']} with" in note
    assert {"macs.svg", "best.svg", "best.yaml"} <= {meta["filename"] for meta in answer["artifacts"]}
    for trial in answer["trials"]:
        label = trial["note"]["body"].partition("| label | ")[2].partition(" |")[0]
        assert label in rows and (f"Winner {label}." in trial["note"]["body"]) is (label == best["network"])
        assert len(trial["artifacts"]) == 2

    spec = folder / "family" / "phi_1.yaml"
    model = timm.create_model("nas_arch", spec=str(spec)).eval()
    provenance = load_spec_file(spec).provenance
    assert sum(parameter.numel() for parameter in model.parameters()) == provenance["params"]
    assert provenance["coefficients"] == best["network"] and load_spec_file(spec).arch.arch_id == best["arch_id"]
    side = load_spec_file(spec).arch.resolution_px
    assert model(torch.zeros(1, 1, side, side)).shape == (1, 10)

    assert told["conclusion"]["end"] in ("seeds_spent", "separated") and "The race ended" in said
    assert float(best["val_loss"]) > 0 < float(best["val_loss_error"]) and "val loss" in said
    before = outcomes(tmp_path)
    assert command(list(TINY)) == 0 and outcomes(tmp_path) == before
    assert "8 of 8 trials are done already" in capsys.readouterr().out
    with pytest.raises(NasError, match=r"'tiny' was started with phi = 1, now it is 2"):
        command([*TINY[1:], "phi=2"])


def test_a_finished_grid_is_known_by_its_folder(grid: Finished, tmp_path: Path) -> None:
    shutil.copytree(grid.folder, tmp_path, dirs_exist_ok=True)
    assert is_scaling_finished(make_plan(list(TINY)))
    for other in ("phi=2", "race.seeds=9999", "study.name=other", "study.seed=1"):
        assert not is_scaling_finished(
            make_plan([*(one for one in TINY if one.split("=")[0] != other.split("=")[0]), other])
        )
    for missing in ("baseline.yaml", "report.html"):
        (tmp_path / "runs" / "tiny" / missing).rename(tmp_path / missing)
        assert not is_scaling_finished(make_plan(list(TINY)))
        (tmp_path / missing).rename(tmp_path / "runs" / "tiny" / missing)
    open_study_file(tmp_path).enqueue_trial({})
    assert not is_scaling_finished(make_plan(list(TINY)))


def test_a_killed_grid_ends_as_one_that_was_not(grid: Finished, tmp_path: Path) -> None:
    killed = Forked(kill_at_write, 3, command, list(TINY))
    said, _ = killed.communicate(timeout=DEADLINE_S)
    assert killed.returncode == -signal.SIGKILL, said
    (running,) = open_study_file(tmp_path).get_trials(states=(TrialState.RUNNING,))
    assert count_finished(open_study_file(tmp_path)) == 2 and "proxy_macs_x" in running.user_attrs
    assert command(list(TINY)) == 0
    assert outcomes(tmp_path) == outcomes(grid.folder)


def test_workers_share_the_rounds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command([*TINY, "engine.workers=2", "race.stop_share=0"]) == 0
    trained = [(label, seed) for label, seed, outcome, _ in outcomes(tmp_path) if outcome == "trained"]
    assert len(set(trained)) == len(trained) == 8
    assert {seed for _, seed in trained} == {0, 1} and "8/8" in capfd.readouterr().out
    assert os.environ["OMP_NUM_THREADS"] == "1"
