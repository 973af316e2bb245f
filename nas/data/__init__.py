"""Images: sources, decoding, train/validation splits, a description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.data.decode import silent_pillow
    from nas.data.description import DatasetDescription, read_description, write_description
    from nas.data.images import ImageData, load_images, resize_images
    from nas.data.listing import fits_memory
    from nas.data.pixels import fit_square
    from nas.data.samples import with_samples
    from nas.data.sources import DataSettings, check_data
    from nas.data.streaming import DecodedImages, ImageFiles, ImageSet, UndecodedImage, list_images
    from nas.data.summary import ImageSummary
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "decode": ["silent_pillow"],
            "description": ["DatasetDescription", "read_description", "write_description"],
            "images": ["ImageData", "load_images", "resize_images"],
            "listing": ["fits_memory"],
            "pixels": ["fit_square"],
            "samples": ["with_samples"],
            "sources": ["DataSettings", "check_data"],
            "streaming": ["DecodedImages", "ImageFiles", "ImageSet", "UndecodedImage", "list_images"],
            "summary": ["ImageSummary"],
        },
    )

__all__ = [
    "DataSettings",
    "DatasetDescription",
    "DecodedImages",
    "ImageData",
    "ImageFiles",
    "ImageSet",
    "ImageSummary",
    "UndecodedImage",
    "check_data",
    "fit_square",
    "fits_memory",
    "list_images",
    "load_images",
    "read_description",
    "resize_images",
    "silent_pillow",
    "with_samples",
    "write_description",
]
