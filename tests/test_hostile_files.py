"""Broken and hostile files: every reader answers in one line that names the place, in little time and memory."""

from __future__ import annotations

import base64
import json
import math
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.files import dump_scaled_spec, dump_spec, parse_spec
from nas.arch.scaling.transform import Scaling
from nas.cli.hydra_config import compose_config
from nas.cli.resolve.spaces import make_space
from nas.core.errors import NasError
from nas.data.dense import DenseDataSettings, load_detection_data, read_dense_description
from nas.data.dense.description import DENSE_DATASET_FILE
from nas.latency.bench.results import read_bench
from nas.latency.calibration.collect import Collector
from nas.latency.calibration.external import read_measurements
from nas.latency.kernels.kernel import FEATURES
from nas.latency.predictors.block_pieces import pieces
from nas.latency.predictors.block_table import read_table
from nas.latency.predictors.queue_law import NAMES
from nas.latency.store import CALIBRATION_FORMAT, read_predictor
from nas.methods import SEARCH, kind_of
from nas.methods.search.settings import StudySettings
from nas.methods.search.trials.evaluated_file import read_evaluated_file
from nas.study.config import RecordSettings
from nas.study.manifest import read_manifest
from nas.study.storage.opening import check_folder
from tests.data.dense.builders import coco_json, voc_xml, write_image
from tests.latency.synthetic_device import DEVICE as CHUNKS_DEVICE
from tests.paths import REFERENCE
from tests.study.fakes import mobilenet_v1

LIMIT_S: Final = 2.0
STUDY: Final = REFERENCE / "studies_0.1" / "runs" / "search"
HEADER: Final = "# device: Pixel 4\n# backend: tflite 2.16\n"
NETWORK: Final = zoo.get("mobilenetv3_small_100")
SPACE: Final = mobilenet_v1()
DEVICE: Final = {
    "processor": "x", "cores": 4, "backend": "onnxruntime", "backend_version": "1", "threads": 1, "batch": 1,
    "precision": "float32", "os": "linux",
}  # fmt: skip
CHECKS: Final = [
    {"name": f"n{ms}", "measured_ms": ms, "predicted_ms": ms * 1.1, "measurements": 1 + ms % 2}
    for ms in (1, 2, 4, 8)
]  # fmt: skip
CHUNK: Final = {
    "networks": ["mixnet_s", 3], "latencies_ms": [5.0, None], "kernels_us": [None, [4.0, 2.0]], "probe_ms": 0.15,
    "probes_ms": [0.15, 0.16], "spent_s": 1.0, "others": 0.5,
}  # fmt: skip
TREE: Final = """0
num_leaves=2
num_cat=0
split_feature=1
threshold=0.5
decision_type=2
left_child=-1
right_child=-2
leaf_value=0.1 -0.1
is_linear=0
shrinkage=1

"""


def trees(body: str = TREE, features: int = len(FEATURES)) -> str:
    """A model of one tree in LightGBM's text, packed as in a calibration."""
    head = f"tree\nnum_tree_per_iteration=1\nmax_feature_idx={features - 1}\ntree_sizes={len(body) + 6}\n"
    return packed(f"{head}\nTree={body}\nend of trees\n")


def packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode())).decode()


PREDICTORS: Final[dict[str, dict[str, Any]]] = {
    "kernels": {
        "factors": {"dense": 1.0}, "checks": CHECKS, "spent_s": 10.0, "others": 0.5, "noise": 0.01,
        "speed": {"typical_ms": 0.15, "fast_ms": 0.14, "slow_ms": 0.2},
        "times": {"lane": 8, "laws": {"any": [1.0, 1.0, 1.0, 1.0]}, "trees": {"dense": trees()}},
    },
    "macs": {"ms_per_gmac": 30.0},
    "prices": {"lane": 8, "scale": 1.0, "prices": {"dense.macs": 0.01}, "checks": CHECKS},
    "whole": {"prices": dict.fromkeys(NAMES, 0.01), "spread": dict.fromkeys(NAMES, 0.5), "checks": CHECKS},
    "table": {
        "rows": [
            {
                "block": piece.block, "in_channels": piece.in_channels, "input_px": piece.input_px, "latency_ms": 1.5,
                "activation": piece.activation,
                "squeeze_excite": {"relative_to": "input", "divisor": 1, "activation": None, "gate": "sigmoid"},
            }
            for _, piece in pieces(zoo.get("mobilenetv1_025"))
        ]
    },
}  # fmt: skip


