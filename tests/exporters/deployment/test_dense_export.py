"""Exported detectors and segmenters: what file and example give, against torch's post-processing."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from nas.arch.files import dump_spec
from nas.arch.heads import detector, segmenter
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.export import exported, make_plan
from nas.exporters.deployment import run_export
from nas.exporters.formats import FORMATS, is_installed
from nas.exporters.standalone import save_weights
from nas.model.build import build
from nas.model.dense.detection import detections
from nas.model.dense.segmentation import class_masks
from tests.exporters.dense_specs import trunk
from tests.exporters.same_boxes import check_same_boxes
from tests.exporters.test_onnx_graph import with_random_norms
from tests.paths import SHARED_DATA

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
DETECTOR = replace(detector(trunk(0), classes=3, resolution_px=64), name="cells")
SEGMENTER = replace(segmenter(trunk(0), classes=4, resolution_px=64), name="streets")
NAMES = {"detection": ["red", "white", "small"], "segmentation": ["sky", "road", "tree", "car"]}
RUNTIMES = [
    ("onnx", "auto"),
    ("onnx", "none"),
    ("openvino", "auto"),
    ("litert", "auto"),
    ("ncnn", "auto"),
    ("torch_export", "auto"),
]


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(spec: Any, fit: str = "stretch", names: list[str] | None = None) -> torch.nn.Module:
    """Write ``best.yaml`` with weights beside it; returns the module."""
    torch.manual_seed(0)
    model = with_random_norms(build(spec)).eval()
    save_weights(model, "best.safetensors")
    provenance = {
        "class_names": names or NAMES[spec.task],
        "normalisation": {"mean": list(MEAN), "std": list(STD)},
        "preprocessing": {"fit": fit, "background": [10, 20, 30]},
    }
    Path("best.yaml").write_text(dump_spec(spec, provenance), encoding="utf-8")
    return model


def export(file_format: str, *words: str) -> Path:
    if not all(map(is_installed, FORMATS[file_format].packages)):
        pytest.skip(f"{file_format} is not installed")
    words = ("arch=best.yaml", f"format={file_format}", "out=here", "rewrite=none", *words)
    return exported(make_plan([*words]), to_stderr=True, quiet=True).folder


def photo(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    image.save("photo.png")
    return image


def outputs(model: torch.nn.Module, square: Image.Image) -> Any:
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255
    images = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.inference_mode():
        return model(images[None])


@pytest.mark.parametrize(("file_format", "processing"), RUNTIMES)
def test_the_example_finds_the_boxes_of_torch(file_format: str, processing: str) -> None:
    model = written(DETECTOR)
    folder = export(file_format, f"processing={processing}")
    image = photo((96, 64))
    example = runpy.run_path(str(folder / "example.py"))
    square = image.resize((64, 64), Image.Resampling.BILINEAR)
    (expected,) = detections(DETECTOR, outputs(model, square), max_detections=110)
    found = example["detect"](image)
    assert len(found[1]) == min(100, len(expected.scores)) > 20
    check_same_boxes(found, expected, box_atol=0.05, score_atol=1e-4, scale=image.size)
    has_processing = FORMATS[file_format].has_processing and processing == "auto"
    assert (folder / "default_boxes.csv").is_file() != has_processing
    assert (json.loads((folder / "preprocess.json").read_text())["dtype"] == "uint8") == has_processing
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    assert "object detection, 3 classes" in card and ("boxes are the same as torch's" in card) == has_processing


@pytest.mark.parametrize(("file_format", "processing"), RUNTIMES)
def test_the_example_gives_the_classes_of_torch(file_format: str, processing: str) -> None:
    model = written(SEGMENTER)
    folder = export(file_format, f"processing={processing}")
    image = photo((64, 64))
    example = runpy.run_path(str(folder / "example.py"))
    expected = class_masks(outputs(model, image), 64, 64)[0].numpy()
    found = example["segment"](image)
    assert found.shape == (64, 64) and len(np.unique(expected)) > 1
    assert np.mean(found == expected) > 0.999
    larger = example["segment"](image.resize((128, 96)))
    assert larger.shape == (96, 128) and larger.dtype == np.uint8


@pytest.mark.parametrize("processing", ["auto", "none"])
def test_bars_are_not_part_of_the_boxes(processing: str) -> None:
    model = written(DETECTOR, fit="pad")
    folder = export("onnx", f"processing={processing}")
    image = photo((128, 64))
    example = runpy.run_path(str(folder / "example.py"))
    square = Image.new("RGB", (64, 64), (10, 20, 30))
    square.paste(image.resize((64, 32), Image.Resampling.BILINEAR), (0, 16))
    (expected,) = detections(DETECTOR, outputs(model, square), max_detections=110)
    boxes = (expected.boxes * 128 - torch.tensor([0, 32, 0, 32])).numpy().clip(0, (128, 64) * 2)
    for box in example["detect"](image)[0]:
        assert np.abs(boxes - box).max(1).min() < 0.05


def test_the_example_draws_and_prints(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for spec, file, line in ((DETECTOR, "photo.boxes.png", "photo.png"), (SEGMENTER, "photo.mask.png", "%")):
        written(spec)
        folder = export("onnx", "overwrite=true")
        photo((96, 64))
        monkeypatch.setattr("sys.argv", ["example.py", "photo.png"])
        runpy.run_path(str(folder / "example.py"), run_name="__main__")
        assert line in capsys.readouterr().out
        with Image.open(file) as picture:
            assert picture.size == (96, 64)


@pytest.mark.parametrize("name", ["best.yaml", "mobilenetv3_small_050"])
def test_the_example_refuses_images_of_more_than_8_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would cut their values at 255, and show white."""
    written(DETECTOR)
    folder = exported(
        make_plan([f"arch={name}", "resolution_px=64", "rewrite=none"]), to_stderr=True, quiet=True
    ).folder
    Image.fromarray(np.full((20, 30), 40_000, dtype=np.uint16)).save("deep.png")
    monkeypatch.setattr("sys.argv", ["example.py", "deep.png"])
    with pytest.raises(SystemExit, match=r"deep\.png: has more than 8 bits per channel; convert it"):
        runpy.run_path(str(folder / "example.py"), run_name="__main__")


