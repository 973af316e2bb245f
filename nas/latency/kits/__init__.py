"""Kits: calibration networks as files, which are measured on a device elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.latency.kits.adb import find_adb_device
    from nas.latency.kits.fit import KitFit, fit_kit
    from nas.latency.kits.manifest import Kit, KitSettings, Protocol
    from nas.latency.kits.remote import push_kit, run_kit
    from nas.latency.kits.runtimes import KIT_RUNTIMES, kit_runtime
    from nas.latency.kits.ssh import SshDevice
    from nas.latency.kits.transport import Transport, check_reachable, pull_results
    from nas.latency.kits.writer import kit_bytes, write_kit
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "adb": ["find_adb_device"],
            "fit": ["KitFit", "fit_kit"],
            "manifest": ["Kit", "KitSettings", "Protocol"],
            "remote": ["push_kit", "run_kit"],
            "runtimes": ["KIT_RUNTIMES", "kit_runtime"],
            "ssh": ["SshDevice"],
            "transport": ["Transport", "check_reachable", "pull_results"],
            "writer": ["kit_bytes", "write_kit"],
        },
    )

__all__ = [
    "KIT_RUNTIMES",
    "Kit",
    "KitFit",
    "KitSettings",
    "Protocol",
    "SshDevice",
    "Transport",
    "check_reachable",
    "find_adb_device",
    "fit_kit",
    "kit_bytes",
    "kit_runtime",
    "pull_results",
    "push_kit",
    "run_kit",
    "write_kit",
]
