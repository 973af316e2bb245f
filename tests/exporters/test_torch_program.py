"""Torch modules of inference graphs: what torch.export and ExecuTorch write, and run."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.arch.parts import HEAD_KINDS, MOBILENET_V3_SE, HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.formats import is_installed
from nas.exporters.graph import inference_graph
from nas.exporters.reference import numpy_run
from nas.exporters.torch_export.session import open_model, write_model
from nas.exporters.torch_program import TorchProgram
from nas.model.build import build
from tests.exporters.test_onnx_graph import with_random_norms

PX = 19
STRINGS = (
    ["er_r1_k3_gs4_s2_e4_c24_se0.25", "cn_r1_k3_s1_c24_skip"],
    ["ir_r2_k3.5_a1.1_p1.1_s2_e3_c36_se0.5_dilated_nhs", "dsa_r1_k7_s1_c20_nr6", "ir_r1_k3.5_s1_e2_c20_nmi"],
    ["uir_r1_a5_k0_s2_e4_c24", "mqa_r1_k3_h3_v2_d8_s1_c24", "mqa_r1_k3_h2_d16_s1_c24", "uir_r1_a3_k3_s1_e4_c24"],
)
DELEGATED = (
    ["ir_r1_k3.5_p1.1_s2_e2_c16_se0.5_nhs", "ir_r1_k3_s1_e2_c16_nmi"],
    ["mqa_r1_k3_h2_v2_d8_s1_c16", "cn_r1_k1_s1_c16"],
)
TINY = ArchSpec.from_strings(
    "tiny", [["ir_r1_k3.5_a1.1_p1.1_s2_e2_c16_se0.5_nhs"]], stem=StemSpec(channels=8), head=HeadSpec(channels=8),
    classes=3, resolution_px=PX, squeeze_excite=MOBILENET_V3_SE,
)  # fmt: skip


def images(count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, PX, PX), dtype=np.float32)


@pytest.mark.parametrize("strings", STRINGS)
@pytest.mark.parametrize(("padding", "activation"), [("symmetric", "gelu"), ("same", "swish")])
@pytest.mark.parametrize("head", [HeadSpec(channels=0), *(HeadSpec(channels=8, kind=kind) for kind in HEAD_KINDS)])
def test_a_program_computes_its_network(strings: list[str], padding: str, activation: str, head: HeadSpec) -> None:
    spec = ArchSpec.from_strings(
        "odd", [strings], stem=StemSpec(channels=20, kernel=5), head=head, padding=padding, classes=5,
        activation=activation, resolution_px=PX,
    )  # fmt: skip
    model = with_random_norms(build(spec)).double()
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    program = TorchProgram(inference_graph(spec, weights=weights)).double()
    batch = torch.from_numpy(images(2)).double()
    with torch.inference_mode():
        expected, found = model(batch).numpy(), program(batch).numpy()
    # Folded weights are rounded to float32, whose epsilon is 1.2e-7.
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def test_mish_is_finite_where_its_terms_overflow_or_vanish() -> None:
    from nas.exporters.torch_program import ACTIVATIONS_TORCH

    values = torch.tensor([-200.0, -30, -5, 0, 1, 19, 21, 200])
    expected = torch.nn.functional.mish(values.double())
    torch.testing.assert_close(ACTIVATIONS_TORCH["mish"](values).double(), expected, rtol=1e-6, atol=1e-6)


class NoNas(MetaPathFinder):
    """Refuses this project's modules."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname.partition(".")[0] == "nas":
            raise AssertionError(f"{fullname} is imported")


def test_a_file_of_torch_export_needs_torch_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = inference_graph(TINY, batch=2, provenance={"class_names": ["a", "b", "c"]})
    expected = numpy_run(graph)(images(2))
    (path,) = write_model(graph, tmp_path / "tiny.pt2")
    np.testing.assert_allclose(open_model(path)(images(2)), expected, atol=1e-5)
    for name in [name for name in sys.modules if name.partition(".")[0] == "nas"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NoNas(), *sys.meta_path])
    facts = {"class_names": ""}
    program = torch.export.load(path, extra_files=facts)
    assert facts == {"class_names": '["a", "b", "c"]'}
    np.testing.assert_allclose(program.module()(torch.from_numpy(images(2))).numpy(), expected, atol=1e-5)


