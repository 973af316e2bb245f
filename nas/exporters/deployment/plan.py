"""Settings of an export as checked plain data; loads neither torch nor a runtime."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nas.arch.limits import MAX_RESOLUTION_PX
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, unknown_choice
from nas.core.validation import MAX_SEED, MAX_THREADS, check_number
from nas.data.dense import DenseDataSettings
from nas.data.sources import DataSettings
from nas.exporters.rewriting.named import REWRITES

_OTHER_CHARACTERS: Final = re.compile(r"[^\w.+-]+|^\.+")
_GATHERED: Final = ("winners",)  # folders whose name says nothing of the network
EXPORT_PRECISIONS: Final = ("float32", "int8")
AUTO, NONE = "auto", "none"  # as rewrite
_MASK_VALUES: Final = 256  # of a pixel of uint8
_MAX_BATCH: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """Complete settings of one export.

    ``arch``: the network as named; ``origin``: the provenance of its spec file. ``name``: of its files. ``out``: the
    folder that is written. ``weights``: in a form of ``weights=``; None for random ones of ``seed``.
    ``resolution_px``: input side (None: the network's). ``batch``: images of a run. ``threads``: of the runtime in the
    check. ``precision``: of ``EXPORT_PRECISIONS``; ``tolerance``: largest loss of accuracy by int8, a share. ``data``:
    the images of the check, None for noise. ``processing``: ``auto`` puts normalisation and post-processing into the
    file of a detector or segmenter, where the format has room; ``none`` leaves them out. ``rewrite``: ``auto``,
    ``none``, or names of rewrites. ``command``: what the user typed.

    Raises: NasError for values out of range.
    """

    arch: ArchSpec
    name: str
    format: str
    out: Path
    runs_dir: Path
    weights: str | None = None
    resolution_px: int | None = None
    batch: int = 1
    threads: int = 1
    seed: int = 0
    precision: str = "float32"
    tolerance: float = 0.01
    rewrite: tuple[str, ...] = (NONE,)
    overwrite: bool = False
    processing: str = AUTO
    data: DataSettings | DenseDataSettings | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""

    def __post_init__(self) -> None:
        check_number("resolution_px", self.resolution_px, low=1, high=MAX_RESOLUTION_PX, whole=True, optional=True)
        check_number("batch", self.batch, low=1, high=_MAX_BATCH, whole=True)
        check_number("threads", self.threads, low=1, high=MAX_THREADS, whole=True)
        check_number("tolerance", self.tolerance, low=0, high=1, open_low=True)
        if self.precision not in EXPORT_PRECISIONS:
            raise unknown_choice("precision", self.precision, EXPORT_PRECISIONS)
        if self.processing not in (AUTO, NONE):
            raise unknown_choice("processing", self.processing, (AUTO, NONE))
        if self.arch.task != "classification" and self.format == "timm":
            raise NasError(
                f"format timm: timm builds classifiers, and {self.arch.name} is for {self.arch.task}; torch_export is "
                "the whole network in torch, and nas.model.build builds it from its spec for further training."
            )
        if self.arch.task == "segmentation" and self.arch.classes > _MASK_VALUES:
            raise NasError(
                f"arch {self.arch.name}: has {self.arch.classes:,} classes, and the masks of an exported segmenter "
                f"have 8 bits, which tell {_MASK_VALUES} apart; give a network of fewer."
            )
        if self.data is not None and self.arch.task != getattr(self.data, "task", "classification"):
            fitting = f"data={self.arch.task}"
            if self.arch.task == "classification":
                fitting = "a data set of images with one class each, such as data=imagefolder"
            raise NasError(f"data {self.data.name}: {self.arch.name} is for {self.arch.task}; choose {fitting}.")
        for name in self.rewrite:
            if name not in (AUTO, NONE, *REWRITES):
                raise unknown_choice("rewrite", name, (AUTO, NONE, *REWRITES))
        if len(self.rewrite) != 1 and {AUTO, NONE} & {*self.rewrite}:
            raise NasError(f"rewrite {', '.join(self.rewrite)}: {AUTO} and {NONE} stand alone; or name rewrites only.")
        check_number("seed", self.seed, low=0, high=MAX_SEED, whole=True)

    @property
    def side_px(self) -> int:
        """Side of the input in px."""
        return self.resolution_px or self.arch.resolution_px


def export_name(arch: ArchSpec, spec_file: Path | None) -> str:
    """Name of an export: the network's, of a spec file that of its folder and its own.

    ``runs/w1/best.yaml`` is ``w1-best``. Names in spec files come from anywhere and are not trusted as paths.
    """
    if spec_file is None:
        return file_name(arch.name)
    folder = spec_file.absolute().parent
    if folder.name in _GATHERED:
        folder = folder.parent
    return file_name(f"{folder.name}-{spec_file.stem}" if folder.name else spec_file.stem)


def file_name(text: str) -> str:
    """``text`` as the name of a file, without separators of paths."""
    return _OTHER_CHARACTERS.sub("_", text)[:100] or "network"
