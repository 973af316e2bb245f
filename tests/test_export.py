"""Tests of nas.export: files that compute what torch computes, what stands beside them, mistakes."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import nas
from nas import export
from nas.arch import zoo
from nas.arch.files import load_spec_file, save_spec
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.images import load_images
from nas.data.pixels import fit_square
from nas.data.sources import DataSettings
from nas.data.streaming import list_images
from nas.export import command
from nas.exporters import formats
from nas.exporters.formats import FORMATS
from nas.exporters.rewriting.forms import FormChoice
from nas.exporters.rewriting.named import named_forms
from nas.latency.predictors.kernel_sum import KernelPredictor
from nas.latency.predictors.kernel_times import ANY_CLASS, KernelTimes
from nas.latency.settings import LatencySettings
from nas.latency.store import calibration_path, device_of, save_predictor
from nas.model.build import build
from nas.training.augmentation import normalise
from nas.training.augmentation_settings import AugmentationSettings
from nas.training.evaluation import evaluate
from nas.training.settings import TrainSettings
from nas.training.streaming.transforms import ValTransform
from tests.exporters.test_onnx_graph import with_random_norms
from tests.json_output import json_answer
from tests.latency.synthetic_device import LANE

STATISTICS: Final = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.5, 0.3]}
CLASSES: Final = ["newt", "owl", "a|b"]
BESIDE: Final = {"example.py", "labels.txt", "model_card.md", "network.yaml", "preprocess.json"}
TINY: Final = ArchSpec.from_strings(
    "tiny", [["ds_r1_k3_s1_c16"], ["ir_r1_k3.5_s2_e3_c24_se0.25_nsw"]], stem=StemSpec(channels=8),
    head=HeadSpec(channels=16), classes=3, resolution_px=24,
)  # fmt: skip


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder, and nothing is measured: blocks of ``rewrite=auto`` are plain."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export, "_fastest_forms", lambda plan, arch: FormChoice(None, "plain blocks; not measured"))


@pytest.fixture
def photos() -> Iterator[Path]:
    """Images of two of the classes, in splits."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 9)):
        for name in ("newt", "owl"):
            for number in range(count):
                path = Path("photos") / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (30 + number, 40, 3), dtype=np.uint8)).save(path)
    yield Path("photos")


def trained(arch: ArchSpec = TINY, path: str = "runs/w1/best.yaml", **provenance: Any) -> torch.nn.Module:
    """A spec file with weights beside it; returns the network."""
    torch.manual_seed(0)
    model = with_random_norms(build(arch))
    facts = {"class_names": CLASSES, "normalisation": STATISTICS, **provenance}
    save_spec(arch, path, facts)
    save_file(dict(model.state_dict()), Path(path).with_suffix(".safetensors"))
    return model


