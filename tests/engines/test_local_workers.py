"""Whole searches on real images with the smallest proxies: what they leave behind, and how they survive a kill."""

from __future__ import annotations

import csv
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from optuna.trial import TrialState

import nas.model.timm_entrypoint  # noqa: F401  (teaches timm the name nas_arch)
from nas import search
from nas.arch.files import load_spec_file
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.latency.host import describe
from nas.latency.predictors.held_out import HeldOutCheck
from nas.latency.predictors.op_fit import Prices
from nas.latency.predictors.op_regression import PricePredictor
from nas.latency.store import save_predictor
from nas.search import command, make_plan
from nas.study.trial_attributes import count_finished, trial_records
from tests.deadline import DEADLINE_S
from tests.engines.commands import SAMPLED, TINY, Forked
from tests.engines.fatal_search import FatalSearch
from tests.engines.kill_at_write import kill_at_write
from tests.studies import open_study_file


def outcomes(folder: Path) -> list[tuple[str, str, float | None]]:
    return [(row.arch_id, row.outcome, row.accuracy) for row in trial_records(open_study_file(folder))]


def in_the_middle(folder: Path) -> bool:
    """Whether a trial has been trained and another one is at it."""
    if not (folder / "runs" / "tiny" / "config.yaml").is_file():  # written when the study is ready
        return False
    study = open_study_file(folder)
    running = study.get_trials(states=(TrialState.RUNNING,))
    return count_finished(study) > 0 and any("peak_memory_mb" in trial.user_attrs for trial in running)


def test_a_search_leaves_networks_that_timm_builds_and_is_done_once(tmp_path: Path) -> None:
    assert command([*TINY, "study.n_trials=2"]) == 0
    folder = tmp_path / "runs" / "tiny"
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as stream:
        rows = {int(row["number"]): row for row in csv.DictReader(stream)}
    assert [row["outcome"] for row in rows.values()] == ["trained", "trained"]
    specs = sorted(path for path in (folder / "winners").glob("winner_?.yaml"))
    assert specs
    for path in specs:
        provenance = load_spec_file(path).provenance
        model = timm.create_model("nas_arch", spec=str(path)).eval()
        params = sum(parameter.numel() for parameter in model.parameters())
        assert params == provenance["params"]
        assert params / 1e6 == pytest.approx(float(rows[provenance["trial"]]["params_m"]))
        assert path.with_name(f"{path.stem}.efficientnet.yaml").is_file() and path.with_suffix(".py").is_file()
        assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 10)
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert all(row["arch_id"] in report for row in rows.values())
    assert "winner_1.yaml" in report and "<svg" in (folder / "pareto.svg").read_text(encoding="utf-8")

    before = outcomes(tmp_path)
    assert command([*TINY, "study.n_trials=2"]) == 0
    assert outcomes(tmp_path) == before


def test_a_killed_search_ends_as_one_that_was_not(tmp_path: Path) -> None:
    process = Forked(kill_at_write, 2, command, [*SAMPLED, "study.n_trials=3"])
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGKILL and in_the_middle(tmp_path), said
    assert len(open_study_file(tmp_path).get_trials(states=(TrialState.RUNNING,))) == 1
    assert command([*SAMPLED, "study.n_trials=3"]) == 0
    assert count_finished(open_study_file(tmp_path)) == 3
    assert all(trial.state.is_finished() for trial in open_study_file(tmp_path).trials)
    trained = [arch_id for arch_id, outcome, _ in outcomes(tmp_path) if outcome == "trained"]
    assert len(set(trained)) == len(trained) == 3

    assert command([*SAMPLED, "study.n_trials=3", "runs_dir=unbroken/runs"]) == 0
    assert outcomes(tmp_path / "unbroken") == outcomes(tmp_path)


def test_workers_share_a_study_and_one_that_is_killed_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "SEARCH", FatalSearch(tmp_path / "killed"))
    assert command([*SAMPLED, "study.n_trials=4", "engine.workers=2"]) == 0
    (victim,) = [trial for trial in open_study_file(tmp_path).trials if "kills" in trial.user_attrs]
    assert victim.user_attrs["kills"] == 1
    assert victim.user_attrs["outcome"] in ("trained", "duplicate")  # of a trial that drew the same network meanwhile
    trained = [arch_id for arch_id, outcome, _ in outcomes(tmp_path) if outcome == "trained"]
    assert len(set(trained)) == len(trained) == 4
    assert all(trial.state.is_finished() for trial in open_study_file(tmp_path).trials)
    said = capfd.readouterr().out
    assert f"was killed by SIGKILL; taken back: trial {victim.number}" in said
    assert [line[:3] for line in said.splitlines() if re.match(r"\d/4 trial ", line)] == ["1/4", "2/4", "3/4", "4/4"]
    assert "failed" not in said


