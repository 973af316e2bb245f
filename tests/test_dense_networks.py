"""Detectors and segmenters where only classifiers are supported: one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nas.arch import zoo
from nas.arch.files import save_spec
from nas.arch.heads import detector, segmenter
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError

DENSE = (detector(zoo.get("mobilenetv2_035"), 3), segmenter(zoo.get("mobilenetv2_035"), 3))


def standalone(arch: ArchSpec, _: Path) -> None:
    from nas.exporters.standalone import standalone_source

    standalone_source(arch)


def timm_model(_: ArchSpec, file: Path) -> None:
    from nas.model.timm_entrypoint import nas_arch

    nas_arch(spec=file)


def netadapt(_: ArchSpec, file: Path) -> None:
    from nas.netadapt import make_plan

    make_plan([f"arch={file}", "target=0.7", "data=digits"])


def grid(_: ArchSpec, file: Path) -> None:
    from nas.compound_grid import make_plan

    make_plan([f"baseline={file}", "data=digits"])


def timings(arch: ArchSpec, _: Path) -> None:
    from nas.latency.measure.block_timing import table_of

    table_of([arch])


@pytest.mark.parametrize("arch", DENSE, ids=lambda arch: arch.task)
@pytest.mark.parametrize(
    ("use", "remedy"),
    [
        (standalone, "load the spec file"),
        (timm_model, r"timm's models are classifiers; build it"),
        (netadapt, "give one with a classifier"),
        (grid, "give one with a classifier"),
        (timings, "latency=macs"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_takes_classifiers_alone_says_so(
    use: Callable[[ArchSpec, Path], None], remedy: str, arch: ArchSpec, tmp_path: Path
) -> None:
    file = tmp_path / "network.yaml"
    save_spec(arch, file)
    with pytest.raises(NasError, match=remedy) as caught:
        use(arch, file)
    assert "\n" not in str(caught.value)
    assert f"for {arch.task}" in str(caught.value) and arch.name in str(caught.value)
