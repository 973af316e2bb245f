"""Latency of networks: devices, measurement, calibration and predictors.

Predictors estimate the latency of a spec without building it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.latency.scale import LEAST_NETWORKS, LatencyScale
    from nas.latency.settings import MEASURED_BACKENDS, LatencySettings
    from nas.latency.speed import MachineSpeed, known_speed, speed_of
    from nas.latency.store import (
        calibration_command,
        calibration_path,
        device_of,
        disturbance_warning,
        load_or_calibrate,
        load_predictor,
        read_device,
        read_predictor,
        read_speed,
        save_predictor,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "scale": ["LEAST_NETWORKS", "LatencyScale"],
            "settings": ["MEASURED_BACKENDS", "LatencySettings"],
            "speed": ["MachineSpeed", "known_speed", "speed_of"],
            "store": [
                "calibration_command",
                "calibration_path",
                "device_of",
                "disturbance_warning",
                "load_or_calibrate",
                "load_predictor",
                "read_device",
                "read_predictor",
                "read_speed",
                "save_predictor",
            ],
        },
    )

__all__ = [
    "LEAST_NETWORKS",
    "MEASURED_BACKENDS",
    "LatencyScale",
    "LatencySettings",
    "MachineSpeed",
    "calibration_command",
    "calibration_path",
    "device_of",
    "disturbance_warning",
    "known_speed",
    "load_or_calibrate",
    "load_predictor",
    "read_device",
    "read_predictor",
    "read_speed",
    "save_predictor",
    "speed_of",
]
