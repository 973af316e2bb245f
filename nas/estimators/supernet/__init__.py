"""Weight sharing: one supernet is trained, and each network inherits its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.estimators.supernet.file_header import SupernetFile, read_supernet_file
    from nas.estimators.supernet.network import Subnetwork
    from nas.estimators.supernet.scorer import SupernetScorer
    from nas.estimators.supernet.settings import SupernetSettings
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "file_header": ["SupernetFile", "read_supernet_file"],
            "network": ["Subnetwork"],
            "scorer": ["SupernetScorer"],
            "settings": ["SupernetSettings"],
        },
    )

__all__ = ["Subnetwork", "SupernetFile", "SupernetScorer", "SupernetSettings", "read_supernet_file"]