def test_a_segmenter_of_more_classes_than_a_mask_has_values_is_refused() -> None:
    Path("many.yaml").write_text(dump_spec(segmenter(trunk(0), classes=257, resolution_px=64)))
    with pytest.raises(NasError, match=r"has 257 classes, and the masks of an exported segmenter have 8 bits"):
        make_plan(["arch=many.yaml"])


def test_timm_and_images_of_another_task_are_refused() -> None:
    written(DETECTOR)
    for words, message in (
        (["format=timm"], "format timm: timm builds classifiers, and cells is for detection"),
        (["processing=some"], "processing 'some': "),
        (["data=digits"], "data digits: cells is for detection; choose data=detection"),
    ):
        with pytest.raises(NasError, match=message):
            make_plan(["arch=best.yaml", *words])
    with pytest.raises(NasError, match="choose a data set of images with one class each, such as data=imagefolder"):
        make_plan(["arch=mixnet_s", "data=detection", "data.root=."])


@pytest.mark.parametrize("spec", [DETECTOR, SEGMENTER])
def test_the_images_of_the_task_need_no_name(spec: ArchSpec) -> None:
    written(spec)
    with pytest.raises(NasError, match=r"^data\.root: missing-folder does not exist"):
        make_plan(["arch=best.yaml", "data.root=missing-folder"])
    with pytest.raises(NasError, match=rf"add data= \(data={spec.task} data\.root="):
        export("onnx", "precision=int8")
    with pytest.raises(NasError, match=r"^data: no choice is selected"):
        make_plan(["arch=mixnet_s", "data.root=missing-folder"])


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_score_through_the_file_is_that_of_the_module(precision: str) -> None:
    from nas.data.dense import DenseDataSettings, load_segmentation_data
    from nas.training.settings import TrainSettings
    from nas.training.tasks.segmentation import Segmentation
    from nas.training.tasks.segmentation_source import SegmentationSource

    root = SHARED_DATA / "camvid160"
    if not root.is_dir():
        pytest.skip(f"{root} is missing")
    data = load_segmentation_data(DenseDataSettings(name="segmentation", root=str(root)))
    spec = replace(SEGMENTER, classes=data.classes)
    model = written(spec, names=list(data.class_names))
    words = (f"precision={precision}", "tolerance=0.9", "data=segmentation", f"data.root={root}")
    plan = make_plan(["arch=best.yaml", "out=here", "rewrite=none", *words])
    found = exported(plan, to_stderr=True, quiet=True).accuracy
    settings = TrainSettings()
    source = SegmentationSource(
        replace(data, mean=MEAN, std=STD), settings, resolution_px=64, seed=0, device=torch.device("cpu")
    )
    expected = Segmentation(source, settings, torch.device("cpu")).score(model, source.val_batches())
    assert found is not None and found.images == len(data.val)
    assert found.accuracy == pytest.approx(expected.accuracy, abs=1e-4 if precision == "float32" else 0.05)
    assert found.standard_error == pytest.approx(expected.standard_error, abs=0.02)


def test_int8_is_timed_beside_float32_with_the_same_steps() -> None:
    Path("best.yaml").write_text(dump_spec(SEGMENTER, {}), encoding="utf-8")
    seen: list[Any] = []

    def compare(before: Any, after: Any, noise: Any) -> str:
        seen.extend(run(noise) for run in (before, after))
        return "as fast"

    plan = make_plan(["arch=best.yaml", "out=here", "rewrite=none", "precision=int8"])
    found = run_export(plan, Console(quiet=True), compare_runs=compare).int8
    assert found is not None and found.texts[-1] == "as fast"
    (mask, logits), (int8_mask, int8_logits) = seen
    assert mask.shape == int8_mask.shape == (1, 64, 64) and mask.dtype == int8_mask.dtype == np.uint8
    assert logits.shape == int8_logits.shape == (1, 4, 8, 8) and not np.array_equal(logits, int8_logits)