def calibration(kind: str) -> dict[str, Any]:
    return deepcopy({"format": CALIBRATION_FORMAT, "kind": kind, "device": DEVICE, **PREDICTORS[kind]})


def put(data: Any, path: str, value: Any) -> Any:
    """``data`` with ``value`` at a dotted path."""
    data = deepcopy(data)
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place = data
    for key in parents:
        place = place[key]
    place[last] = value
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def use_predictor(folder: Path, text: str) -> None:
    path = folder / "latency.json"
    path.write_text(text, encoding="utf-8")
    predictor = read_predictor(path)
    predictor.predict(NETWORK if predictor.kind != "table" else zoo.get("mobilenetv1_025"))


def use_spec(folder: Path, text: str) -> None:
    complexity(parse_spec(text).arch)


def use_table(folder: Path, text: str) -> None:
    path = folder / "blocks.csv"
    path.write_text(text, encoding="utf-8")
    read_table(path)


def use_measurements(folder: Path, text: str) -> None:
    path = folder / "networks.csv"
    path.write_text(text, encoding="utf-8")
    read_measurements(path)


def use_evaluated(folder: Path, text: str) -> None:
    path = folder / "evaluated.csv"
    path.write_text(text, encoding="utf-8")
    read_evaluated_file(path, SPACE)


def use_config(folder: Path, text: str) -> None:
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    manifest = read_manifest(folder)
    kind = kind_of(manifest.settings, "search")
    if kind is SEARCH:
        _ = kind.plan_of(manifest, folder, make_space, runs_dir=folder, command="").name


def use_owner(folder: Path, text: str) -> None:
    (folder / "study.json").write_text(text, encoding="utf-8")
    check_folder(folder, "sqlite:///runs/optuna.db", {})


def use_bench(folder: Path, text: str) -> None:
    path = folder / "results.json"
    path.write_text(text, encoding="utf-8")
    read_bench(path)


def boxed(folder: Path, layout: str) -> Path:
    """Root of two images, ``images/train/a.png`` and ``images/val/b.png``, made once; ``b`` has a valid label."""
    root = folder / layout
    if not root.is_dir():
        for seed, (split, name) in enumerate((("train", "a"), ("val", "b"))):
            write_image(root / "images" / split / f"{name}.png", seed=seed)
            (root / "labels" / split).mkdir(parents=True)
        (root / "labels" / "val" / "b.xml").write_text(voc_xml(VOC_ROWS), encoding="utf-8")
        (root / "labels" / "val" / "b.txt").write_text("0 0.5 0.5 0.5 0.5", encoding="utf-8")
    return root


def load_boxes(root: Path, layout: str, **splits: str) -> None:
    """Read a data set, and once more repaired if it is refused."""
    data = DenseDataSettings(root=str(root), layout=layout, **splits)
    try:
        load_detection_data(data)
    except NasError:
        load_detection_data(replace(data, repair=True))


def use_voc(folder: Path, text: str) -> None:
    root = boxed(folder, "voc")
    (root / "labels" / "train" / "a.xml").write_text(text, encoding="utf-8")
    load_boxes(root, "voc")


def use_yolo(folder: Path, text: str) -> None:
    root = boxed(folder, "yolo")
    (root / "labels" / "train" / "a.txt").write_text(text, encoding="utf-8")
    load_boxes(root, "yolo")


