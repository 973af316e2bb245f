"""Tests of the imports of commands that train nothing.

Reports, lists and comparisons need neither torch nor statistics packages.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nas import bench, search
from nas.arch.spec import ArchSpec
from nas.data.summary import ImageSummary
from nas.estimators.base import Evaluation
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.latency.bench.results import BenchResult, BenchRow, write_bench
from nas.latency.bench.session import RESULTS_FILE, result_key
from nas.latency.kernels.kernel import contextual_kernels
from nas.latency.predictors.held_out import HeldOutCheck
from nas.latency.predictors.kernel_sum import KernelPredictor
from nas.latency.predictors.kernel_times import fit_kernel_times
from nas.latency.random_networks import random_specs
from nas.latency.store import save_predictor
from nas.methods.full_training import RunFolder, ScoredWeights, TrainedNetwork
from nas.train import make_plan
from nas.training.results import EpochResult
from tests.deadline import DEADLINE_S
from tests.latency.synthetic_device import KERNEL_DEVICE, LANE, true_kernel_us
from tests.methods.scaling.tiny import Finished
from tests.paths import ROOT
from tests.study.fakes import accuracy_of, epoch_result
from tests.test_supernet import write_supernet

TRAINING = {"torch", "torchvision", "timm", "onnx", "onnxruntime", "lightgbm"}
STATISTICS = {"scipy", "sklearn", "pandas"}
DRAWING = {"matplotlib", "jinja2"}
STORAGE = {"optuna", "sqlalchemy", "alembic", "numpy"}
CALIBRATED = "latency.calibration=calibrated.json latency.allow_other_device=true"
MEASURED = "mixnet_s precision=float32"
# Commands, the packages that they need and those that they must not load. They run one after the other in one process:
# the last ones need the most, and what one of them loads is there for those after it, too.
COMMANDS = {
    "compare mixnet_s mixnet_m latency=macs": (set(), TRAINING | STATISTICS | DRAWING | STORAGE),
    "show mixnet_s latency=macs": (set(), TRAINING | STATISTICS | DRAWING | STORAGE),
    "scale mixnet_s phi=1 latency=macs": (set(), TRAINING | STATISTICS | DRAWING | STORAGE),
    "supernet show=made.safetensors": (set(), TRAINING | STATISTICS | DRAWING | STORAGE),
    "train arch=mixnet_s data=digits run.name=trained": (set(), TRAINING | STATISTICS | DRAWING | STORAGE),
    f"show mixnet_s {CALIBRATED}": ({"numpy"}, TRAINING | STATISTICS | DRAWING | {"optuna"}),
    "report": ({"optuna"}, TRAINING | STATISTICS | DRAWING),
    "compare made tiny": ({"optuna"}, TRAINING | STATISTICS | DRAWING),
    "report study=made json=true": (DRAWING, TRAINING | STATISTICS),
    "report study=made": (DRAWING, TRAINING | STATISTICS),
    "report study=tiny": (DRAWING, TRAINING | STATISTICS),
    f"bench {MEASURED}": (DRAWING, TRAINING | STATISTICS),
    "export mobilenetv3_small_050 resolution_px=32 rewrite=none": (
        {"onnx", "onnxruntime"},
        {"torch", "torchvision", "timm", "lightgbm"} | STATISTICS,
    ),
}
RUN = """
import json, sys
from importlib import import_module
for line in sys.argv[1:]:
    command, *arguments = line.split()
    assert import_module(f"nas.{command}").command(arguments) == 0
    print("loaded", json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.fixture(scope="module")
def studies(grid: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search, a finished grid and a calibration.

    Named ``made``, ``tiny`` and ``calibrated.json``.
    """

    def evaluate(
        _: ProxyEvaluator, arch: ArchSpec, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        if on_epoch:
            on_epoch(epoch_result(1, accuracy=accuracy_of(arch)))
        return Evaluation(accuracy=accuracy_of(arch), cpu_s=0.1, duration_s=0.1)

    folder = tmp_path_factory.mktemp("studies")
    shutil.copytree(grid.folder, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(ProxyEvaluator, "evaluate", evaluate)
        given = (
            "latency=macs", "estimator=proxy", "data=digits", "proxy=tiny", "data.subset=100",
            "study.name=made", "study.n_trials=4",
        )  # fmt: skip
        assert search.command(["+space=mobilenet_v1", *given]) == 0
    save_predictor(calibrated(), folder / "calibrated.json")
    write_supernet(folder / "made.safetensors")
    write_training(folder)
    write_measured(folder)
    return folder


def write_measured(folder: Path) -> None:
    """A finished benchmark, as far as its command reads it."""
    plan = bench.make_plan([*MEASURED.split(), f"runs_dir={folder / 'runs'}"])
    (network,) = plan.networks
    row = BenchRow(
        runtime="onnxruntime", precision="float32", rewrite="none", device=plan.forms[0].device(1, 1), latency_ms=1.0,
        error_ms=0.1, spread_ms=0.1, runs=20, size_bytes=1,
    )  # fmt: skip
    result = BenchResult(
        key=result_key(plan, network), name="mixnet_s", given="mixnet_s", arch_id=network.arch.arch_id,
        resolution_px=224, weights="", probe_ms=0.1, other_cores=0.0, rows=(row,), ratio_errors=((0.0,),),
    )  # fmt: skip
    write_bench(plan.folder / RESULTS_FILE, [result])


def write_training(folder: Path) -> None:
    """A finished training, as far as its command reads it."""
    plan = make_plan(["arch=mixnet_s", "data=digits", "run.name=trained", f"runs_dir={folder / 'runs'}"])
    run = RunFolder(path=plan.folder)
    run.write_config(plan, ImageSummary(classes=2, channels=1, resolution_px=8, train=4, val=4))
    scored = ScoredWeights(epoch=1, accuracy=0.75, val_loss=0.5, confusion=((0, 0, 2), (1, 0, 1), (1, 1, 1)))
    TrainedNetwork(
        name="trained", arch_name="mixnet_s", arch_id="1", params=1, macs=1, resolution_px=8, class_names=("a", "b"),
        train_images=4, epochs=1, last=scored, best=scored, duration_s=1.0, cpu_s=1.0, images_per_cpu_s=4.0,
    ).write(run.results)  # fmt: skip


def calibrated() -> KernelPredictor:
    """A predictor with trees and with too few held-out networks for quantiles."""
    kernels = [kernel for spec in random_specs(8, 1) for kernel in contextual_kernels(spec, LANE)]
    times = fit_kernel_times(kernels, [true_kernel_us(kernel) for kernel, _ in kernels], LANE)
    assert times.trees
    checks = [HeldOutCheck(name=name, measured_ms=ms, predicted_ms=1.0) for name, ms in (("a", 0.9), ("b", 1.1))]
    return KernelPredictor(device=KERNEL_DEVICE, times=times, factors={"pool": 1.0}, checks=checks, spent_s=1.0)


@pytest.fixture(scope="module")
def loaded(studies: Path) -> dict[str, set[str]]:
    """Packages that are loaded when each command ends."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *COMMANDS], cwd=studies, env={"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [line.removeprefix("loaded ") for line in done.stdout.splitlines() if line.startswith("loaded [")]
    return {command: set(json.loads(packages)) for command, packages in zip(COMMANDS, found, strict=True)}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_load_what_they_show(loaded: dict[str, set[str]], command: str) -> None:
    needed, refused = COMMANDS[command]
    assert loaded[command] & refused == set()
    assert needed <= loaded[command]


def test_reading_a_study_leaves_no_files_of_its_storage_open(loaded: dict[str, set[str]], studies: Path) -> None:
    assert "compare made tiny" in loaded
    assert [path.name for path in (studies / "runs").glob("optuna.db*")] == ["optuna.db"]
