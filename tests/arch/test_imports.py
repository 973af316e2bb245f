"""The language of networks loads on its own, and says the same in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from nas.arch import zoo
from tests.deadline import DEADLINE_S
from tests.paths import ROOT

SCRIPT = """
import importlib, json, pkgutil, sys
import nas.arch
for module in pkgutil.walk_packages(nas.arch.__path__, "nas.arch."):
    importlib.import_module(module.name)
from nas.arch import zoo
print(json.dumps({"modules": sorted({name.split(".")[0] for name in sys.modules}), "id": zoo.get("mixnet_s").arch_id}))
"""


def test_no_heavy_import_and_ids_that_outlive_the_process() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    found = json.loads(done.stdout)
    heavy = {"torch", "torchvision", "timm", "optuna", "hydra", "omegaconf", "ray", "numpy", "onnx", "onnxruntime"}
    assert heavy.isdisjoint(found["modules"])
    assert found["id"] == zoo.get("mixnet_s").arch_id  # stored with trials, so not from Python's salted hash
