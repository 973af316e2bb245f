"""Recipes of conf/ against the published ones, which are copied in tests/reference/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas.arch import zoo
from nas.cli import hydra_config
from nas.methods.full_training import TrainingPlan
from nas.train import make_plan
from nas.training.recipe import RecipeSettings
from tests.paths import ROOT

PUBLISHED = json.loads((ROOT / "tests/reference/training_recipes.json").read_text(encoding="utf-8"))


def plan(recipe: str, arch: str = "mixnet_s", *words: str) -> TrainingPlan:
    return make_plan([f"arch={arch}", f"recipe={recipe}", "data=digits", *words])


def test_efficientnet_is_trained_as_published() -> None:
    known, recipe = PUBLISHED["efficientnet"], plan("efficientnet").recipe
    assert recipe.scaled_lr == pytest.approx(known["lr_per_256_images"] * recipe.batch_size / 256) == known["paper_lr"]
    assert recipe.optimizer == "rmsproptf" and known["optimizer"] == "rmsprop"
    found = (recipe.momentum, recipe.rms_alpha, recipe.optimizer_eps, recipe.weight_decay)
    assert found == (known["momentum"], known["decay"], known["epsilon"], known["weight_decay"])
    assert (recipe.schedule, recipe.decay_rate, recipe.decay_epochs) == (
        "step",
        known["decay_factor"],
        known["decay_epochs"],
    )
    assert (recipe.warmup_epochs, recipe.warmup_lr) == (known["warmup_epochs"], known["warmup_from"])
    assert (recipe.epochs, recipe.ema, recipe.label_smoothing) == (
        known["epochs"],
        known["ema"],
        known["label_smoothing"],
    )
    assert recipe.bn_momentum == pytest.approx(1 - known["bn_decay"])
    assert recipe.drop_path == pytest.approx(1 - known["survival_probability"])
    assert recipe.auto_augment == "original"  # timm's name of AutoAugment's policy for ImageNet


def test_mixnet_is_trained_as_published() -> None:
    known, recipe = PUBLISHED["mixnet"], plan("mixnet").recipe
    assert recipe.batch_size == known["batch_size"]
    assert recipe.scaled_lr == pytest.approx(known["lr_per_256_images"] * known["batch_size"] / 256)
    assert recipe.epochs == round(known["train_steps"] * known["batch_size"] / known["train_images"])
    found = (recipe.momentum, recipe.ema, recipe.weight_decay, recipe.label_smoothing)
    assert found == tuple(known[name] for name in ("momentum", "ema", "weight_decay", "label_smoothing"))
    for name, dropout in known["dropout"].items():
        assert plan("mixnet", name).network(1000, 3).dropout == dropout


def test_mobilenet_v3_is_trained_as_published() -> None:
    known, recipe = PUBLISHED["mobilenet_v3"], plan("mobilenet_v3").recipe
    assert (recipe.scaled_lr, recipe.batch_size, recipe.momentum) == (
        known["lr"],
        known["batch_size"],
        known["momentum"],
    )
    assert recipe.decay_rate == pytest.approx(1 - known["decay_rate"]) and recipe.decay_epochs == known["decay_epochs"]
    assert recipe.dropout == pytest.approx(1 - known["keep_probability"])
    assert (recipe.weight_decay, recipe.ema) == (known["weight_decay"], known["ema"])
    assert recipe.bn_momentum == pytest.approx(1 - known["bn_decay"])
    assert recipe.epochs == known["timm"]["epochs"]


@pytest.mark.parametrize("name", hydra_config.choices("recipe"))
def test_every_recipe_opens_with_source_cost_and_command(name: str) -> None:
    text = (ROOT / f"conf/recipe/{name}.yaml").read_text(encoding="utf-8")
    header = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("#")]
    assert all(
        any(line.startswith(word) for line in header)
        for word in ("Source: ", "Cost: ", "Command: python -m nas.train ")
    )
    for arch, top1 in PUBLISHED.get(name, {}).get("top1", {}).items():
        assert f"{arch} {top1}%" in " ".join(header) and arch in zoo.names()


def test_the_default_recipe_names_every_setting() -> None:
    config: dict[str, Any] = hydra_config.compose_config("train", ["arch=mixnet_s"])
    assert set(config["recipe"]) == set(RecipeSettings.__dataclass_fields__) - {"group", "schedules"}


def test_the_name_of_a_run_is_that_of_network_and_data(tmp_path: Path) -> None:
    assert plan("default").name == "train-mixnet_s-digits"
    assert plan("default", "mixnet_s", "run.name=mine").name == "mine"
    assert plan("default", "mixnet_s", f"runs_dir={tmp_path}").folder == tmp_path / "train-mixnet_s-digits"


def test_only_what_changes_the_result_is_the_identity_of_a_run() -> None:
    first = plan("default").identity()
    assert plan("default", "mixnet_s", "recipe.checkpoint_s=5", "run.name=other").identity() == first
    for word in ("recipe.lr=0.01", "run.seed=1", "data.subset=10", "recipe.resolution_px=32"):
        assert plan("default", "mixnet_s", word).identity() != first
    assert plan("default", "mixnet_m").identity() != first
