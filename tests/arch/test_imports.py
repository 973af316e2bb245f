"""``nas.arch`` imports no heavy package, and hashes are stable across processes."""

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


def test_no_heavy_imports_and_stable_ids() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", SCRIPT]
    completed = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    result = json.loads(completed.stdout)
    heavy = {"torch", "torchvision", "timm", "optuna", "hydra", "omegaconf", "ray", "numpy", "onnx", "onnxruntime"}
    assert heavy.isdisjoint(result["modules"])
    assert (
        result["id"] == zoo.get("mixnet_s").arch_id
    )  # stored with trials, so it must not depend on Python's salted hash