def use_data_yaml(folder: Path, text: str) -> None:
    root = boxed(folder, "yaml")
    (root / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.5 0.5", encoding="utf-8")
    (root / "data.yaml").write_text(text, encoding="utf-8")
    load_boxes(root, "yolo")


def use_coco(folder: Path, text: str) -> None:
    root = boxed(folder, "coco")
    (root / "train.json").write_text(text, encoding="utf-8")
    load_boxes(root, "coco", train="train.json", val="train.json")


def use_dense_description(folder: Path, text: str) -> None:
    (folder / DENSE_DATASET_FILE).write_text(text, encoding="utf-8")
    description = read_dense_description(folder)
    assert description is not None
    _ = (description.lines, description.warnings, description.box_size_text)


VOC_ROWS: Final = [("cat", 1, 1, 20, 15), ("dog", 5, 5, 30, 25)]
DESCRIPTION: Final = {
    "format": "nas.dense_dataset/1", "task": "detection", "layout": "voc", "path": "/data", "train_place": "train",
    "val_place": "", "found": 3, "train": 2, "val": 1, "train_empty": 1, "val_empty": 0, "box_sizes": [1, 1, 0],
    "ignored": 1, "void": 0.0, "sizes": ["40x30", "40x30", "80x60"], "left_out": {"hidden": 1},
    "notices": ["one box is left out"], "digest": "0123456789abcdef",
    "classes": [{"name": "cat", "train": 2, "val": 1, "train_images": 1, "val_images": 1}],
}  # fmt: skip
BENCH: Final = {
    "format": "nas.bench/1",
    "networks": [
        {
            "key": "k", "name": "x", "given": "x", "arch_id": "a", "resolution_px": 32, "weights": "", "probe_ms": 0.2,
            "other_cores": None, "ratio_errors": [[0.0]], "remarks": [],
            "rows": [
                {
                    "runtime": "onnxruntime", "precision": "int8", "rewrite": "none", "device": DEVICE,
                    "latency_ms": 1.5, "error_ms": 0.1, "spread_ms": 0.1, "runs": 20, "size_bytes": 100,
                    "accuracy": {"correct": 3, "images": 4, "lost": 1, "gained": 0}, "float_layers": ["conv_stem"],
                }
            ],
        }
    ],
}  # fmt: skip
SPEC: Final = yaml.safe_load(dump_spec(NETWORK, {"trial": 3, "latency_ms": {"measured": 1.5}}))
SCALED: Final = yaml.safe_load(dump_scaled_spec(zoo.get("mixnet_s"), Scaling(width=1.1, depth=1.2)))
CONFIG: Final = yaml.safe_load((STUDY / "config.yaml").read_text(encoding="utf-8"))
OWNER: Final = json.loads((STUDY / "study.json").read_text(encoding="utf-8"))
ROWS: Final = (
    "block,in_channels,input_px,latency_ms\nir_r1_k3_s2_e6_c24,16,112,1.5\nhead_conv_pool_c1280_o1000,320,7,0.5\n"
)
EVALUATED: Final = (
    "width,resolution_px,spec,blocks,accuracy,standard_error,source\n1.0,224,,,0.709,0.001,ImageNet\n"
    ",,mobilenetv1_050,,0.633,,\n"
    ",128,,dsa_r1_k3_s1_c16; dsa_r2_k3_s2_c32; dsa_r2_k3_s2_c64; dsa_r6_k3_s2_c128; dsa_r2_k3_s2_c256,0.415,,\n"
)
NETWORKS: Final = "network,latency_ms,resolution_px\nmixnet_s,20.5,224\nds_r2_k3_s1_c16|ir_r1_k5_s2_e6_c24,3.5,96\n"
Read = Callable[[Path, str], None]
FILES: Final[dict[str, tuple[Any, Callable[[Any], str], Read]]] = {
    "spec": (SPEC, yaml.safe_dump, use_spec),
    "scaled spec": (SCALED, yaml.safe_dump, use_spec),
    "config": (CONFIG, yaml.safe_dump, use_config),
    "study.json": (OWNER, json.dumps, use_owner),
    "block table": (HEADER + ROWS, str, use_table),
    "measurements": (HEADER + NETWORKS, str, use_measurements),
    "evaluated": (EVALUATED, str, use_evaluated),
    "bench": (BENCH, json.dumps, use_bench),
    "voc": (voc_xml(VOC_ROWS), str, use_voc),
    "yolo": ("0 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.4 0.1 0.2 0.3\n", str, use_yolo),
    "data.yaml": ({"train": "images/train", "val": "images/val", "names": ["cat"]}, yaml.safe_dump, use_data_yaml),
    "coco": (
        json.loads(coco_json([(1, "a.png")], [(1, 7, [1, 2, 3, 4]), (1, 9, [5, 6, 7, 8])], {7: "cat", 9: "dog"})),
        json.dumps,
        use_coco,
    ),
    "dense description": (DESCRIPTION, json.dumps, use_dense_description),
    **{kind: (calibration(kind), json.dumps, use_predictor) for kind in PREDICTORS},
}
REFUSED: Final = [
    ("spec", put(SPEC, "classes", 10**30), "classes 10+: must be at most 10000000"),
    ("spec", put(SPEC, "in_channels", 10**30), "in_channels 10+: must be at most 1000000"),
    ("spec", put(SPEC, "norm.eps", math.inf), r"norm: NormSpec\(eps=inf"),
    ("spec", put(SPEC, "name", "x" * 300), r"name 'x+\.\.\. \(302 characters\): must have at most 160"),
    ("spec", put(SPEC, "stages.0.0", "ir_r999999999_k3_s1_e6_c24"), "repeats 999999999: must be at most 4096"),
    ("spec", put(SPEC, "stages.0.0", "ir_r9999999999_k3_s1_e6_c24"), "stages.0.: .*whole number of at most 9 digits"),
    ("spec", put(SPEC, "stages.0.0", "ir_r1_k3_s1_e1e999_c24"), "expansion inf: must be a positive number, at most"),
    ("spec", put(SPEC, "stages.0.0", f"ir_r1_k{'3.' * 99}3_s1_e6_c24"), "100 sides; at most 64 are allowed"),
    ("spec", put(SPEC, "stages.0.0", f"ir_r1_k{'3' * 50}_s1_e6_c24"), "must be whole numbers joined by dots"),
    ("spec", put(SPEC, "stages.0.0", "ir_" * 9999), "block '(ir_)+.*\\.\\.\\.': has more than 300 characters"),
    ("spec", put(SPEC, "stages", [["ir_r4096_k3_s1_e6_c16"]] * 2), "8,192 blocks with all repeats; a network has"),
    ("spec", put(SPEC, "stages", [["x"] * 5000]), "stages: 5,000 blocks; a network has at most 4,096"),
    ("spec", put(SPEC, "provenance.deep", json.loads("[" * 60 + "]" * 60)), "line .*: more than 50 levels of nesting"),
    ("scaled spec", put(SCALED, "coefficients.width", 1e308), "coefficients.width 1e.308: a multiplier must be"),
    ("scaled spec", put(SCALED, "coefficients.depth", 1e6), "coefficients.depth 1000000.0: a multiplier must be"),
    ("scaled spec", put(SCALED, "coefficients.depth", 4000.0), "coefficients: .*must be at most 4096"),
    ("config", put(CONFIG, "study.n_trials", 10**20), "study.n_trials 10+: must be a whole number"),
    ("config", put(CONFIG, "space.width", 1e308), "space.width 1e.308: a multiplier must be"),
    ("config", put(CONFIG, "space.width", [1.0, 4096.0]), "contains networks that are too large, such as"),
    ("config", put(CONFIG, "space.stages.0.repeats", 10**9), "repeats 10+: .*must be at most 4096"),
    ("config", put(CONFIG, "space._target_", "os.getpid"), "space._target_ 'os.getpid': cannot be loaded"),
    ("config", put(CONFIG, "space._target_", "pathlib.Path"), "space._target_ 'pathlib.Path': must be a class of"),
    ("config", put(CONFIG, "data", None), "data: must be a mapping, not null"),
    ("config", put(CONFIG, "images.train", 1e308), "images.train"),
    ("config", put(CONFIG, "study", []), "study: must be a mapping"),
    ("study.json", [], "study.json: must have the study's storage and identity"),
    ("study.json", put(OWNER, "storage", 3), "study.json: must have the study's storage and identity"),
    *(("kernels", put(calibration("kernels"), path, value), message) for path, value, message in [
        ("others", "x", "others 'x': must be a number of at least 0, or null"),
        ("others", [], r"others \[\]: must be a number"),
        ("others", {}, r"others \{\}: must be a number"),
        ("factors", [], r"factors: must be a mapping of names to numbers, not \[\]"),
        ("factors", {}, "factors: must have a factor"),
        ("factors.dense", math.nan, "factors.dense nan: must be a number"),
        ("speed", [], "speed: must be"),
        ("speed", {"typical_ms": 0.15}, "speed.fast_ms: missing"),
        ("speed.slow_ms", "x", "speed.slow_ms: 'x' is not a number"),
        ("speed.slow_ms", 0.149, "speed: fast_ms 0.14, typical_ms, slow_ms 0.149 must be in this order"),
        ("speed.slow_ms", 1e30, r"speed.slow_ms 1e.30: must be a number of at least .* and at most"),
        ("speed.typical_ms", math.nan, "speed.typical_ms nan: must be a number"),
        ("speed.slow_ms", -1.0, "speed.slow_ms -1.0: must be a number of at least"),
        ("speed.fast_ms", 0.16, "speed: fast_ms 0.16, typical_ms, slow_ms 0.2 must be in this order"),
        ("noise", -1.0, "noise -1.0: must be a number of at least 0"),
        ("noise", 1e9, "noise 1000000000.0: must be a number of at least 0 and at most 100"),
        ("noise", [0.01], r"noise \[0.01\]: must be a number of at least 0"),
        ("checks.1.measurements", 0, r"checks.1.\.measurements 0: must be a whole number of at least 1"),
        ("checks.1.measurements", 10**9, r"checks.1.\.measurements 10+: must be a whole .* at most 1000"),
        ("checks.1.measurements", 2.5, r"checks.1.\.measurements: 2.5 is not a whole number"),
        ("checks.1.measured_ms", -1.0, r"checks.1.\.measured_ms -1.0: must be a number"),
        ("checks.1.measured_ms", "x", r"checks.1.\.measured_ms: 'x' is not a number"),
        ("checks", "x", "checks: must be a list"),
        ("device.cores", 10**30, "device.cores 10+: must be a whole number"),
        ("device", [], "device: field .* is missing"),
        ("kind", [], r"unknown kind \[\]"),
        ("times.lane", 0, "times.lane 0: must be"),
        ("times.laws.any", [1.0], "times.laws.any: must be a list of 4 numbers"),
        ("times.laws.any.2", -math.inf, "times.laws.any -inf: must be a number"),
        ("times.trees", [], r"times.trees: must be a mapping by class of kernels, not \[\]"),
        ("times.trees.dense", "x", "times.trees.dense: not readable as regression trees"),
        ("times.trees.dense", packed("0" * 9_000_000), "more than 8,000,000 bytes unpacked"),
        ("times.trees.dense", trees(TREE.replace("num_leaves=2", "num_leaves=999999999")), "number of leaves does not"),
        ("times.trees.dense", trees(TREE.replace("leaf_value=0.1", "leaf_value=nan")), "a number that is not finite"),
        ("times.trees.dense", trees(TREE.replace("split_feature=1", "split_feature=99")), "its features are not the"),
        ("times.trees.dense", trees(features=99), "its features are not the"),
    ]),
    *(("bench", put(BENCH, f"networks.0.{path}", value), message) for path, value, message in [
        ("probe_ms", math.inf, r"networks\[0\]\.probe_ms inf: must be a number"),
        ("ratio_errors.0.0", "x", r"networks\[0\]\.ratio_errors 'x': must be a number"),
        ("rows.0.latency_ms", 10**30, r"rows\[0\]\.latency_ms 10+: must be"),
        ("rows.0.device", [], "device: field .* is missing"),
        ("rows.0.accuracy.lost", 5, r"accuracy\.lost 5: must be a whole number of at least 0 and at most 4"),
        ("rows.0.accuracy", [], r"accuracy: must be a mapping"),
        ("rows.0.float_layers", [3], r"float_layers: must be a list of texts"),
    ]),
    ("prices", put(calibration("prices"), "scale", -1), "scale -1: must be a number of at least 0"),
    ("whole", put(calibration("whole"), "prices.once", "x"), "prices.once 'x': must be a number"),
    ("table", put(calibration("table"), "rows.1.latency_ms", math.nan), r"rows.1.\.latency_ms nan: must be"),
    ("table", put(calibration("table"), "rows.1.block", 3), r"rows.1.\.block: 3 is not a string"),
    ("table", put(calibration("table"), "rows.1.input_px", 10**9), r"rows.1..*input_px 10+: must be at most 16384"),
    ("block table", HEADER + ROWS.replace("1.5", "1e300"), "line 4: latency_ms '1e300': must be at least 1e-09 and"),
    ("block table", HEADER + ROWS.replace("1.5", "x" * 200_000), "line 4: cannot be read as comma-separated cells"),
    ("block table", HEADER + ROWS.replace("c24", "c" + "9" * 100), "line 4: .*at most 9 digits after 'c'"),
    ("measurements", HEADER + NETWORKS + "mixnet_s,20.5,224\n", "line 6: mixnet_s at 224 px .* listed in line 4 too"),
    ("measurements", HEADER + NETWORKS.replace("ds_r2", "ds_r999999999"), "line 5: .*repeats 999999999"),
    ("evaluated", EVALUATED.replace("0.709", "9" * 200), r"line 2: accuracy '9{40}\.\.\.': accuracies are in \[0, 1\]"),
    ("evaluated", EVALUATED.replace("dsa_r2", "dsa_r999999999"), "line 4: .*repeats 999999999"),
    ("evaluated", EVALUATED.replace("mobilenetv1_050", "x" * 5000), r"line 3: spec 'x+\.\.\. \(5,002 char"),
    ("evaluated", EVALUATED.replace("128,", "9" * 5000 + ","), r"line 4: resolution_px '9+\.\.\. \(5,002 char"),
]  # fmt: skip


class TookLongError(AssertionError):
    """A reader that used more CPU seconds than it may."""


@contextmanager
def limited() -> Iterator[None]:
    """End what takes more than ``LIMIT_S`` CPU seconds of this process, however busy the machine is."""

    def stop(*_: object) -> None:
        raise TookLongError(f"more than {LIMIT_S} CPU-seconds")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize(
    ("name", "data", "message"), REFUSED, ids=[f"{name} {message}" for name, _, message in REFUSED]
)
def test_a_figure_out_of_range_is_refused_by_its_place(folder: Path, name: str, data: Any, message: str) -> None:
    _, dump, read = FILES[name]
    with limited(), pytest.raises(NasError, match=message) as caught:
        read(folder, dump(data))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((f"probes_ms{place}", value) for place in ("", ".1") for value in (None, "x", -1.0, 0, math.nan, {}, [])),
        *((place, 1e300) for place in ("probes_ms.1", "probe_ms", "latencies_ms.0", "kernels_us.1.0", "spent_s")),
        ("probes_ms.1", 1e-300),
        ("probes_ms.1", 10**400),
        ("latencies_ms", [5.0]),
        ("networks.0", "mixnet_x"),
    ],
)
def test_a_chunk_of_an_interrupted_calibration_with_a_figure_out_of_range_is_measured_again(
    tmp_path: Path, path: str, value: Any
) -> None:
    def chunks(*lines: dict[str, Any]) -> int:
        file = tmp_path / "device.measured"
        Collector(CHUNKS_DEVICE, 0, file)  # writes the first line
        with file.open("a", encoding="utf-8") as text:
            text.writelines(json.dumps(line) + "\n" for line in lines)
        return len(Collector(CHUNKS_DEVICE, 0, file).chunks)

    with limited():
        assert chunks(CHUNK, put(CHUNK, path, value), CHUNK) == 1


