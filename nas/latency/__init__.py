"""Latency of networks: devices, measurement, calibration and predictors.

Predictors estimate the latency of a spec without building it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.latency.host import describe
    from nas.latency.rewrite_choice import fastest_forms
    from nas.latency.scale import LEAST_NETWORKS, LatencyScale
    from nas.latency.settings import MEASURED_BACKENDS, PRECISIONS, REWRITTEN_BACKENDS, LatencySettings
    from nas.latency.speed import MachineSpeed, known_speed, speed_of
    from nas.latency.store import (
        as_priced,
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
            "host": ["describe"],
            "rewrite_choice": ["fastest_forms"],
            "scale": ["LEAST_NETWORKS", "LatencyScale"],
            "settings": ["MEASURED_BACKENDS", "PRECISIONS", "REWRITTEN_BACKENDS", "LatencySettings"],
            "speed": ["MachineSpeed", "known_speed", "speed_of"],
            "store": [
                "as_priced",
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
    "PRECISIONS",
    "REWRITTEN_BACKENDS",
    "LEAST_NETWORKS",
    "MEASURED_BACKENDS",
    "LatencyScale",
    "LatencySettings",
    "MachineSpeed",
    "as_priced",
    "calibration_command",
    "calibration_path",
    "describe",
    "device_of",
    "disturbance_warning",
    "fastest_forms",
    "known_speed",
    "load_or_calibrate",
    "load_predictor",
    "read_device",
    "read_predictor",
    "read_speed",
    "save_predictor",
    "speed_of",
]
