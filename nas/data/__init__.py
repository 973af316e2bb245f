"""Images: sources, decoding, train/validation splits, a description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.data.description import DatasetDescription, read_description, write_description
    from nas.data.images import ImageData, load_images, resize_images
    from nas.data.samples import with_samples
    from nas.data.sources import DataSettings, check_data
    from nas.data.summary import ImageSummary
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "description": ["DatasetDescription", "read_description", "write_description"],
            "images": ["ImageData", "load_images", "resize_images"],
            "samples": ["with_samples"],
            "sources": ["DataSettings", "check_data"],
            "summary": ["ImageSummary"],
        },
    )

__all__ = [
    "DataSettings",
    "DatasetDescription",
    "ImageData",
    "ImageSummary",
    "check_data",
    "load_images",
    "read_description",
    "resize_images",
    "with_samples",
    "write_description",
]
