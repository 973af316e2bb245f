"""engine=ray: settings for Ray before it is loaded, and errors if it is missing."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Final

from nas.core.errors import NasError
from nas.study.config import EngineSettings

_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # whatever the cluster wants printed here: pages of it when a machine dies
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the old output, which is silent with verbose=0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is for the frame, which gives trials back and writes results
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's record of the trials is never read: the study is the record
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # workers start side by side; the dispatcher hands out what there is room for
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


def ray_engine(settings: EngineSettings) -> AbstractContextManager[Any]:
    """``nas.engines.ray.cluster.ray_cluster`` of ``settings``.

    Raises: NasError where Ray is not installed.
    """
    os.environ.update(_ENVIRONMENT)
    try:
        module = import_module("nas.engines.ray.cluster")
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise NasError(f"engine=ray: Ray Tune cannot be loaded ({reason}): pip install 'ray[tune]>=2.50'.") from error
    found: AbstractContextManager[Any] = module.ray_cluster(settings)
    return found