class Trap:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("code of a file was run",))


def repacked(content: bytes, changes: dict[str, bytes]) -> bytes:
    """A zip archive with some members replaced or added, by the end of their names."""
    stream, left = io.BytesIO(), dict(changes)
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(stream, "w") as after:
        for member in before.infolist():
            end = next((end for end in changes if member.filename.endswith(end)), None)
            after.writestr(member.filename, before.read(member) if end is None else left.pop(end))
        for name, data in left.items():
            after.writestr(f"archive/data/constants/{name}", data)
    return stream.getvalue()


def test_files_that_could_run_code_are_refused(tmp_path: Path) -> None:
    (path,) = write_model(inference_graph(TINY), tmp_path / "tiny.pt2")
    content, trap = path.read_bytes(), io.BytesIO()
    torch.save({"x": Trap()}, trap)
    pickled = b'{"config": {"a": {"path_name": "weight_0", "is_param": true, "use_pickle": true, "tensor_meta": null}}}'
    for changes in (
        {"sample_inputs/model.pt": trap.getvalue()},
        {"sample_inputs/model.pt": pickle.dumps(Trap())},
        {"model_weights_config.json": pickled},
        {"model_constants_config.json": pickled},
        {"opaque_obj_0": pickle.dumps(Trap())},
        {"custom_obj_0": b""},
        {"other.pt": trap.getvalue()},
    ):
        path.write_bytes(repacked(content, changes))
        with pytest.raises(NasError, match=r"tiny\.pt2: holds Python objects, which are never loaded"):
            open_model(path)
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/bomb.pt", bytes(50 * len(content)))
    path.write_bytes(stream.getvalue())
    with pytest.raises(NasError, match=r"tiny\.pt2: archive/bomb\.pt is compressed"):
        open_model(path)
    for broken in (b"", content[:1000], b"PK\3\4", pickle.dumps(Trap())):
        path.write_bytes(broken)
        with pytest.raises(NasError, match=r"tiny\.pt2: torch\.export cannot open it"):
            open_model(path)
    with pytest.raises(NasError, match=r"none\.pt2: cannot be read: No such file"):
        open_model(tmp_path / "none.pt2")


needs_executorch = pytest.mark.skipif(not is_installed("executorch"), reason="needs pip install 'nas[executorch]'")


@needs_executorch
def test_executorch_gives_a_whole_network_to_xnnpack() -> None:
    """One delegate, and nothing outside of it: no split, attention or activation ends it."""
    from nas.exporters.executorch.session import executorch_run, lowered, serialized

    spec = ArchSpec.from_strings(
        "odd", DELEGATED, stem=StemSpec(channels=8, kernel=5), head=HeadSpec(channels=8, kind="pool_conv"),
        padding="same", classes=5, activation="gelu", resolution_px=PX, squeeze_excite=MOBILENET_V3_SE,
    )  # fmt: skip
    graph = inference_graph(spec)
    edge = lowered(graph)
    calls = [str(node.target) for node in edge.exported_program().graph.nodes if node.op == "call_function"]
    assert sum("executorch_call_delegate" in call for call in calls) == 1
    assert [call for call in calls if "delegate" not in call and "getitem" not in call] == []
    expected = numpy_run(graph)(images())
    found = executorch_run(serialized(edge), "odd")(images())
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


@needs_executorch
def test_executorch_files_outlive_their_content_and_look_at_strides(tmp_path: Path) -> None:
    from nas.exporters.executorch import session

    graph = inference_graph(TINY)
    (path,) = session.write_model(graph, tmp_path / "tiny.pte")
    run = session.open_model(path)
    path.unlink()
    strided = images().transpose(0, 3, 2, 1).copy().transpose(0, 3, 2, 1)
    assert not strided.flags.c_contiguous
    np.testing.assert_allclose(run(strided), numpy_run(graph)(images()), atol=1e-5)
    for content, message in ((b"", "is no ExecuTorch program"), (b"xxxxET12xx", "ExecuTorch cannot open it")):
        path.write_bytes(content)
        with pytest.raises(NasError, match=message):
            session.open_model(path)
    with pytest.raises(NasError, match="cannot be read: No such file"):
        session.open_model(tmp_path / "none.pte")
