"""Images: sources, decoding, train/validation splits, a description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.data.decode import open_image, silent_pillow, stored_values, upright_size
    from nas.data.description import DatasetDescription, read_description, write_description
    from nas.data.image_files import shown_name
    from nas.data.images import ImageData, load_images, resize_images
    from nas.data.listing import fits_memory, folder_rows, list_folder
    from nas.data.pixel_rules import FITS, Colour, background_colour
    from nas.data.pixels import fit_square
    from nas.data.samples import with_samples
    from nas.data.sources import DataSettings, check_data
    from nas.data.streaming import DecodedImages, ImageFiles, ImageSet, Split, UndecodedImage, list_images
    from nas.data.summary import ImageSummary
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "decode": ["open_image", "silent_pillow", "stored_values", "upright_size"],
            "description": ["DatasetDescription", "read_description", "write_description"],
            "image_files": ["shown_name"],
            "images": ["ImageData", "load_images", "resize_images"],
            "listing": ["fits_memory", "folder_rows", "list_folder"],
            "pixel_rules": ["FITS", "Colour", "background_colour"],
            "pixels": ["fit_square"],
            "samples": ["with_samples"],
            "sources": ["DataSettings", "check_data"],
            "streaming": ["DecodedImages", "ImageFiles", "ImageSet", "UndecodedImage", "list_images", "Split"],
            "summary": ["ImageSummary"],
        },
    )

__all__ = [
    "Split",
    "Colour",
    "DataSettings",
    "DatasetDescription",
    "DecodedImages",
    "FITS",
    "ImageData",
    "ImageFiles",
    "ImageSet",
    "ImageSummary",
    "UndecodedImage",
    "background_colour",
    "check_data",
    "fit_square",
    "fits_memory",
    "folder_rows",
    "list_folder",
    "list_images",
    "load_images",
    "open_image",
    "read_description",
    "resize_images",
    "shown_name",
    "silent_pillow",
    "stored_values",
    "upright_size",
    "with_samples",
    "write_description",
]
