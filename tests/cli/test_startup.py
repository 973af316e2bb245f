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

from nas import search
from nas.arch.spec import ArchSpec
from nas.estimators.proxy.evaluator import Evaluation, ProxyEvaluator
from nas.training.results import EpochResult
from tests.methods.scaling.tiny import Finished
from tests.paths import ROOT
from tests.study.fakes import accuracy_of, epoch_result

TRAINING = {"torch", "torchvision", "timm", "onnx", "onnxruntime", "lightgbm"}
STATISTICS = {"scipy", "sklearn", "pandas"}
DRAWING = {"matplotlib", "jinja2"}
STORAGE = {"optuna", "sqlalchemy", "alembic", "numpy"}
RUN = """
import json, sys
from importlib import import_module
command, *arguments = sys.argv[1:]
assert import_module(f"nas.{command}").command(arguments) == 0
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.fixture(scope="module")
def studies(grid: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search, ``made``, and of a finished grid, ``tiny``."""

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
        given = ("latency=macs", "proxy=tiny", "data.subset=100", "study.name=made", "study.n_trials=4")
        assert search.command(["+space=mobilenet_v1", *given]) == 0
    return folder


def loaded(folder: Path, *command: str) -> set[str]:
    """Packages that ``command`` has loaded in a process of its own when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *command], cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("command", "needed", "refused"),
    [
        ("report study=made", DRAWING, TRAINING | STATISTICS),
        ("report study=tiny", DRAWING, TRAINING | STATISTICS),
        ("report study=made json=true", DRAWING, TRAINING | STATISTICS),
        ("report", {"optuna"}, TRAINING | STATISTICS | DRAWING),
        ("compare made tiny", {"optuna"}, TRAINING | STATISTICS | DRAWING),
        ("compare mixnet_s mixnet_m latency=macs", set(), TRAINING | STATISTICS | DRAWING | STORAGE),
        ("show mixnet_s latency=macs", set(), TRAINING | STATISTICS | DRAWING | STORAGE),
        ("scale mixnet_s phi=1 latency=macs", set(), TRAINING | STATISTICS | DRAWING | STORAGE),
    ],
)
def test_commands_load_what_they_show(studies: Path, command: str, needed: set[str], refused: set[str]) -> None:
    packages = loaded(studies, *command.split())
    assert packages & refused == set()
    assert needed <= packages


def test_reading_a_study_leaves_no_files_of_its_storage_open(studies: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nas.compare", "made", "tiny"], cwd=studies, env={"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert done.stdout
    assert [path.name for path in (studies / "runs").glob("optuna.db*")] == ["optuna.db"]