def onnx_logits(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_computes_what_torch_computes_and_its_example_classifies(name: str) -> None:
    form = FORMATS[name]
    if not all(map(formats.is_installed, form.packages)):
        pytest.skip(f"needs pip install 'nas[{form.extra}]'")
    model = trained()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    assert command(["runs/w1/best.yaml", f"format={name}", "out=here"]) == 0
    square = np.asarray(fit_square(Image.fromarray(pixels), 24, fit="crop", background=(0, 0, 0)))
    mean, std = (torch.tensor(STATISTICS[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        shares = model(normalise(torch.tensor(square).permute(2, 0, 1)[None], mean, std)).softmax(1)[0]
    classified = runpy.run_path("here/example.py")["classify"]("photo.png")
    order = shares.argsort(descending=True).tolist()
    assert [label for label, _ in classified] == [CLASSES[row] for row in order]
    assert [share for _, share in classified] == pytest.approx(shares[order].tolist(), abs=1e-5)
    told = json.loads(Path("here/preprocess.json").read_text(encoding="utf-8"))
    assert told["input_shape"] == [{"N": 1, "C": 3, "H": 24, "W": 24}[axis] for axis in form.layout]
    for other in Path("here").iterdir():
        if other.suffix in (".cc", ".kt", ".py"):
            source = other.read_text(encoding="utf-8")
            assert form.name == "timm" or f"w1-best{form.suffix}" in source
            assert "24" in source and "{%" not in source


@pytest.mark.parametrize("arch", [TINY, replace(zoo.get("mobilenetv3_small_050"), classes=3, in_channels=1)])
def test_a_folder_for_timm_has_bit_equal_outputs(arch: ArchSpec) -> None:
    statistics = {name: values[: arch.in_channels] for name, values in STATISTICS.items()}
    model = trained(arch, normalisation=statistics, preprocessing={"crop_pct": 0.9, "interpolation": "bicubic"})
    assert command(["runs/w1/best.yaml", "format=timm", "out=here", "resolution_px=40"]) == 0
    opened = timm.create_model("local-dir:here", pretrained=True).eval()
    images = torch.randn(2, arch.in_channels, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(opened(images), model(images))
    cfg = opened.pretrained_cfg
    assert tuple(cfg["input_size"]) == (arch.in_channels, 40, 40) and list(cfg["mean"]) == statistics["mean"]
    assert (cfg["crop_pct"], cfg["interpolation"], list(cfg["label_names"])) == (0.9, "bicubic", CLASSES)
    is_native = arch is not TINY
    config = json.loads(Path("here/config.json").read_text(encoding="utf-8"))
    assert config["architecture"] == ("mobilenetv3_small_050" if is_native else "nas_arch")
    card = Path("here/model_card.md").read_text(encoding="utf-8")
    assert ("timm alone builds this network" in card) == is_native == ("import nas" not in card)
    assert ("import nas" in Path("here/example.py").read_text(encoding="utf-8")) != is_native
    assert timm.create_model("local-dir:here", pretrained=True, num_classes=5).num_classes == 5


def test_random_weights_are_exported_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["mobilenetv3_small_050", "resolution_px=32", "batch=2", "seed=3"]) == 0
    out = capsys.readouterr().out
    warned, rewritten, checked, written, how = out.splitlines()
    assert rewritten == "rewrite=auto: plain blocks; not measured"
    assert warned.startswith("warning: the weights are random")
    assert (
        "images of noise: largest difference to NumPy's float64 " in checked and "the same class for 4 of 4" in checked
    )
    assert written.startswith("written: runs/exports/mobilenetv3_small_050/onnx (mobilenetv3_small_050.onnx, ")
    assert how == "python runs/exports/mobilenetv3_small_050/onnx/example.py IMAGE classifies images with it"
    folder = Path("runs/exports/mobilenetv3_small_050/onnx")
    model = onnx.load(folder / "mobilenetv3_small_050.onnx")
    (images,) = (value.type.tensor_type.shape.dim for value in model.graph.input)
    assert [size.dim_value for size in images] == [2, 3, 32, 32]
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    assert "weights are random" in card and "computes the same function: plain blocks; not measured." in card
    with pytest.raises(NasError, match=r"onnx': holds an export already; overwrite=true replaces it"):
        command(["mobilenetv3_small_050", "resolution_px=32"])
    assert command(["mobilenetv3_small_050", "resolution_px=32", "overwrite=true"]) == 0
    assert {path.name for path in folder.iterdir()} == {"mobilenetv3_small_050.onnx", *BESIDE}
    assert [path.name for path in folder.parent.iterdir()] == ["onnx"]


def test_a_trained_network_computes_what_torch_computes_and_is_described(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = {"fit": "pad", "background": [9, 8, 7], "interpolation": "bicubic", "crop_pct": 0.9}
    model = trained(
        run="w1",
        epoch=3,
        accuracy=0.5,
        standard_error=0.25,
        preprocessing=steps,
        network_from={"study": "s7", "trial": 0, "genotype": {}},
    )

    # The images as the house's training streams them, through torch; about a third of each class.
    data = list_images(DataSettings(name="imagefolder", root=str(photos), fit="pad", background=(9, 8, 7)), 24)
    transform = ValTransform(data, AugmentationSettings(interpolation="bicubic", crop_pct=0.9))
    pixels = []
    for row in range(len(data.val_labels)):
        with data.open("val", row) as image:
            pixels.append(torch.tensor(transform(image)).permute(2, 0, 1))
    mean, std = (torch.tensor(STATISTICS[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    images = normalise(torch.stack(pixels), mean, std)
    with torch.inference_mode():
        model.classifier.bias -= model(images).median(dim=0).values
        logits = model(images)
    save_file(dict(model.state_dict()), "runs/w1/best.safetensors")

    given = ("arch=runs/w1/best.yaml", "data=imagefolder", f"data.root={photos}")
    answer = json_answer(command, capsys, given)
    folder = Path("runs/exports/w1-best/onnx")
    assert (answer["folder"], answer["file"]) == (str(folder), str(folder / "w1-best.onnx"))
    assert {Path(file).name for file in answer["files"]} == {path.name for path in folder.iterdir()}
    assert {path.name for path in folder.iterdir()} == {"w1-best.onnx", *BESIDE}
    found = np.concatenate([onnx_logits(folder / "w1-best.onnx", image[None]) for image in images.numpy()])
    scale = float(logits.abs().max())
    assert np.abs(found - logits.numpy()).max() <= 1e-4 * scale
    assert answer["difference"]["images"] == answer["difference"]["same_class"] == 18
    assert answer["difference"]["relative"] <= 1e-4
    share = int((logits.argmax(1) == data.val_labels).sum()) / 18
    assert 0 < share < 1
    assert (answer["accuracy"], answer["validation_images"]) == (share, 18)
    assert answer["standard_error"] == pytest.approx((share * (1 - share) / 18) ** 0.5)

    # The example: the same classes with the same probabilities, from the files alone.
    example = runpy.run_path(str(folder / "example.py"))
    shares = torch.softmax(logits, dim=1)
    for row, path in ((0, "newt/0.png"), (12, "owl/3.png")):
        classified = example["classify"](photos / "val" / path)
        order = shares[row].argsort(descending=True).tolist()
        assert [name for name, _ in classified] == [CLASSES[label] for label in order]
        assert [share for _, share in classified] == pytest.approx(shares[row][order].tolist(), abs=1e-4)

    assert (folder / "labels.txt").read_text(encoding="utf-8").splitlines() == CLASSES
    told = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
    assert {name: told[name] for name in steps} == steps and told["mean"] == STATISTICS["mean"]
    assert (told["input_shape"], told["layout"], told["colour"]) == ([1, 3, 24, 24], "NCHW", "RGB")
    metadata = {one.key: json.loads(one.value) for one in onnx.load(folder / "w1-best.onnx").metadata_props}
    assert metadata["class_names"] == CLASSES and metadata["normalisation"] == STATISTICS
    assert metadata["preprocessing"] == told and metadata["network"]["arch_id"] == TINY.arch_id
    written = load_spec_file(folder / "network.yaml")
    assert written.arch == TINY and written.provenance["run"] == "w1"
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    assert "the same class for 18 of 18" in card and f"{100 * share:.2f} ± " in card
    assert "| accuracy in training | 50.00 ± 25.00% |" in card and "| run | w1 |" in card
    assert "| network: study | s7 |" in card and "| network: trial | 0 |" in card and "genotype" not in card
    assert "random" not in card and "Predicted" not in card


def test_the_accuracy_is_that_of_an_evaluation_on_a_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    arch = replace(TINY, classes=10, in_channels=1, resolution_px=10)
    statistics = {"mean": [0.25], "std": [0.5]}
    model = trained(arch, class_names=[str(digit) for digit in range(10)], normalisation=statistics)
    found = json_answer(command, capsys, ("runs/w1/best.yaml", "data=digits", "batch=3"))
    data = load_images(DataSettings(name="digits", resolution_px=10))
    score = evaluate(model, replace(data, mean=(0.25,), std=(0.5,)), TrainSettings())
    assert (found["accuracy"], found["validation_images"]) == (score.accuracy, len(data.val_labels))
    assert command(["runs/w1/best.yaml", "data=digits", "out=elsewhere"]) == 0
    out = capsys.readouterr().out
    assert f"accuracy through the file: {100 * score.accuracy:.2f} ± " in out
    assert "32 validation images of digits: largest difference to torch " in out


def test_pretrained_weights_bring_their_classes_and_preprocessing(capsys: pytest.CaptureFixture[str]) -> None:
    arch = zoo.get("mobilenetv3_small_050")
    Path("runs/weights").mkdir(parents=True)
    state = with_random_norms(build(arch)).state_dict()
    save_file(dict(state), "runs/weights/mobilenetv3_small_050.safetensors")
    result = nas.export_network(
        arch="mobilenetv3_small_050", weights="pretrained", resolution_px=32, out="here", progress=False
    )
    assert result.folder == Path("here") and result.difference.relative <= 1e-4 and result.accuracy is None
    assert capsys.readouterr().out == ""
    told = json.loads(Path("here/preprocess.json").read_text(encoding="utf-8"))
    assert (told["interpolation"], told["crop_pct"], told["mean"][0]) == ("bicubic", 0.875, 0.485)
    assert Path("here/labels.txt").read_text(encoding="utf-8").startswith("n01440764\n")
    assert "(timm says 'apache-2.0' of the weights)" in Path("here/model_card.md").read_text(encoding="utf-8")
    images = np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)
    model = build(arch)
    model.load_state_dict(state)
    with torch.inference_mode():
        expected = model.eval()(torch.from_numpy(images)).numpy()
    found = onnx_logits(result.file, images)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_more_channels_than_a_picture_has_are_exported_without_an_example() -> None:
    save_spec(replace(TINY, in_channels=4), "four.yaml")
    assert command(["four.yaml", "out=here"]) == 0
    assert {path.name for path in Path("here").iterdir()} == {f"{Path.cwd().name}-four.onnx", *BESIDE} - {"example.py"}
    assert "example" not in Path("here/model_card.md").read_text(encoding="utf-8")


def test_weights_without_a_spec_say_the_number_of_classes(capsys: pytest.CaptureFixture[str]) -> None:
    arch = replace(zoo.get("mobilenetv3_small_050"), classes=7)
    save_file(dict(build(arch).state_dict()), "mine.safetensors")
    assert command(["mobilenetv3_small_050", "weights=mine.safetensors", "resolution_px=32", "out=here"]) == 0
    assert "note: the mean and deviation of the images that the weights" in capsys.readouterr().out
    assert Path("here/labels.txt").read_text(encoding="utf-8").splitlines()[-1] == "class 6"
    assert load_spec_file("here/network.yaml").arch.classes == 7


def test_a_calibration_of_the_runtime_gives_a_predicted_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    device = device_of(LatencySettings(backend="onnxruntime"))
    times = KernelTimes(lane=LANE, laws={ANY_CLASS: (1.0, 1.0, 1.0, 1.0)}, trees={})
    predictor = KernelPredictor(
        device=device, times=times, factors={"pool": 1.0}, checks=(), spent_s=1.0, rewrites=True
    )
    save_predictor(predictor, calibration_path(device, Path("runs")))
    trained()
    fastest, plain = (one.predict(TINY).latency_ms for one in (predictor, predictor.with_rewrites(False)))
    assert f"{fastest:.2f}" != f"{plain:.2f}"
    fastest_text = f"Predicted: {fastest:.2f} ms on {device}, every block in its fastest form; "
    plain_text = f"Predicted: {plain:.2f} ms on {device}; "
    merged = named_forms(TINY, ["merge_mixconv"])
    for words, measured, text in (
        ([], merged, fastest_text),
        ([], None, plain_text),  # no rewrite was measured to be faster
        (["rewrite=none"], merged, plain_text),
        (["rewrite=crop_kernels"], None, ""),  # neither plain blocks nor the fastest ones
        (["threads=2"], merged, ""),  # another device, which is not calibrated
    ):
        choice = FormChoice(measured, "measured")
        monkeypatch.setattr(export, "_fastest_forms", lambda plan, arch, choice=choice: choice)
        assert command(["runs/w1/best.yaml", "overwrite=true", *words]) == 0
        card = Path("runs/exports/w1-best/onnx/model_card.md").read_text(encoding="utf-8")
        assert ("Predicted: " in card) == bool(text) and text in card, words


def test_a_file_that_differs_from_torch_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    trained()
    strict = replace(formats.FORMATS["onnx"], tolerance=1e-12)
    monkeypatch.setitem(formats.FORMATS, "onnx", strict)
    before = {str(path) for path in Path().rglob("*")}
    with pytest.raises(NasError, match=r"differ from those of torch by .*, where 1e-12 is allowed; nothing was wri"):
        command(["runs/w1/best.yaml"])
    assert {str(path) for path in Path().rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"which network\? Add arch="),
        (["mixnet_x"], r"arch 'mixnet_x': neither a published network"),
        (["mixnet_s", "format=onx"], r"unknown format 'onx': choose from onnx.* Did you mean 'onnx'"),
        (["mixnet_s", "format=3"], "format 3: must be text"),
        (["mixnet_s", "batch=0"], "batch 0: must be a whole number of at least 1"),
        (["mixnet_s", "resolution_px=x"], "resolution_px 'x': must be a whole number"),
        (["mixnet_s", "threads=9999"], "threads 9999: must be a whole number"),
        (["mixnet_s", "overwrite=perhaps"], "overwrite 'perhaps': must be true or false"),
        (["mixnet_s", "weights=none.pth"], r"weights 'none\.pth': no such file"),
        (["mixnet_s", "weights=mixnet"], r"weights 'mixnet': must be null, pretrained"),
        (["mixnet_s", "weights=runs/w1/best.yaml"], r"are of tiny, another network than mixnet_s; choose arch="),
        (["mixnet_s", "data=imagefolder"], r"data\.root: missing, imagefolder needs a folder"),
        (["mixnet_s", "data.root=photos"], r"data: no choice is selected, .*add data=NAME, one of cifar10"),
        (["mixnet_s", "data=digits"], r"data digits: the images have 1 channels, the network takes 3"),
        (["mixnet_s", "out=file/below"], r"out 'file': cannot be written to: File exists"),
        (["mixnet_s", "out=file"], r"out 'file': is a file; give a folder"),
        (["mixnet_s", "out=runs/w1"], r"out 'runs/w1': holds files that are no export"),
        (["mixnet_s", "opset=3"], r"unknown key 'opset'"),
        (["wrong/best.yaml"], r"provenance\.class_names: has 3 names, the network has 5 classes"),
    ],
)
def test_user_errors_are_one_line_and_write_nothing(arguments: list[str], message: str) -> None:
    trained()
    trained(replace(TINY, classes=5), "wrong/best.yaml")
    Path("file").touch()
    before = {str(path) for path in Path().rglob("*")}
    with pytest.raises(NasError, match=message) as caught:
        command(arguments)
    assert "\n" not in str(caught.value)
    assert {str(path) for path in Path().rglob("*")} == before


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "is_installed", lambda package: package != "onnxruntime")
    with pytest.raises(NasError, match="format onnx: the package onnxruntime is not installed; pip install onnxrunti"):
        command(["mixnet_s"])


def test_python_takes_names_and_files_only() -> None:
    with pytest.raises(NasError, match="arch: must be a name or the path of a spec file"):
        nas.export_network(arch=TINY)


def test_help_and_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--help"]) == 0
    assert "format=onnx" in capsys.readouterr().out
    assert command(["mixnet_s", "--cfg", "job"]) == 0
    assert "arch: mixnet_s" in capsys.readouterr().out
