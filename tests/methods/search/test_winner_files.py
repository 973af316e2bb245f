"""Tests of a winner's files against their own figures, with timm and torch alone."""

from __future__ import annotations

import importlib
import random
import runpy
from pathlib import Path

import pytest
import timm
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

import nas.model.timm_entrypoint  # noqa: F401  (registers nas_arch in timm)
from nas.arch.files import load_spec, load_spec_file
from nas.core.errors import NasError
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.data.summary import ImageSummary
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.estimators.proxy.settings import ProxySettings
from nas.latency.predictors.macs import MacsPredictor
from nas.methods.search.context import SearchContext
from nas.methods.search.winner_files import WinnerSource, write_winners
from nas.reporting.search_report import Winner
from nas.study.candidates import Pricer
from nas.study.constraints import Constraints
from nas.study.trial_record import Outcome, TrialRecord
from tests.paths import CONF
from tests.study.fakes import make_plan

SPACES = CONF / "space"
PROXY = ProxySettings(width_multiplier=0.15, resolution_px=8, min_map_px="auto", epochs=1, batch_size=32, lr=0.01)


def space_of(name: str):  # type: ignore[no-untyped-def]
    config = yaml.safe_load((SPACES / f"{name}.yaml").read_text(encoding="utf-8"))
    module, _, kind = config.pop("_target_").rpartition(".")
    config.pop("_convert_")
    return getattr(importlib.import_module(module), kind)(**config)


def source_of(pricer: Pricer, evaluator: ProxyEvaluator, weights_dir: Path) -> WinnerSource:
    context = SearchContext(
        plan=make_plan(pricer.space),
        images=ImageSummary.of(evaluator.data),
        versions={},
        predictor=pricer.predictor,
        pricer=pricer,
        proxy_of=evaluator.proxy,
    )
    return WinnerSource(context=context, data=evaluator.data, weights_dir=weights_dir)


@pytest.fixture(scope="module", params=["mixnet", "mobilenet_v3"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Winner]]:
    """Two random networks of a space as winners, with proxies trained on 100 digits."""
    folder = tmp_path_factory.mktemp("run")
    space = space_of(request.param)
    data = load_images(DataSettings(resolution_px=8, subset=100))
    predictor = MacsPredictor(30.0)
    pricer = Pricer(
        space=space, predictor=predictor, constraints=Constraints(), classes=data.classes, in_channels=data.channels
    )
    evaluator = ProxyEvaluator(
        data=data, settings=PROXY, largest_kernel=space.largest_kernel, seed=0, weights_dir=folder / "weights"
    )
    rng, rows = random.Random(1), []
    for number in range(2):
        candidate = pricer.price(space.sample(rng))
        rows.append(
            TrialRecord(
                number=number,
                outcome=Outcome.TRAINED,
                arch_id=candidate.arch.arch_id,
                accuracy=evaluator.evaluate(candidate.arch).accuracy,
                latency_ms=candidate.latency.latency_ms,
                latency_low_ms=candidate.latency.low_ms,
                latency_high_ms=candidate.latency.high_ms,
                genotype=candidate.genotype,
            )
        )
    source = source_of(pricer, evaluator, folder / "weights")
    return folder / "winners", write_winners(rows, folder / "winners", source)


def test_each_winner_has_its_files(written: tuple[Path, list[Winner]]) -> None:
    folder, winners = written
    assert len(winners) == 2
    for winner in winners:
        assert all((folder.parent / path).is_file() for path in winner.files.values())
    endings = (".yaml", ".efficientnet.yaml", ".py", ".proxy.yaml", ".proxy.safetensors")
    assert {path.name for path in folder.iterdir()} == {f"winner_{i}{ending}" for i in (1, 2) for ending in endings}


def test_both_styles_and_the_python_file_build_the_network_that_is_stated(written: tuple[Path, list[Winner]]) -> None:
    folder, winners = written
    for index, winner in enumerate(winners, start=1):
        stated = load_spec_file(folder / f"winner_{index}.yaml").provenance
        styles = [folder / f"winner_{index}.yaml", folder / f"winner_{index}.efficientnet.yaml"]
        assert {load_spec(path).arch_id for path in styles} == {stated["arch_id"], winner.arch.arch_id}
        models = [timm.create_model("nas_arch", spec=str(path)) for path in styles]
        models.append(runpy.run_path(str(folder / f"winner_{index}.py"))["build"]())
        side, channels = winner.arch.resolution_px, winner.arch.in_channels
        for model in models:
            assert sum(parameter.numel() for parameter in model.parameters()) == stated["params"]
            assert list(model.state_dict()) == list(models[0].state_dict())
        meta = models[0].to("meta").eval()
        with FlopCounterMode(display=False) as counter:
            meta(torch.empty(1, channels, side, side, device="meta"))
        assert counter.get_total_flops() == 2 * stated["macs"]


def test_the_proxy_s_weights_give_the_outputs_that_are_stated(written: tuple[Path, list[Winner]]) -> None:
    folder, winners = written
    for index, winner in enumerate(winners, start=1):
        spec, weights = folder / f"winner_{index}.proxy.yaml", folder / f"winner_{index}.proxy.safetensors"
        stated = load_spec_file(spec).provenance["logits_of_ramp"]
        model = timm.create_model("nas_arch", spec=str(spec), checkpoint_path=str(weights)).eval()
        ramp = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
        with torch.no_grad():
            logits = model(ramp)[0, : len(stated)].tolist()
        assert logits == pytest.approx(stated, abs=1e-5)
        assert logits == pytest.approx(winner.sample_logits, abs=1e-5)
        assert len(set(stated)) == len(stated)


def test_writing_again_replaces_the_folder_as_a_whole(written: tuple[Path, list[Winner]], tmp_path: Path) -> None:
    folder = tmp_path / "winners"
    folder.mkdir()
    (folder / "winner_9.yaml").write_text("left by an earlier run", encoding="utf-8")
    predictor = MacsPredictor(30.0)
    space = space_of("mixnet")
    pricer = Pricer(space=space, predictor=predictor, constraints=Constraints(), classes=10, in_channels=1)
    evaluator = ProxyEvaluator(
        data=load_images(DataSettings(resolution_px=8)), settings=PROXY, largest_kernel=space.largest_kernel, seed=0
    )
    source = source_of(pricer, evaluator, tmp_path / "weights")
    assert write_winners([], folder, source) == []
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "winners").write_text("no folder", encoding="utf-8")
    with pytest.raises(NasError, match=r"^cannot write '.*winners': Not a directory"):
        write_winners([], tmp_path / "winners", None)  # type: ignore[arg-type]
