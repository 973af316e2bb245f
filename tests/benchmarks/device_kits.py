"""Accuracy of a device's predictor from the hundred networks of a kit, on networks that the kit lacks.

    python tests/benchmarks/device_kits.py FOLDER [HOST [SSH_PORT]]

Writes a kit for ONNX Runtime, and one of the 42 published networks of latency_accuracy.py; measures both through their
run.sh, here or by ssh on HOST, alternately pass by pass; fits a predictor to the first as ``nas.calibrate`` does, and
sets its predictions beside the measurements of the second. Goes on where it was after an interruption. The last line is
one JSON object.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from nas.arch.complexity import complexity
from nas.cli.resolve.networks import resolve_arch
from nas.latency.kits.fit import fit_kit
from nas.latency.kits.manifest import Kit, KitSettings, Protocol
from nas.latency.kits.remote import push_kit, run_kit
from nas.latency.kits.results import read_results
from nas.latency.kits.ssh import SshDevice
from nas.latency.kits.transport import pull_results
from nas.latency.kits.writer import write_kit
from nas.latency.predictors.held_out import HeldOutCheck, HeldOutError
from tests.benchmarks.latency_accuracy import FAMILIES


def main(folder: Path, host: str | None, port: int | None) -> None:
    protocol = Protocol(pause_s=0)
    settings = KitSettings(runtime="onnxruntime", accelerator="cpu", precision="float32", protocol=protocol)
    published = [resolve_arch(f"timm/{name}") for names in FAMILIES.values() for name in names]
    kit = write_kit(settings, folder / "kit")
    check = write_kit(settings, folder / "published", specs=published)
    for name, own in (("published", check), ("kit", kit)):
        measure(own, folder / name, host, port)
    fit = fit_kit(folder / "kit")
    results = read_results(check, folder / "published/results")
    print(*fit.notes, fit.predictor.device, fit.predictor.kind, fit.predictor.error, sep="\n")
    print(fit.predictor.error.sources)
    measured_ms = [one.latency_ms for one in results.networks]
    estimates = fit.predictor.predict_many([one.network.spec for one in results.networks])
    macs = np.array([complexity(one.network.spec).macs for one in results.networks], dtype=float)
    constant = float(np.median(measured_ms / macs))
    rows = {
        "multiply-adds, the best constant": [constant * one for one in macs],
        "kit": [estimate.latency_ms for estimate in estimates],
    }
    errors = {name: error(results.networks, predicted_ms) for name, predicted_ms in rows.items()}
    passes = [one for one in results.networks if len(one.latencies_ms) > 1]
    errors["measured a second time"] = HeldOutError.of(
        [
            HeldOutCheck(name=one.network.spec.name, measured_ms=one.latencies_ms[0], predicted_ms=one.latencies_ms[1])
            for one in passes
        ]
    )
    for one, estimate in zip(results.networks, estimates, strict=True):
        off = estimate.latency_ms / one.latency_ms - 1
        times = " ".join(f"{ms:7.2f}" for ms in one.latencies_ms)
        print(f"{one.network.spec.name:28} {times}   {estimate.latency_ms:7.2f} {off:+7.1%}")
    for name, one in errors.items():
        print(f"{name:34} {one}, {one.within_5:.0%} within 5%")
    covered = [one.low_ms <= ms <= one.high_ms for one, ms in zip(estimates, measured_ms, strict=True)]
    print(
        json.dumps(
            {
                "networks": len(results.networks),
                "kind": fit.predictor.kind,
                "held_out": asdict(fit.predictor.error),
                "noise": {"kit": read_results(kit, folder / "kit/results").noise, "published": results.noise},
                "coverage_90": float(np.mean(covered)),
                **{name: asdict(one) for name, one in errors.items()},
            }
        )
    )


def measure(kit: Kit, folder: Path, host: str | None, port: int | None) -> None:
    """Measure a kit here, or on ``host``; its results are in the folder afterwards."""
    if host is None:
        subprocess.run(["sh", str(folder / "run.sh")], check=True)
        return
    device = SshDevice(host=host, port=port, folder=f"nas-kit-{kit.kit_id}")
    push_kit(kit, folder, device)
    run_kit(device, progress=lambda done, total: print(f"{done}/{total}", end=" ", flush=True))
    pull_results(device, folder / "results")


def error(networks: object, predicted_ms: list[float]) -> HeldOutError:
    """Error of predictions of ``networks``, results of a kit."""
    return HeldOutError.of(
        [
            HeldOutCheck(name=one.network.spec.name, measured_ms=one.latency_ms, predicted_ms=float(ms))
            for one, ms in zip(networks, predicted_ms, strict=True)  # type: ignore[call-overload]
        ]
    )


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not arguments:
        raise SystemExit(__doc__)
    main(
        Path(arguments[0]),
        arguments[1] if len(arguments) > 1 else None,
        int(arguments[2]) if len(arguments) > 2 else None,
    )