@pytest.mark.usefixtures("unsteady")
def test_candidates_are_measured_for_the_workers_and_teach_the_predictor(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checks = [HeldOutCheck(name=name, measured_ms=ms, predicted_ms=1.0) for name, ms in (("a", 0.9), ("b", 1.1))]
    prices = Prices(values={}, scale=9.0, vectors=16)
    rough = PricePredictor(device=describe("onnxruntime"), prices=prices, checks=checks)
    save_predictor(rough, Path("rough.json"))
    arguments = [
        *SAMPLED, "latency=onnxruntime", "latency.calibration=rough.json", "latency.refine=true", "space.width=0.25",
        "study.n_trials=3",
    ]  # fmt: skip
    assert command([*arguments, "engine.workers=2"]) == 0
    rows = [row for row in trial_records(open_study_file(tmp_path)) if row.outcome == "trained"]
    assert len(rows) == 3 and all(row.measured_ms and row.predicted_ms for row in rows)
    told = [trial.values[1] for trial in open_study_file(tmp_path).trials if trial.state is TrialState.COMPLETE]
    assert told == [trial.user_attrs["latency_ms"] for trial in open_study_file(tmp_path).trials if trial.values]
    assert "predicted against measured" in capfd.readouterr().out
    report = (tmp_path / "runs" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert "Predicted vs. measured latency" in report and "3 networks measured" in report

    with pytest.raises(NasError, match=r"started with latency\.refine = true, now it is false"):
        command([*arguments, "latency.refine=false"])
    # Resumed in one process, it predicts by all that the storage knows.
    space = make_plan(arguments).space
    known = trial_records(open_study_file(tmp_path))
    assert command([*arguments, "study.n_trials=4"]) == 0
    archs = {
        row.arch_id: space.decode(row.genotype, classes=10, in_channels=1)
        for row in trial_records(open_study_file(tmp_path))
    }
    taught = rough.refined([(archs[row.arch_id], row.measured_ms) for row in known if row.outcome == "trained"])
    (new,) = set(archs) - {row.arch_id for row in known}
    (predicted_ms,) = {row.predicted_ms for row in trial_records(open_study_file(tmp_path)) if row.arch_id == new}
    assert predicted_ms == pytest.approx(taught.predict(archs[new]).latency_ms, abs=1e-6)


def test_ctrl_c_keeps_what_there_is_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = ProxyEvaluator.evaluate
    calls: list[str] = []

    def evaluate(self: ProxyEvaluator, arch: ArchSpec, **how: Any) -> Evaluation:
        calls.append(arch.arch_id)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)  # treated as Ctrl-C
            time.sleep(DEADLINE_S)
        return real(self, arch, **how)

    monkeypatch.setattr(ProxyEvaluator, "evaluate", evaluate)
    arguments = [*TINY, "study.n_trials=3"]
    assert command(arguments) == 130
    said = capsys.readouterr().out
    assert f"stopped; go on with: python -m nas.search {' '.join(arguments)}" in said
    assert (tmp_path / "runs" / "tiny" / "winners" / "winner_1.yaml").is_file()
    assert [outcome for _, outcome, _ in outcomes(tmp_path)] == ["trained"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    assert command(arguments) == 0
    assert calls[1] == calls[2] and len(calls) == 4
    assert "1 of 3 trials are done already" in capsys.readouterr().out


def test_a_space_that_is_used_up_has_its_results_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(self: ProxyEvaluator, arch: ArchSpec, **_: Any) -> Evaluation:
        return Evaluation(accuracy=int(arch.arch_id[:4], 16) / 2**16, cpu_s=0.0, duration_s=0.0)

    monkeypatch.setattr(ProxyEvaluator, "evaluate", evaluate)
    with pytest.raises(NasError, match=r"stopped after 4 of 9 trials: all 4 points"):
        command([*TINY, "space.width=0.25", "study.n_trials=9"])
    folder = tmp_path / "runs" / "tiny"
    assert (folder / "winners" / "winner_1.yaml").is_file() and (folder / "report.html").is_file()
