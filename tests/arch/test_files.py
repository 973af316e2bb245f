"""Spec files: round trips in both styles, and errors that name file and field."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from nas.arch import zoo
from nas.arch.files import SPEC_FORMAT, dump_scaled_spec, dump_spec, load_spec, load_spec_file, parse_spec
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.scaling.rounding_rules import RoundingRules
from nas.arch.scaling.transform import PUBLISHED_EFFICIENTNET, Compound, Scaling, published_coefficients, scale
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, SpecError
from nas.core.files import write_text_atomically

PROVENANCE = {
    "space": "mixnet",
    "study": "größer",
    "trial": 17,
    "seed": 0,
    "versions": {"timm": "1.0.31"},
    "latency_ms": {"predicted": 12.5, "measured": 12.75, "spread": [12.5, 13.0]},
}
SCALINGS = {
    "none": Scaling(),
    "b3": published_coefficients(PUBLISHED_EFFICIENTNET, "b3"),
    "formula": RoundingRules().scaling(Compound().factors(1.5), 224),
    "every rule": Scaling(
        width=0.4,
        depth=1.7,
        resolution_px=96,
        dropout=0.1,
        drop_path=0.05,
        divisor=4,
        depth_rule="round",
        stem="fixed",
        head="grow",
        fixed_ends=True,
    ),
}


@pytest.mark.parametrize("name", zoo.names())
def test_block_strings_round_trip(name: str) -> None:
    spec = zoo.get(name)
    loaded = parse_spec(dump_spec(spec))
    assert loaded.arch == spec and loaded.provenance == {}


@pytest.mark.parametrize("scaling", SCALINGS.values(), ids=list(SCALINGS))
@pytest.mark.parametrize("name", ["efficientnet_b0", "mixnet_s", "mobilenetv3_small_100", "mobilenetv1_100"])
def test_scaled_style_round_trips(name: str, scaling: Scaling) -> None:
    base = zoo.get(name)
    assert parse_spec(dump_scaled_spec(base, scaling, PROVENANCE)).arch == scale(base, scaling)


@pytest.mark.parametrize("name", zoo.names())
def test_block_arguments_round_trip(name: str) -> None:
    """Networks of the truncating rule, without their coefficients.

    Coefficients scale and so round channels, which these networks are not.
    """
    data = yaml.safe_load(dump_scaled_spec(zoo.get(name), Scaling()))
    del data["coefficients"]
    assert parse_spec(yaml.safe_dump(data)).arch == zoo.get(name)


def test_this_projects_options_round_trip_in_both_styles() -> None:
    spec = ArchSpec.from_strings(
        "own",
        [
            ["ir_r2_k3.5.7_a1.1_p1.1_s2_e2.3_c24_se0.25_nsw_noskip_exponential_dilated", "cn_r1_k1_s1_c32_skip"],
            ["er_r1_k3_s1_e4_c24_fc16_unknownskip", "cn_r1_k1_s1_c32_unknownskip"],
        ],
        stem=StemSpec(channels=16, kernel=5, stride=1),
        head=HeadSpec(channels=64, kind="pool_conv"),
        in_channels=1,
        classes=10,
        padding="same",
    )
    assert parse_spec(dump_spec(spec)).arch == spec
    assert parse_spec(dump_scaled_spec(spec, Scaling())).arch == spec


def test_provenance_is_kept(tmp_path: Path) -> None:
    text = dump_spec(zoo.get("mixnet_s"), PROVENANCE)
    path = tmp_path / "new" / "winner.yaml"
    write_text_atomically(path, text)
    loaded = load_spec_file(path)
    assert (loaded.arch, loaded.provenance) == (zoo.get("mixnet_s"), PROVENANCE)
    assert load_spec(str(path)) == zoo.get("mixnet_s")
    assert text.startswith(f"format: {SPEC_FORMAT}\n") and "größer" in path.read_text(encoding="utf-8")


def test_writing_leaves_no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spec.yaml"
    write_text_atomically(path, "first")
    write_text_atomically(path, "second")
    assert [entry.name for entry in tmp_path.iterdir()] == ["spec.yaml"]

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_text_atomically(path, "third")
    assert [entry.name for entry in tmp_path.iterdir()] == ["spec.yaml"]
    assert path.read_text(encoding="utf-8") == "second"


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spec.yaml"
    write_text_atomically(path, "first")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        NasError, match=r"^cannot write '.*spec\.yaml': No space left on device; free some disk space .*\.$"
    ):
        write_text_atomically(path, "second")
    assert [entry.name for entry in tmp_path.iterdir()] == ["spec.yaml"]
    assert path.read_text(encoding="utf-8") == "first"


def test_files_have_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    write_text_atomically(tmp_path / "spec.yaml", "text")
    assert (tmp_path / "spec.yaml").stat().st_mode == (tmp_path / "any").stat().st_mode


@pytest.mark.parametrize("folder", ["a_file", "a_file/below"])
def test_a_folder_that_cannot_be_created(folder: str, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("", encoding="utf-8")
    with pytest.raises(NasError, match=r"cannot write .*out\.yaml.*; choose a writable folder") as caught:
        write_text_atomically(tmp_path / folder / "out.yaml", "text")
    assert "\n" not in str(caught.value)


Edit = Callable[[dict[str, Any]], object]
MISTAKES: dict[str, tuple[Edit, str]] = {
    "format": (lambda data: data.update(format="nas.arch/9"), "format 'nas.arch/9': a spec file begins with 'format: "),
    "no format": (lambda data: data.pop("format"), "format null"),
    "unknown field": (
        lambda data: data.update(clases=10),
        "clases: unknown field; choose from .*Did you mean 'classes'",
    ),
    "missing field": (lambda data: data.pop("head"), "head: missing; give it a value"),
    "missing in a part": (lambda data: data["stem"].pop("channels"), r"stem\.channels: missing"),
    "unknown in a part": (lambda data: data["norm"].update(epss=1), r"norm\.epss: unknown field.*Did you mean 'eps'"),
    "part of another type": (lambda data: data.update(stem=32), "stem: must be a mapping, not 32"),
    "word for a number": (lambda data: data.update(classes="ten"), "classes: 'ten' is not a whole number"),
    "switch for a number": (lambda data: data["stem"].update(channels=True), r"stem\.channels: true is not a whole"),
    "fraction": (lambda data: data.update(resolution_px=22.5), r"resolution_px: 22\.5 is not a whole number"),
    "number for a string": (lambda data: data.update(name=5), "name: 5 is not a string"),
    "bad value": (lambda data: data.update(padding="valid"), "unknown padding 'valid': choose from symmetric, same"),
    "bad kind of head": (
        lambda data: data["head"].update(kind="yolo", tap="output"),
        "yaml: head kind 'yolo': must be ",
    ),
    "bad value in a part": (lambda data: data["head"].update(kind="conv"), "yaml: head kind 'conv'"),
    "stages": (lambda data: data.update(stages="ds"), "stages: must be a list of stages"),
    "empty stage": (lambda data: data["stages"].append([]), r"stages\[6\]: a stage needs at least one block"),
    "bad string": (
        lambda data: data["stages"][2].append("ir_r1_k3_s1_e6_c40_foo"),
        r"stages\[2\]: block 'ir_r1_k3_s1_e6_c40_foo': unknown option 'foo'",
    ),
    "mixed styles": (lambda data: data["stages"][1].append({"type": "ds"}), r"stages\[1\]: blocks\[0\]: mixes block"),
    "block argument": (
        lambda data: data.update(stages=[[{"type": "ds", "channels": 8, "kernel": 3}]]),
        r"stages\[0\]: blocks\[0\]\.kernel: unknown field.*Did you mean 'kernels'",
    ),
    "ill-typed argument": (
        lambda data: data.update(stages=[[{"type": "ds", "channels": "8"}]]),
        r"stages\[0\]: blocks\[0\]\.channels: '8' is not",
    ),
    "bad argument": (
        lambda data: data.update(stages=[[{"type": "ds", "channels": 8, "kernels": "k4"}]]),
        r"stages\[0\]: blocks\[0\]\.kernels \(4,\): must be odd",
    ),
    "impossible split": (
        lambda data: data["stages"].append(["ds_r1_k3.5_s1_c1", "ds_r1_k3.5_s1_c8"]),
        r"blocks\.6\.1 .*1 channels cannot be split 2 ways",
    ),
    "coefficient": (lambda data: data.update(coefficients={"width": "wide"}), r"coefficients\.width: 'wide' is not"),
    "optional coefficient": (
        lambda data: data.update(coefficients={"resolution_px": "big"}),
        r"coefficients\.resolution_px: 'big' is not a whole number or null",
    ),
    "value of a coefficient": (lambda data: data.update(coefficients={"depth": 0}), r"coefficients\.depth 0: a multip"),
    "rule": (lambda data: data.update(coefficients={"stem": "keep"}), "coefficients: unknown stem 'keep': choose from"),
    "provenance": (lambda data: data.update(provenance="me"), "provenance: must be a mapping"),
}


@pytest.mark.parametrize(("edit", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_errors_name_file_and_field(edit: Edit, message: str, tmp_path: Path) -> None:
    data = yaml.safe_load(dump_spec(zoo.get("mixnet_s")))
    edit(data)
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(SpecError, match=message) as caught:
        load_spec(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"format: [", "broken.yaml: not valid YAML: .*line 1"),
        (b"- a\n- b\n", "broken.yaml: format null"),
        (b"", "broken.yaml: format null"),
        (b"\xff\xfe\xff", "cannot read spec file .*broken.yaml.*: not a text file"),
        (b"!!python/object/apply:os.getcwd []", "broken.yaml: not valid YAML: .*could not determine a constructor"),
    ],
)
def test_files_that_are_not_specs(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=message) as caught:
        load_spec(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "again", "message"),
    [
        ("classes: 1000\n", "classes: 10\n", r"spec\.yaml: classes: duplicate key, again on line \d+; keep one"),
        ("channels: 16", "channels: 16, channels: 24", "channels: duplicate key"),
    ],
)
def test_duplicate_keys(line: str, again: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    text = dump_spec(zoo.get("mixnet_s"))
    assert line in text
    path.write_text(text.replace(line, again if line in again else line + again, 1), encoding="utf-8")
    with pytest.raises(SpecError, match=message) as caught:
        load_spec(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [Path("x"), 1j, object], ids=["path", "complex", "class"])
def test_provenance_is_plain_data(value: object) -> None:
    with pytest.raises(SpecError, match=r"provenance: .*; use numbers, strings, lists and mappings alone"):
        dump_spec(zoo.get("mixnet_s"), {"study": {"folder": [value]}})


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot read spec file .*none\.yaml.*: No such file"):
        load_spec(tmp_path / "none.yaml")
