"""Calibration of devices elsewhere by kits, for ``nas.calibrate``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.core.errors import NasError, quoted
from nas.core.formatting import shown_path

if TYPE_CHECKING:
    from rich.console import Console

    from nas.latency.kits.fit import KitFit
    from nas.latency.kits.manifest import Kit, KitSettings
    from nas.latency.kits.transport import Transport

# Settings of kits and their defaults, by the devices that they belong to.
MADE: Final[dict[str, Any]] = {"runtime": None, "n": 100, "accelerator": None, "pause_s": 2, "out": None}
CONNECTED: Final[dict[str, Any]] = {"tool_path": None, "run_with": None}
BY_SSH: Final[dict[str, Any]] = {"host": None, "ssh_port": None}
BY_ADB: Final[dict[str, Any]] = {"serial": None}
_ANDROID: Final = "/data/local/tmp"


def write_bundle(config: Mapping[str, Any], console: Console) -> tuple[Path, Kit]:
    """Write the kit that ``config`` describes to ``out``. Raises: NasError."""
    settings = kit_settings(config)
    if not isinstance(config["out"], str) or not config["out"]:
        raise NasError(f"out {quoted(config['out'])}: add out= with the folder to write the kit to, such as out=kit.")
    folder = Path(config["out"]).expanduser()
    return folder, _written(settings, folder, console)


def bundle_lines(folder: Path, kit: Kit) -> list[str]:
    """Lines that say what a kit is and what to do with it."""
    from nas.latency.kits.runtimes import kit_runtime
    from nas.latency.kits.writer import kit_bytes

    runtime = kit_runtime(kit.settings.runtime)
    name = shown_path(folder.absolute())
    return [
        f"{name}: kit {kit.kit_id}, {len(kit.networks)} networks for {runtime.name} "
        f"({kit.settings.accelerator}, {kit.settings.precision}), {kit_bytes(folder, kit) / 1e6:,.0f} MB",
        f"1. copy {name} to the device, with {runtime.tool} in it, and run there: sh run.sh ({name}/README.md)",
        f"2. copy its folder results/ back into {name}",
        f"3. python -m nas.calibrate device=measurements path={name}",
    ]


def calibrate_connected(config: Mapping[str, Any], runs_dir: Path, console: Console) -> KitFit:
    """Push a kit to a connected device, measure it there, and fit. Raises: NasError."""
    from nas.core.console import print_lines, progress_bar
    from nas.latency.kits.remote import push_kit, run_kit
    from nas.latency.kits.transport import check_reachable, pull_results

    settings = kit_settings(config)
    for name in ("tool_path", "run_with", "out"):
        if not isinstance(config[name], str | None) or config[name] == "":
            raise NasError(f"{name} {quoted(config[name])}: must be text, or null.")
    check_reachable(_connect(config, "nas-kit"))  # before minutes of writing
    folder = Path(config["out"]).expanduser() if config["out"] else runs_dir / "kits" / _kit_name(settings)
    kit = _written(settings, folder, console)
    device = _connect(config, f"nas-kit-{kit.kit_id}")
    with progress_bar(console, f"copying to {device.name}") as progress:
        push_kit(kit, folder, device, progress)
    with progress_bar(console, f"measuring on {device.name}") as progress:
        run_kit(
            device,
            tool_path=config["tool_path"],
            run_with=config["run_with"],
            progress=progress,
            say=lambda line: print_lines(console, line),
        )
    results = folder / f"results-{re.sub(r'[^A-Za-z0-9.-]', '_', device.name)}"
    pull_results(device, results)
    return fitted(folder, results, config, console)


def fitted(folder: Path, results: Path | None, config: Mapping[str, Any], console: Console) -> KitFit:
    """Predictor of the results of a kit. Raises: NasError."""
    from nas.core.console import progress_bar
    from nas.latency.kits.fit import fit_kit

    bases = base_predictors(config)
    with progress_bar(console, "fitting") as progress:
        return fit_kit(folder, results, bases=bases, progress=progress)


def base_predictors(config: Mapping[str, Any]) -> list[Any]:
    """Predictors that ``base=`` names. Raises: NasError."""
    from nas.latency.store import read_predictor

    bases = [config["base"]] if isinstance(config["base"], str) else config["base"]
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise NasError(f"base {quoted(config['base'])}: must be the path of a calibration, or [one,another].")
    return [read_predictor(Path(base).expanduser()) for base in bases]


def kit_settings(config: Mapping[str, Any]) -> KitSettings:
    """Settings of the kit that ``config`` describes. Raises: NasError."""
    from nas.latency.kits.manifest import KitSettings, Protocol
    from nas.latency.kits.runtimes import KIT_RUNTIMES, kit_runtime

    if config["runtime"] is None:
        raise NasError(f"which runtime? Add runtime= with one of {', '.join(KIT_RUNTIMES)}.")
    runtime = kit_runtime(config["runtime"])
    accelerator, precision = runtime.mode(config["accelerator"], config["precision"])
    protocol = Protocol(
        threads=config["threads"], batch=config["batch"], pause_s=config["pause_s"], passes=runtime.passes
    )
    return KitSettings(
        runtime=config["runtime"],
        accelerator=accelerator,
        precision=precision,
        n=config["n"],
        seed=config["seed"],
        protocol=protocol,
    )


def _kit_name(settings: KitSettings) -> str:
    protocol = settings.protocol
    return (
        f"{settings.runtime}-{settings.accelerator}-{settings.precision}-t{protocol.threads}-b{protocol.batch}"
        f"-n{settings.n}-s{settings.seed}-p{protocol.pause_s}"
    )


def _written(settings: KitSettings, folder: Path, console: Console) -> Kit:
    from nas.cli import app
    from nas.core.console import progress_bar
    from nas.latency.kits.writer import write_kit

    app.check_writable(folder, "out")
    with progress_bar(console, f"writing {settings.n} networks to {shown_path(folder.absolute())}") as progress:
        return write_kit(settings, folder, progress=progress)


def _connect(config: Mapping[str, Any], name: str) -> Transport:
    """The device, with a kit in a folder of that name. Raises: NasError."""
    if config["device"] == "ssh":
        from nas.latency.kits.ssh import SshDevice

        if config["host"] is None:
            raise NasError("which host? Add host=user@box, as ssh takes it.")
        return SshDevice(host=config["host"], port=config["ssh_port"], folder=name)
    from nas.latency.kits.adb import find_adb_device

    return find_adb_device(config["serial"], f"{_ANDROID}/{name}")
