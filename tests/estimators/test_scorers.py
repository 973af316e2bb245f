"""Tests of scorers: several as one, made of settings, prepared once, and what a proxy's evaluator makes of them."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.data.images import ImageData
from nas.estimators.base import ignore
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.estimators.proxy.settings import ProxySettings
from nas.estimators.scorers import CombinedScorer, with_scorer
from nas.estimators.settings import EstimatorSettings
from nas.estimators.supernet import SupernetScorer
from nas.estimators.zero_cost import ZeroCostScorer
from nas.study.session import StudySession
from nas.training.results import TrainingError
from tests.study.fakes import mobilenet_v1

ARCH = mobilenet_v1().decode({"width": 0.25, "resolution_px": 128}, classes=10, in_channels=1)


@dataclass(frozen=True, kw_only=True)
class OneScore:
    """Gives one score, and notes in ``seen`` that it was prepared."""

    name: str
    value: float = 1.0
    seen: list[str] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def prepare(self, progress: ProgressCallback | None = None, say: Callable[[str], object] = ignore) -> None:
        self.seen.append("prepared")
        if progress:
            progress(1, 2)

    def scores(self, arch: ArchSpec) -> Mapping[str, float]:
        return {self.name: self.value}


def evaluator(digits: ImageData, scorer: Any = None) -> ProxyEvaluator:
    settings = ProxySettings(width_multiplier=0.1, resolution_px=8, device="cpu")
    return ProxyEvaluator(data=digits, settings=settings, largest_kernel=3, seed=4, scorer=scorer)


def test_several_scorers_are_one() -> None:
    parts = (OneScore(name="a", value=3.0), OneScore(name="b"))
    both = CombinedScorer(scorers=parts)
    both.prepare()
    assert both.names == ("a", "b") and dict(both.scores(ARCH)) == {"a": 3.0, "b": 1.0}
    assert [part.seen for part in parts] == [["prepared"]] * 2


def test_the_scorer_of_the_settings_scores_the_proxies_that_are_trained(digits: ImageData) -> None:
    settings = EstimatorSettings(name="zero_cost", zero_cost=("naswot", "synflow"), zero_cost_batch_size=16)
    own = with_scorer(evaluator(digits), settings, mobilenet_v1(), Path("study"))
    assert isinstance(own.scorer, ZeroCostScorer)
    assert (own.scorer.settings, own.scorer.seed, own.scorer.batch_size) == (own.settings, own.seed, 16)
    scores = own.scores(ARCH)
    assert list(scores) == ["naswot", "synflow"] and all(map(math.isfinite, scores.values()))
    assert own.with_folders(weights_dir=None, checkpoints_dir=None).scorer is own.scorer
    assert with_scorer(evaluator(digits), EstimatorSettings(), mobilenet_v1(), Path("study")).scorer is None


def test_a_supernet_of_the_space_scores_beside_zero_cost_scores(digits: ImageData) -> None:
    for names in ((), ("naswot",)):
        settings = EstimatorSettings(name="supernet", zero_cost=names, supernet={"epochs": 3})
        own = with_scorer(evaluator(digits), settings, mobilenet_v1(), Path("study")).scorer
        assert own is not None and own.names == ("supernet", *names)
        supernet = own.scorers[0] if isinstance(own, CombinedScorer) else own
        assert isinstance(supernet, SupernetScorer)
        assert supernet.settings.epochs == 3
        assert supernet.path == Path("study/supernet/supernet.safetensors")
        both = with_scorer(evaluator(digits), replace(settings, supernet={"members": 2}), mobilenet_v1(), Path("study"))
        assert isinstance(both.scorer, CombinedScorer) and both.scorer.names == ("supernet", "supernet_2", *names)
        folders = [part.folder for part in both.scorer.scorers if isinstance(part, SupernetScorer)]
        assert folders == [Path("study/supernet/1"), Path("study/supernet/2")]
        assert (supernet.proxy, supernet.seed) == (evaluator(digits).settings, 4)


def test_a_short_training_scores_by_minus_its_validation_loss(digits: ImageData, tmp_path: Path) -> None:
    few = replace(digits, train_images=digits.train_images[::24], train_labels=digits.train_labels[::24])
    trained = replace(evaluator(few), weights_dir=tmp_path / "weights", checkpoints_dir=tmp_path / "checkpoints")
    trained = replace(trained, settings=replace(trained.settings, epochs=3, batch_size=32, checkpoint_s=0))
    settings = EstimatorSettings(name="zero_cost", short_epochs=2)
    own = with_scorer(trained, settings, mobilenet_v1(), Path("study")).scorer
    assert isinstance(own, CombinedScorer) and own.names == ("naswot", "short_training")
    short = own.scorers[1]
    (score,) = short.scores(ARCH).values()
    assert dict(pickle.loads(pickle.dumps(short)).scores(ARCH)) == {"short_training": score}
    assert not list(tmp_path.iterdir())  # those of the training of the same network are in these folders
    of_two_epochs = replace(evaluator(few), settings=replace(trained.settings, epochs=2))
    losses = [of_two_epochs.evaluate(ARCH, repeat=repeat).loss for repeat in (0, 1)]
    assert -score == losses[1] != losses[0]  # other random draws than in the training that it is to predict


def test_a_score_that_is_not_finite_and_no_scorer_are_errors(digits: ImageData) -> None:
    with pytest.raises(TrainingError, match=r"score a is nan: the network cannot be compared with others\."):
        evaluator(digits, OneScore(name="a", value=math.nan)).scores(ARCH)
    with pytest.raises(NasError, match=r"estimator\.name proxy: trains networks and scores none\."):
        evaluator(digits).scores(ARCH)


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_scorer_is_prepared_unless_nothing_is_left_to_score(
    is_complete: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    scorer = OneScore(name="a")
    session: Any = SimpleNamespace(
        evaluator=SimpleNamespace(scorer=scorer), is_complete=lambda _: is_complete, plan=SimpleNamespace()
    )
    study: Any = None
    StudySession.prepare_scorer(session, study, Console())
    assert scorer.seen == ([] if is_complete else ["prepared"])
    assert ("estimator (a) ..." in capsys.readouterr().out) != is_complete
