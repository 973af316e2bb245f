"""Images: sources, decoding, train/validation splits, and a summary of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.data.images import ImageData, load_images
    from nas.data.sources import DataSettings, check_data
    from nas.data.summary import ImageSummary
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "images": ["ImageData", "load_images"],
            "sources": ["DataSettings", "check_data"],
            "summary": ["ImageSummary"],
        },
    )

__all__ = ["DataSettings", "ImageData", "ImageSummary", "check_data", "load_images"]