def test_a_chunk_without_networks_is_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "device.measured"
    Collector(CHUNKS_DEVICE, 0, file)
    with file.open("a", encoding="utf-8") as text:
        text.write(json.dumps({**CHUNK, "networks": [], "latencies_ms": [], "kernels_us": []}) + "\n")
    assert Collector(CHUNKS_DEVICE, 0, file).chunks == []


@pytest.mark.parametrize("name", FILES)
def test_the_files_that_are_edited_are_valid(folder: Path, name: str) -> None:
    data, dump, read = FILES[name]
    if name == "study.json":
        with pytest.raises(NasError, match="was started with"):
            read(folder, dump(data))
    else:
        read(folder, dump(data))


VALUES: Final = st.sampled_from([
    None, True, 0, -1, 3, 10**9, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308, math.nan, math.inf, -math.inf, "", "x",
    "x" * 5000, "ir_r1_k3_s1_e6_c24", "9" * 50, "1e5", "é\x1b[1m", [], {}, [[]], [1, "x", None], {"a": 1}, {"any": []},
    [0.5] * 2000, json.loads("[" * 60 + "]" * 60),
])  # fmt: skip
FRAGMENTS: Final = st.sampled_from([
    "", ",", "\n", '"', "'", ": ", "- ", "[" * 60, "{", "]", "}", "&a ", "*a", "!!int ", "9" * 60, "1e999", "\t", "#",
    "\x00", "é", "?",
])  # fmt: skip


