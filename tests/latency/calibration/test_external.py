"""Tests of CSV files of measured networks, and of mistakes in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas.arch import zoo
from nas.arch.files import dump_spec
from nas.arch.parts import MOBILENET_V3_SE, HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.latency.calibration.external import fit_measurements, read_measurements
from nas.latency.predictors.macs import MacsPredictor
from nas.latency.random_networks import random_specs
from tests.latency.synthetic_device import true_ms

HEADER = "# device: Pixel 6, big core\n# backend: tflite 2.16\n# threads: 1\n# batch: 1\n# unit: ms\n"


def write_csv(folder: Path, rows: str, *, header: str = HEADER, columns: str = "network,latency_ms") -> Path:
    path = folder / "phone.csv"
    path.write_text(f"{header}{columns}\n{rows}", encoding="utf-8")
    return path


def test_the_header_names_the_device(tmp_path: Path) -> None:
    header = HEADER + "# precision: int8\n# cores: 8\n#\n# measured on a Tuesday\n"
    device = read_measurements(write_csv(tmp_path, "mixnet_s,20\n", header=header)).device
    assert (device.processor, device.backend, device.backend_version) == ("Pixel 6, big core", "tflite", "2.16")
    assert (device.threads, device.batch, device.precision, device.cores) == (1, 1, "int8", 8)
    for part in ("Pixel 6, big core", "tflite 2.16", "int8"):
        assert part in str(device)


def test_networks_in_every_notation(tmp_path: Path) -> None:
    own = replace(random_specs(1, seed=0)[0], name="own")
    (tmp_path / "own.yaml").write_text(dump_spec(own), encoding="utf-8")
    rows = (
        "mixnet_s,20,,,,,,,\n"
        "mixnet_s,10,160,,,,,,\n"
        "# a comment, and an empty line\n\n"
        "own.yaml,5.5,,,,,,,\n"
        "ds_r1_k3_s1_c16+ir_r2_k3_s1_e6_c24|ir_r1_k5_s2_e6_c40_se0.25_nsw,3e1,96,16,640,pool_conv,hard_swish,mobilenet_v3,10\n"
        "ds_r1_k3_s1_c16 ds_r1_k3_s1_c8 | ir_r2_k3_s2_e6_c24,7,,,,,,,\n"
    )
    columns = "network,latency_ms,resolution_px,stem_channels,head_channels,head_kind,activation,squeeze_excite,classes"
    networks = read_measurements(write_csv(tmp_path, rows, columns=columns)).networks
    assert [ms for _, ms in networks] == [20.0, 10.0, 5.5, 30.0, 7.0]
    specs = [spec for spec, _ in networks]
    assert specs[0] == zoo.get("mixnet_s")
    assert specs[1] == replace(zoo.get("mixnet_s"), resolution_px=160)
    assert specs[2] == own
    by_hand = ArchSpec.from_strings(
        specs[3].name,
        [["ds_r1_k3_s1_c16", "ir_r2_k3_s1_e6_c24"], ["ir_r1_k5_s2_e6_c40_se0.25_nsw"]],
        stem=StemSpec(channels=16),
        head=HeadSpec(channels=640, kind="pool_conv"),
        resolution_px=96,
        activation="hard_swish",
        squeeze_excite=MOBILENET_V3_SE,
        classes=10,
    )
    assert specs[3] == by_hand
    assert [len(stage.blocks) for stage in specs[4].stages] == [2, 1]
    assert (specs[4].stem, specs[4].head, specs[4].classes) == (StemSpec(channels=32), HeadSpec(channels=1280), 1000)


def test_networks_of_timm(tmp_path: Path) -> None:
    from nas.model.timm_import.network import timm_arch

    ((spec, _),) = read_measurements(write_csv(tmp_path, "timm/lcnet_050,3\n")).networks
    assert spec == timm_arch("lcnet_050")
    with pytest.raises(NasError, match=r"line 7: .*timm/resnet18"):
        read_measurements(write_csv(tmp_path, "timm/resnet18,3\n"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("mixnet_s,\n", r"phone\.csv, line 7: latency_ms is missing"),
        ("mixnet_s\n", r"line 7: latency_ms is missing"),
        ("mixnet_s,1\nmixnet_m,0\n", r"line 8: latency_ms '0': must be a positive number of ms"),
        ("mixnet_s,-3\n", r"line 7: latency_ms '-3'"),
        ("mixnet_s,nan\n", r"line 7: latency_ms 'nan'"),
        ("mixnet_s,12 s\n", r"line 7: latency_ms '12 s'"),
        ("mixnet_s,1,2\n", r"line 7: 3 cells for 2 columns"),
        (",1\n", r"line 7: network is missing"),
        ("mixnet_q,1\n", r"line 7: network 'mixnet_q'.*Did you mean 'mixnet_.'"),
        ("missing.yaml,1\n", r"line 7: cannot read spec file .*missing\.yaml"),
        ("ir_r1_k3_s2_e6,1\n", r"line 7: block .*'c' is missing"),
        ("mixnet_s,1\n\nmixnet_s,2\n", r"line 9: mixnet_s at 224 px takes 2 ms, but is listed in line 7"),
        ("mixnet_s,1\nmixnet_s,1\n", r"line 8: mixnet_s at 224 px takes 1 ms, but is listed in line 7 too"),
        ("mixnet_s,1e10\n", r"line 7: latency_ms '1e10': must be at least 1e-09 and at most 1e\+09 ms"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(NasError, match=message):
        read_measurements(write_csv(tmp_path, rows))


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        (HEADER.replace("unit: ms", "unit: s"), "network,latency_ms", r"line 5: unit 's': latencies must be in ms"),
        (HEADER.replace("# device: Pixel 6, big core\n", ""), "network,latency_ms", r"'# device: \.\.\.' is missing"),
        (HEADER.replace("# backend: tflite 2.16\n", ""), "network,latency_ms", r"'# backend: \.\.\.' is missing"),
        (HEADER.replace("threads: 1", "threads: all"), "network,latency_ms", r"threads 'all': must be a whole number"),
        (HEADER + "# bach: 1\n", "network,latency_ms", r"line 6: unknown header 'bach'.*Did you mean 'batch'"),
        (HEADER, "network,latency", r"line 6: unknown column 'latency'.*Did you mean 'latency_ms'"),
        (HEADER, "network,latency_ms,latency_ms", r"line 6: column 'latency_ms' is given twice"),
        (HEADER, "latency_ms", r"line 6: column 'network' is missing"),
    ],
)
def test_headers_and_columns_are_strict(tmp_path: Path, header: str, columns: str, message: str) -> None:
    with pytest.raises(NasError, match=message):
        read_measurements(write_csv(tmp_path, "mixnet_s,1\n", header=header, columns=columns))


def test_columns_of_block_strings_do_not_change_other_networks(tmp_path: Path) -> None:
    with pytest.raises(NasError, match=r"line 7: classes is for networks given as block strings"):
        read_measurements(write_csv(tmp_path, "mixnet_s,1,10\n", columns="network,latency_ms,classes"))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NasError, match=r"cannot read .*none\.csv"):
        read_measurements(tmp_path / "none.csv")
    empty = tmp_path / "empty.csv"
    empty.write_text(HEADER, encoding="utf-8")
    with pytest.raises(NasError, match="contains no rows"):
        read_measurements(empty)


def test_a_predictor_from_a_file_alone_or_with_a_relative(tmp_path: Path, few_starts: None) -> None:
    specs = random_specs(14, seed=3)
    for spec in specs:
        (tmp_path / f"{spec.name}.yaml").write_text(dump_spec(spec), encoding="utf-8")
    rows = "".join(f"{spec.name}.yaml,{true_ms(spec)}\n" for spec in specs[:12])
    calls: list[tuple[int, int]] = []
    for bases in ([], [MacsPredictor(20.0)]):
        fitted = fit_measurements(
            write_csv(tmp_path, rows), bases=bases, progress=lambda done, total: calls.append((done, total))
        )
        assert fitted.device.processor == "Pixel 6, big core"
        assert fitted.error.networks == 12
        assert fitted.predict(specs[13]).latency_ms == pytest.approx(true_ms(specs[13]), rel=0.5)
    assert calls[-1] == (33, 33)  # ten folds and the final fit, three priors each
    with pytest.raises(NasError, match=r"phone\.csv: 2 measured networks are too few"):
        fit_measurements(write_csv(tmp_path, rows[: rows.index("\n", rows.index("\n") + 1) + 1]))
