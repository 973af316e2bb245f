"""The benchmark of estimators: what is stored is not computed again, combinations, and the printed figures."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import kendalltau

from nas.analysis.rank_agreement import pairwise_tau
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.training.results import EpochResult, TrainingError
from tests.benchmarks import estimator_kinds, estimators
from tests.benchmarks.estimator_anchors import COUNTS, learned_from_anchors
from tests.benchmarks.estimator_scores import Signal, combined, scored
from tests.benchmarks.estimator_tables import Candidate, Sample, draw_curves
from tests.benchmarks.tabulated import TABLE
from tests.paths import CONF


class Interrupted(Exception):
    """Stands for a kill."""


class Recorder(estimator_kinds.Estimator):
    """Scores a network by its MACs, stops after ``left`` networks, and counts what it is asked for."""

    signals = ("first", "second")
    left = 3
    prepared: list[int] = []  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012

    def prepare(self) -> None:
        self.prepared.append(self.request.seed)
        self.cpu_s = 70.0

    def scores(self, candidate: Candidate) -> Mapping[str, float]:
        if Recorder.left == 0:
            raise Interrupted
        Recorder.left -= 1
        self.asked.append(candidate.name)
        return {"first": candidate.counts["macs"], "second": -1.0}


@pytest.fixture
def sample() -> Sample:
    return draw_curves(Path("nothing"), 7, 0, seed=0)


def test_a_killed_run_goes_on_where_it_was(sample: Sample, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(estimator_kinds.KINDS, "recorder", Recorder)
    with pytest.raises(Interrupted):
        scored("recorder", sample, [5], tmp_path)
    (stored,) = tmp_path.rglob("*.jsonl")
    with stored.open("a") as stream:
        stream.write('{"network": "cut in the mid')
    Recorder.left = -1
    signals = scored("recorder", sample, [5], tmp_path)
    assert Recorder.prepared == [5, 5] and Recorder.asked == [one.name for one in sample.all]
    assert [signal.label for signal in signals] == ["recorder/first", "recorder/second"]
    assert signals[0].values[0].tolist() == [one.counts["macs"] for one in sample.all]
    assert signals[0].cpu_s == pytest.approx(10.0, abs=0.1)  # 70 s of preparation for seven networks
    again = scored("recorder", sample, [5], tmp_path)
    assert len(Recorder.prepared) == 2 and len(Recorder.asked) == 7
    assert again[0].cpu_s == signals[0].cpu_s
    scored("recorder", sample, [5, 6], tmp_path)
    assert Recorder.prepared[2:] == [6] and len(Recorder.asked) == 14


class Epochs:
    """Stands for a proxy training: reports these (accuracy, validation loss, training loss), then ends or diverges."""

    def __init__(self, *epochs: tuple[float, float, float], diverges: bool = False) -> None:
        self.epochs, self.diverges = epochs, diverges

    def evaluate(self, _: ArchSpec, *, on_epoch: Callable[[EpochResult], None]) -> None:
        for number, (accuracy, val_loss, train_loss) in enumerate(self.epochs, start=1):
            on_epoch(
                EpochResult(
                    epoch=number, accuracy=accuracy, val_loss=val_loss, train_loss=train_loss, duration_s=1, cpu_s=1
                )
            )
        if self.diverges:
            raise TrainingError("loss became nan")


def test_a_proxy_training_gives_its_last_its_later_and_all_of_its_epochs(sample: Sample, tmp_path: Path) -> None:
    estimator = estimator_kinds.parse_estimator("proxy_default:epochs=5", sample, 0, tmp_path)
    vars(estimator)["_evaluator"] = Epochs((0.1, 9, 9), (0.2, 8, 8), (0.6, 5, 4), (0.4, 4, 3), (0.5, 3, 2))
    found = estimator.scores(sample.all[0])
    later = {"mean_accuracy": 0.5, "mean_loss": -4}  # of the last three
    assert found == pytest.approx({"accuracy": 0.5, "loss": -3, **later, "train_loss": -26})
    vars(estimator)["_evaluator"] = Epochs((0.9, 1, 1), diverges=True)
    assert set(estimator.scores(sample.all[0]).values()) == {-math.inf}


def test_options_are_settings_of_proxy_and_images(sample: Sample, tmp_path: Path) -> None:
    text = "proxy_careful:resolution_px=16,min_map_px=2,subset=null,label_smoothing=0"
    facts = estimator_kinds.parse_estimator(text, sample, 0, tmp_path).identity
    assert [facts["proxy"][name] for name in ("resolution_px", "min_map_px", "label_smoothing")] == [16, 2, 0]
    assert facts["data"]["subset"] is None
    assert facts["proxy"]["epochs"] == yaml.safe_load((CONF / "proxy" / "careful.yaml").read_text())["epochs"]


def signal(label: str, *values: np.ndarray, cpu_s: float = 1.0) -> Signal:
    return Signal(label=label, values=list(values), cpu_s=cpu_s)


def test_signals_are_combined_by_mean_rank() -> None:
    found = combined(
        "rank:a/x+b/y",
        {
            "a/x": signal("a/x", np.array([0.1, 0.2, 9.0, 0.2]), np.array([4.0, 3.0, 2.0, 1.0]), cpu_s=2.0),
            "b/y": signal("b/y", np.array([10.0, 30.0, 20.0, 40.0]), cpu_s=3.0),
        },
        np.zeros(4),
    )
    expected = [[1, 2.75, 3, 3.25], [2.5, 3, 2, 2.5]]  # ranks from 1; a share counts a network itself as half
    assert [(4 * values + 0.5).tolist() for values in found.values] == expected
    assert found.cpu_s == 5.0
    few = combined("rank:a+b", {name: signal(name, np.array([1.0, 5.0, 3.0, 9.0])) for name in "ab"}, np.zeros(2))
    assert few.values[0].tolist() == [0.25, 0.75, 0.5, 1.0]  # among the first two
    same = combined("rank:a/x+a/y", {name: signal(name, np.arange(3.0)) for name in ("a/x", "a/y")}, np.zeros(3))
    assert same.cpu_s == 1.0  # two scores of one estimator


def test_fitted_weights_find_what_counts_and_do_not_fit_noise() -> None:
    rng = np.random.default_rng(0)
    truth, noise, other = rng.normal(size=(3, 200))
    signals = {"truth": signal("truth", truth), "noise": signal("noise", noise), "other": signal("other", other)}
    assert pairwise_tau(combined("linear:truth+noise", signals, truth).values[0], truth) > 0.98
    # Of independent series tau has a standard deviation of 0.047 with 200 networks: three of these. In-sample weights
    # would always have found a positive one.
    assert abs(pairwise_tau(combined("linear:noise+other", signals, truth).values[0], truth)) < 0.14


def test_weights_are_learned_from_anchors_as_a_search_learns_them() -> None:
    sample = draw_curves(Path("nothing"), 30, 0, seed=0)
    truth = np.array([one.accuracy for one in sample.all])
    counts = {name: signal(name, np.array([one.counts[name] for one in sample.all], float)) for name in COUNTS}
    signals = counts | {"good": signal("good", truth, -truth, cpu_s=3.0)}  # its second seed points the wrong way
    found = learned_from_anchors("anchors:good+depth", signals, sample, 8)
    assert found.cpu_s == 4.0 and not found.has_mean
    taus = np.array([pairwise_tau(values, truth) for values in found.values])
    assert len(taus) == 10 and taus[::2].min() > 0.9
    # Eight trainings outweigh what a score is worth before any, and counts are right here.
    assert pairwise_tau(-truth, truth) == -1 and taus[1::2].min() > 0
    without = learned_from_anchors("anchors:macs+params+depth", signals, sample, 8)
    again = learned_from_anchors("anchors:depth", signals, sample, 8)
    assert np.array_equal(without.values, again.values)  # counts are features in any case


@pytest.mark.parametrize(
    ("text", "anchors", "message"),
    [
        ("anchors:good", 8, "unknown signal of anchors:good 'good': choose from macs"),
        ("anchors:macs", 3, "--anchors 3: must be 4 to 7, as --networks says"),
        ("anchors:macs", 8, "--anchors 8: must be 4 to 7, as --networks says"),
    ],
)
def test_anchors_that_cannot_be_drawn_are_refused(text: str, anchors: int, message: str, sample: Sample) -> None:
    with pytest.raises(NasError, match=message):
        learned_from_anchors(text, {"macs": signal("macs", np.arange(7.0))}, sample, anchors)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean:a+b", "unknown rule of --combine 'mean': choose from rank, linear, anchors"),
        ("rank:a+c", "unknown signal of rank:a.c 'c': choose from a, b"),
        ("rank:a", "give two signals or more"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(NasError, match=message):
        combined(text, {name: signal(name, np.arange(3.0)) for name in "ab"}, np.zeros(3))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--networks", "97"], "97 networks: there are 96"),
        (["--estimators", "mac"], "unknown estimator 'mac'"),
        (["--estimators", "epochs:epochs=10"], "epochs 10: the table has 9 epochs"),
        (["--estimators", "epochs:epochs=2,last=3"], "last 3: must be 1 to 2"),
        (["--estimators", "epochs:epochs"], "epochs has no value; write epochs=VALUE"),
        (["--estimators", "proxy_default:epoch=2"], "unknown key 'proxy.epoch'"),
        (["--table", "macro", "--shared", "nowhere"], "nowhere.* is not here: get it from"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["estimators.py", "--table", "curves", "--runs", str(tmp_path), *words])
    assert estimators.main() == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    with pytest.raises(NasError, match=message):
        raise NasError(output.err)


def test_the_printed_figures_are_those_of_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--table", "curves", "--runs", str(tmp_path), "--networks", "96", "--best", "9"]
    estimates = ["macs", "epochs:epochs=2", "epochs:epochs=5,last=3"]
    monkeypatch.setattr(sys, "argv", ["estimators.py", *words, "--estimators", *estimates])
    monkeypatch.setattr(estimators, "_RESAMPLES", 20)
    assert estimators.main() == 0
    rows = {row["estimator"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]}
    networks = json.loads(TABLE.read_text(encoding="utf-8"))["networks"]
    last = [one["accuracy"][-1] for one in networks]
    for name, values in (
        ("macs", [one["macs_m"] for one in networks]),
        ("epochs:epochs=2/accuracy", [one["accuracy"][1] for one in networks]),
        ("epochs:epochs=5,last=3/accuracy", [round(sum(one["accuracy"][2:5]), 6) for one in networks]),
    ):
        assert rows[name]["tau"][0] == pytest.approx(kendalltau(values, last).statistic, abs=1e-3)
    cost = [sum(one["cpu_s"][:2]) for one in networks]
    assert rows["epochs:epochs=2/accuracy"]["CPU-s"] == pytest.approx(sum(cost) / 96, abs=0.01)
    budgets = np.quantile([one["macs_m"] for one in networks], [0.25, 0.5, 0.75, 1])
    feasible = [[one["accuracy"][-1] for one in networks if one["macs_m"] <= budget] for budget in budgets]
    random_choice = 100 * np.mean([max(found) - np.mean(found) for found in feasible])
    assert rows["chance"]["lost"][0] == pytest.approx(random_choice, abs=1e-3)
