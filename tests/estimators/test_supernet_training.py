"""A supernet's training: balanced choices, resume, failures; and scores that it gives."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.estimators.proxy.settings import ProxySettings
from nas.estimators.settings import EstimatorSettings
from nas.estimators.supernet.network import Subnetwork
from nas.estimators.supernet.sampling import extreme_genotype, fair_genotype
from nas.estimators.supernet.scorer import SCORE, SupernetScorer
from nas.estimators.supernet.settings import SupernetSettings
from nas.model.build import build
from nas.training.evaluation import score_model
from nas.training.results import OutOfMemoryError, TrainingError
from search_spaces.blockwise import BlockwiseSpace

PROXY = ProxySettings(
    width_multiplier=0.5, resolution_px=8, min_map_px=2, epochs=2, batch_size=16, lr=0.01, device="cpu", checkpoint_s=0
)
SETTINGS = SupernetSettings(epochs=2, batch_size=25, networks=2, statistics_images=50)


def make_space(**fields: Any) -> BlockwiseSpace:
    return BlockwiseSpace(
        **{
            "name": "small",
            "resolution_px": 8,
            "stem": {"channels": 8, "stride": 1},
            "head": {"channels": 16},
            "choices": {"kernel": [3, 5], "expansion": [1, 2]},
            "stages": [{"stride": 2, "channels": [8, 16], "blocks": [{}, {"repeats": [0, 1]}]}],
        }
        | fields
    )


@pytest.fixture
def scorer(tmp_path: Path) -> SupernetScorer:
    """Scorer on a hundred digits whose supernet is not trained yet."""
    return SupernetScorer(
        data=load_images(DataSettings(resolution_px=8, subset=100)),
        proxy=PROXY,
        settings=SETTINGS,
        space=make_space(),
        largest_kernel=5,
        seed=0,
        folder=tmp_path / "supernet",
    )


def networks(scorer: SupernetScorer, count: int) -> list[ArchSpec]:
    rng = random.Random(0)
    return [scorer.space.decode(scorer.space.sample(rng), classes=10, in_channels=1) for _ in range(count)]


def test_choices_are_balanced_in_every_run_of_as_many_networks() -> None:
    space = SimpleNamespace(parameters={"two": (0, 1), "three": ("a", "b", "c")})
    drawn = [fair_genotype(space, index, seed=3) for index in range(600)]
    for name, values in space.parameters.items():
        for first in range(0, 600, len(values)):
            assert {genotype[name] for genotype in drawn[first : first + len(values)]} == set(values)
    together = Counter((genotype["two"], genotype["three"]) for genotype in drawn)
    # Binomial with p = 1/6 and independent choices: 100 +- 9.1; four deviations.
    assert all(abs(together[pair] - 100) < 37 for pair in product((0, 1), "abc"))
    assert drawn != [fair_genotype(space, index, seed=4) for index in range(600)]


@pytest.mark.parametrize("largest", [True, False])
def test_extreme_networks_are_those_of_an_exhaustive_search(largest: bool) -> None:
    space = make_space()

    def macs(genotype: Any) -> float:
        return complexity(space.decode(genotype)).macs

    points = [dict(zip(space.parameters, values, strict=True)) for values in product(*space.parameters.values())]
    found = extreme_genotype(space, macs, largest=largest)
    assert macs(found) == (max if largest else min)(map(macs, points))


@pytest.mark.parametrize(("amp", "kernel_transform"), [("none", True), ("bfloat16", False)])
def test_score_is_that_of_the_standalone_module_with_inherited_weights(
    scorer: SupernetScorer, amp: str, kernel_transform: bool
) -> None:
    own = replace(SETTINGS, kernel_transform=kernel_transform)
    scorer = replace(scorer, proxy=replace(PROXY, amp=amp), settings=own)
    scorer.prepare()
    for arch in networks(scorer, 3):
        module = build(scorer.reduced(arch))
        module.load_state_dict(scorer.inherited_state(arch))
        expected = score_model(module, scorer.data.resized(8), scorer.proxy)
        found = scorer.evaluate(arch)
        assert found.accuracy == expected.accuracy
        assert found.class_correct == expected.class_correct
        assert scorer.scores(arch)[SCORE] == pytest.approx(-expected.loss, rel=1e-4)


def test_a_prepared_scorer_scores_on_a_machine_without_its_file(scorer: SupernetScorer) -> None:
    scorer.prepare()
    arch = networks(scorer, 1)[0]
    here = replace(scorer).scores(arch)  # from the file
    sent = pickle.dumps(scorer)
    scorer.path.unlink()
    assert pickle.loads(sent).scores(arch) == here


def test_kernel_transforms_are_learned_without_weight_decay(scorer: SupernetScorer) -> None:
    def transforms(**settings: Any) -> list[Tensor]:
        own = replace(SETTINGS, kernel_transform=True, epochs=2, **settings)  # the first moves the scales from 0
        trained = replace(scorer, settings=own, folder=scorer.folder / str(own.lr))
        trained.prepare()
        return [tensor for slot, tensor in load_file(trained.path).items() if slot.endswith(".t3")]

    slow, fast = transforms(lr=1e-6, weight_decay=1000), transforms(lr=0.01)
    assert len(slow) == 2  # of the blocks' depthwise convolutions
    for kept, learned in zip(slow, fast, strict=True):
        torch.testing.assert_close(kept, torch.eye(9), rtol=0, atol=1e-4)  # decay alone: 0.1% per step
        assert (learned - torch.eye(9)).abs().max() > 1e-3


def test_settings_that_older_supernets_lack_leave_their_identity() -> None:
    assert "kernel_transform" not in SETTINGS.identity(PROXY)
    estimator = EstimatorSettings(name="supernet", supernet=SETTINGS)
    assert "kernel_transform" not in estimator.identity()["supernet"]
    changed = replace(estimator, supernet=replace(SETTINGS, kernel_transform=True))
    assert changed.identity()["supernet"]["kernel_transform"] is True
    assert replace(SETTINGS, kernel_transform=True).identity(PROXY)["kernel_transform"] is True


def test_training_learns(scorer: SupernetScorer) -> None:
    data = load_images(DataSettings(resolution_px=8, subset=400))
    longer = replace(scorer, data=data, settings=replace(SETTINGS, epochs=6, lr=0.03))
    longer.prepare()
    majority = max(data.val_class_images) / len(data.val_labels)
    # All of five networks beat always guessing the largest class by far: a third against a tenth.
    assert min(longer.evaluate(arch).accuracy for arch in networks(scorer, 5)) > 2 * majority


class Interrupt(KeyboardInterrupt):
    pass


@pytest.mark.parametrize("sandwich", [False, True])
def test_interrupted_training_resumes_with_equal_weights(
    scorer: SupernetScorer, tmp_path: Path, sandwich: bool
) -> None:
    scorer = replace(scorer, settings=replace(SETTINGS, sandwich=sandwich))
    unbroken = replace(scorer, folder=tmp_path / "unbroken")
    steps: list[tuple[int, int]] = []
    unbroken.prepare(lambda done, total: steps.append((done, total)))
    assert steps == [(step, 8) for step in range(1, 9)]

    def interrupt(done: int, _: int) -> None:
        if done == 6:
            raise Interrupt

    with pytest.raises(Interrupt):
        scorer.prepare(interrupt)
    assert not scorer.path.exists()
    resumed: list[int] = []
    scorer.prepare(lambda done, _: resumed.append(done))
    assert resumed == [5, 6, 7, 8]
    assert scorer.path.read_bytes() == unbroken.path.read_bytes()
    assert [path.name for path in scorer.folder.iterdir()] == [scorer.path.name]
    scorer.prepare(interrupt)  # trained already


def test_supernet_of_other_data_space_or_settings_is_refused(scorer: SupernetScorer) -> None:
    scorer.prepare()
    renamed = replace(scorer.data, class_names=tuple("abcdefghij"))
    others = {
        "class list": replace(scorer, data=renamed),
        "data": replace(scorer, data=load_images(DataSettings(resolution_px=8, subset=90))),
        "choices": replace(scorer, space=make_space(choices={"kernel": [3, 5], "expansion": [1, 3]})),
        "settings": replace(scorer, settings=replace(SETTINGS, lr=0.5)),
        "seed": replace(scorer, seed=1),
    }
    for name, other in others.items():
        with pytest.raises(NasError, match=f"was trained with another {name}"):
            other.prepare()
    for damaged in (scorer.path.read_bytes()[:-1], b"x"):
        scorer.path.write_bytes(damaged)
        with pytest.raises(NasError, match="is not a readable file of a supernet"):
            scorer.prepare()


def failing(
    logits: Callable[..., Tensor], fails: Callable[[Subnetwork, Tensor], Tensor | None]
) -> Callable[..., Tensor]:
    def wrapped(network: Subnetwork, shared: Any, images: Tensor, statistics: Any = None) -> Tensor:
        replaced = fails(network, images)
        return logits(network, shared, images, statistics) if replaced is None else replaced

    return wrapped


def test_network_without_a_finite_loss_is_named_and_left_out(
    scorer: SupernetScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deep_fails(network: Subnetwork, images: Tensor) -> Tensor | None:
        return torch.full((len(images), 10), float("nan")) if network.spec.depth == 2 else None

    monkeypatch.setattr(Subnetwork, "outputs", failing(Subnetwork.outputs, deep_fails))
    lines: list[str] = []
    scorer.prepare(say=lines.append)
    assert lines
    assert len(lines) == len(set(lines))
    assert all("is not finite at step" in line and line.count("ir_r1") == 2 for line in lines)
    monkeypatch.setattr(
        Subnetwork,
        "outputs",
        failing(Subnetwork.outputs, lambda _, images: torch.full((len(images), 10), float("nan"))),
    )
    with pytest.raises(TrainingError, match=r"no network of step 1 has a finite loss: lower estimator\.supernet\.lr"):
        replace(scorer, folder=scorer.folder / "2").prepare()


def test_batch_is_halved_once_when_memory_runs_out(scorer: SupernetScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def out_of_memory(limit: int) -> Callable[[Subnetwork, Tensor], None]:
        def check(_: Subnetwork, images: Tensor) -> None:
            sizes.append(len(images))
            if len(images) > limit:
                raise torch.OutOfMemoryError("out of memory")

        return check

    original = Subnetwork.outputs
    monkeypatch.setattr(Subnetwork, "outputs", failing(original, out_of_memory(20)))
    lines: list[str] = []
    scorer.prepare(say=lines.append)
    assert lines == ["out of memory at a batch of 25 images: the supernet goes on with half"]
    assert max(sizes[1:]) <= 12
    monkeypatch.setattr(Subnetwork, "outputs", failing(original, out_of_memory(5)))
    with pytest.raises(OutOfMemoryError, match=r"out of memory at estimator\.supernet\.batch_size 12: lower it"):
        replace(scorer, folder=scorer.folder / "2").prepare()


def test_networks_of_a_step_share_its_images_and_learn_from_the_largest(
    scorer: SupernetScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses of the first step against cross entropies computed here."""
    seen: list[tuple[Subnetwork, Tensor, Tensor]] = []
    original = Subnetwork.outputs

    def record(network: Subnetwork, shared: Any, images: Tensor, statistics: Any = None) -> Tensor:
        logits = original(network, shared, images, statistics)
        seen.append((network, images, logits.detach()))
        return logits

    targets: list[Tensor] = []
    plain = functional.cross_entropy

    def cross_entropy(logits: Tensor, target: Tensor, **options: Any) -> Tensor:
        targets.append(target)
        return plain(logits, target, **options)

    monkeypatch.setattr(Subnetwork, "outputs", record)
    monkeypatch.setattr(functional, "cross_entropy", cross_entropy)
    replace(scorer, settings=replace(SETTINGS, sandwich=True, epochs=1)).prepare()
    step: Sequence[tuple[Subnetwork, Tensor, Tensor]] = seen[:4]
    macs = [complexity(network.spec).macs for network, _, _ in step]
    assert macs[0] == max(macs)
    assert macs[1] == min(macs)
    assert all(torch.equal(images, step[0][1]) for _, images, _ in step)
    assert targets[0].dtype == torch.int64
    assert all(torch.equal(target, step[0][2].softmax(1)) for target in targets[1:4])