def places(data: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything within ``data``."""
    keys = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    found = [(data, key) for key, _ in keys]
    return found + [place for _, value in keys if isinstance(value, dict | list) for place in places(value)]


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, str]:
    """Name of a file and its text, with values or pieces of the text changed."""
    name = draw(st.sampled_from(list(FILES)))
    data, dump, _ = FILES[name]
    data = deepcopy(data)
    for _ in range(draw(st.integers(1, 2)) if not isinstance(data, str) else 0):
        found = places(data)
        if not found:
            break
        container, key = draw(st.sampled_from(found))
        change = draw(st.sampled_from(("replace", "delete", "rename")))
        if change == "replace":
            container[key] = deepcopy(draw(VALUES))
        elif change == "delete":
            del container[key]
        elif isinstance(container, dict):
            container["x" if isinstance(draw(VALUES), str) else "any"] = container.pop(key)
    text = dump(data)
    for _ in range(draw(st.integers(1, 2)) if isinstance(data, str) else draw(st.integers(0, 1))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(FRAGMENTS) + text[start + draw(st.integers(0, 20)) :]
    return name, text


@settings(max_examples=250)
@given(edited())
def test_a_file_edited_at_random_is_read_or_refused_in_one_line(folder: Path, case: tuple[str, str]) -> None:
    name, text = case
    start = time.process_time()
    with limited():
        try:
            FILES[name][2](folder, text)
        except NasError as error:
            assert len(str(error)) < 7000
    assert time.process_time() - start < LIMIT_S


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(RecordSettings, name="x" * 300), r"study.name 'x+\.\.\. \(302 characters\): must have at most 200"),
        (partial(RecordSettings, name="artifacts"), "study.name 'artifacts': is taken by the folder of the"),
        (partial(RecordSettings, name="families"), "study.name 'families': is taken by"),
        (partial(RecordSettings, name="optuna.db"), "study.name 'optuna.db': is taken by the database"),
        (partial(RecordSettings, seed=10**12), "study.seed 10+: must be a whole .* at most 2147483647"),
        (partial(StudySettings, n_trials=10**20), "study.n_trials 10+: must be .* at most 1000000"),
    ],
)  # fmt: skip
def test_names_and_counts_of_studies(make: Callable[[], object], message: str) -> None:
    with pytest.raises(NasError, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 600, "a configuration or a setting is nested too deep"),
        ("a: 1 " + " " * 100_000, r"configuration .*space.mine\.yaml: has more than 100,000 bytes"),
    ],
)
def test_a_configuration_of_the_user_has_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "space").mkdir(parents=True)
    (tmp_path / "conf" / "space" / "mine.yaml").write_text(text, encoding="utf-8")
    with limited(), pytest.raises(NasError, match=message):
        compose_config("search", ["space=mine"])


def test_a_study_of_an_unknown_kind_is_named() -> None:
    with pytest.raises(NasError, match="study 'mine' is of an unknown kind: must be one of search, compound grid"):
        kind_of({"pruned": {}}, "mine")
