"""nas.export precision=int8: calibrated on train images, scored beside float32, told what it gains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.torch import save_file

from nas.arch.files import save_spec
from nas.core.errors import NasError
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.export import command
from nas.exporters import formats
from nas.exporters.deployment.quantised import _accuracy_text
from nas.exporters.quantisation import images as quantisation
from nas.exporters.quantisation.comparison import PairedAccuracy
from nas.model.weights import random_state_dict
from tests.json_output import json_answer
from tests.latency.tiny import TINY

SPEC = replace(TINY, name="digits", resolution_px=16, in_channels=1, classes=10)


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in a folder with a network for the digits of scikit-learn."""
    monkeypatch.chdir(tmp_path)
    facts = {"class_names": list(map(str, range(10))), "normalisation": {"mean": [0.3], "std": [0.4]}}
    save_spec(SPEC, "digits.yaml", facts)
    save_file(random_state_dict(SPEC, 0), "digits.safetensors")


def test_an_int8_file_with_its_accuracy_beside_float32(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["arch=digits.yaml", "data=digits", "batch=8"]
    plain = json_answer(command, capsys, words)
    seen = []
    monkeypatch.setattr(
        quantisation.TrainImages, "decoded", lambda self, rows: seen.extend(rows) or self._images.pixels(rows)
    )
    data = json_answer(command, capsys, [*words, "precision=int8", "tolerance=0.5"])
    assert Path(data["folder"]).name == "onnx-int8" and Path(plain["folder"]).name == "onnx"
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(data["file"]).graph.initializer}
    assert stored["conv_stem.weight_quantized"] == onnx.TensorProto.INT8
    # The accuracy, through the file by ONNX Runtime itself.
    found = load_images(DataSettings(name="digits")).resized(16)
    images = ((found.val_images.numpy() / 255 - 0.3) / 0.4).astype(np.float32)
    session = onnxruntime.InferenceSession(data["file"], providers=["CPUExecutionProvider"])
    whole = len(images) // 8 * 8
    logits = [session.run(None, {"input": part})[0] for part in np.split(images[:whole], whole // 8)]
    rest = session.run(None, {"input": np.resize(images[whole:], (8, 1, 16, 16))})[0][: len(images) - whole]
    correct = np.concatenate([*logits, rest]).argmax(axis=1) == found.val_labels.numpy()
    assert data["accuracy"] == pytest.approx(correct.mean())
    assert data["int8"]["accuracy_loss"] == pytest.approx(plain["accuracy"] - data["accuracy"])
    assert data["int8"]["accuracy_loss_error"] > 0 and plain["int8"] is None
    assert "128 train images" in data["int8"]["remarks"][0]
    assert len(seen) == len(set(seen)) <= len(found.train_labels)  # calibration and selection share no image
    assert "of float32's time" in data["int8"]["remarks"][-1]
    card = (Path(data["folder"]) / "model_card.md").read_text(encoding="utf-8")
    assert "## int8" in card and "Before quantisation, run with" in card


def test_random_weights_are_calibrated_on_noise_and_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    Path("digits.safetensors").unlink()
    data = json_answer(command, capsys, ["arch=digits.yaml", "precision=int8"])
    assert data["accuracy"] is None and "calibrated on noise" in data["int8"]["remarks"][0]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["precision=int8"], "precision int8: is calibrated on train images, .* add data="),
        (["precision=int4"], "unknown precision 'int4': choose from float32, int8"),
        (["precision=int8", "tolerance=2"], "tolerance 2: must be a number above 0 and at most 1"),
    ],
)
def test_mistakes(words: list[str], error: str) -> None:
    with pytest.raises(NasError, match=error):
        command(["arch=digits.yaml", *words])
    assert not Path("runs").exists()


def test_a_format_without_int8_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "is_installed", lambda name: not name.endswith(".int8"))
    with pytest.raises(NasError, match="format onnx: has no int8; choose precision float32, or another format"):
        command(["arch=digits.yaml", "data=digits", "precision=int8"])
    assert not list(Path("runs").glob("exports/*/*/*"))


@pytest.mark.parametrize(("lost", "gained", "text"), [(12, 2, "-1.00 ± "), (2, 12, "+1.00 ± "), (5, 5, "+0.00 ± ")])
def test_the_change_of_accuracy_has_its_sign(lost: int, gained: int, text: str) -> None:
    change = PairedAccuracy(images=1000, correct=500 - lost + gained, lost=lost, gained=gained)
    assert f"{text}0." in _accuracy_text(change, 0.05)
    assert _accuracy_text(change, 0.05).endswith("points against float32's 50.00%")
