"""Tests of README.md and the folders' manuals: every command, block and link.

YAML, CSV and Python blocks are run or parsed, links and anchors resolved.
"""

from __future__ import annotations

import ast
import itertools
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest

import nas
from nas.arch import zoo
from nas.arch.files import dump_spec, load_spec
from nas.arch.heads import detector, segmenter
from nas.arch.notation import parse_block
from nas.arch.spec import ArchSpec
from nas.cli import app, device_kits, hydra_config, multirun
from nas.cli.resolve.networks import is_network, resolve_arch
from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.latency.calibration.external import read_measurements
from nas.latency.predictors.block_table import read_table
from nas.methods.search.trials.evaluated_file import read_evaluated_file
from nas.study.candidates import survey
from nas.training.results import EpochResult
from tests.data.dense.builders import halves, write_masks, write_voc
from tests.paths import ROOT
from tests.study.fakes import accuracy_of, epoch_result

README_BYTES: Final = 8192
FOLDERS: Final = (
    "conf", "search_spaces", "nas", "nas/study", "nas/estimators", "nas/latency", "nas/methods/scaling",
    "nas/methods/netadapt", "nas/reporting", "nas/training", "nas/exporters", "tests",
)  # fmt: skip
MANUALS: Final = (
    "README.md", *(f"{folder}/README.md" for folder in FOLDERS), "runs/README.md", "tests/benchmarks/RESULTS.md",
    ".github/CONTRIBUTING.md",
)  # fmt: skip
TEXTS: Final = {name: (ROOT / name).read_text(encoding="utf-8") for name in MANUALS}
EXTRAS: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
STUDY: Final = "runs/mixnet-mnist_5k"
PUBLISHED_ACCURACY: Final = {"mixnet_s": 0.758, "mixnet_m": 0.770, "mixnet_l": 0.789}  # top-1, arXiv:1907.09595


def blocks(manual: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXTS[manual], flags=re.DOTALL | re.MULTILINE)


def commands(manual: str) -> list[list[str]]:
    """Command lines of a manual as words, from code blocks and running text."""
    lines = [line for text in blocks(manual, "bash") for line in text.splitlines()]
    prose = re.sub(r"^```.*?^```$", "", TEXTS[manual], flags=re.DOTALL | re.MULTILINE)
    lines += re.findall(r"^    (\S.*)$", prose, flags=re.MULTILINE)
    # A command named in a sentence is one to be typed if it has settings.
    lines += re.findall(r"`((?:python -m nas\.\w+ |python tests/|pip |pytest)[^`]*)`", prose)
    return [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]


def all_commands(*start: str) -> list[Any]:
    """Distinct arguments of all command lines that begin with ``start``.

    Each with the last manual that contains it.
    """
    found = {tuple(words): manual for manual in MANUALS for words in commands(manual)}
    return [
        pytest.param(list(words[len(start) :]), id=f"{manual}: {shlex.join(words)}")
        for words, manual in found.items()
        if words[: len(start)] == start
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the files that the manuals assume.

    Photographs, a finished study, user files.
    """
    path = tmp_path_factory.mktemp("manuals")
    for name in ("photos/cat/1.png", "photos/dog/1.png"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"")
    (path / "cifar/cifar-10-batches-py").mkdir(parents=True)
    shutil.copytree(ROOT / "conf", path / "conf", ignore=shutil.ignore_patterns("*.md"))
    (path / "conf/space/tiny.yaml").write_text(blocks("search_spaces/README.md", "yaml")[0], encoding="utf-8")
    (path / "conf/experiment/mine.yaml").write_text(blocks("conf/README.md", "yaml")[0], encoding="utf-8")
    shutil.copytree(ROOT / "runs/example", path / STUDY)
    measurements, table = blocks("nas/latency/README.md", "csv")
    (path / "phone.csv").write_text(measurements, encoding="utf-8")
    (path / "blocks.csv").write_text(table, encoding="utf-8")
    (path / "evaluated.csv").write_text(blocks("conf/README.md", "csv")[0], encoding="utf-8")
    for name in (
        "b0_25ms.yaml",
        "mine/candidate_7.yaml",
        "runs/w1/best.yaml",
        "runs/w1-70/adapted.yaml",
        "runs/w1-tuned/best.yaml",
    ):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(dump_spec(zoo.get("efficientnet_b0")), encoding="utf-8")
    for name in ("runs/w1/best.safetensors", "runs/w1-70/adapted.safetensors", "runs/w1-tuned/best.safetensors"):
        (path / name).write_bytes(b"")
    write_voc(path / "cells", {"1": [("cell", 2, 2, 20, 20)]}, {"2": [("cell", 2, 2, 20, 20)]})
    write_masks(path / "streets", {str(number): halves(0, 1) for number in range(4)})
    for name, spec in (("cells", detector(zoo.get("mixnet_s"), 1)), ("streets", segmenter(zoo.get("mixnet_s"), 2))):
        (path / f"runs/{name}").mkdir()
        (path / f"runs/{name}/best.yaml").write_text(dump_spec(spec), encoding="utf-8")
        (path / f"runs/{name}/best.safetensors").write_bytes(b"")
    shutil.copytree(ROOT / "runs/example", path / "runs/mixnet-imagefolder")
    return path


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_the_front_page_is_read_to_the_end() -> None:
    assert len(TEXTS["README.md"].encode()) <= README_BYTES


def test_every_folder_has_its_manual_and_the_front_page_links_it() -> None:
    for manual in MANUALS[1:]:
        if manual != "runs/README.md":
            assert f"]({manual})" in TEXTS["README.md"], manual


def test_the_two_commands_are_on_the_front_page() -> None:
    assert "    pip install -e . && python -m nas.search +space=mixnet\n" in TEXTS["README.md"]
    assert "    pip install -e '.[test]' && pytest\n" in TEXTS["README.md"]


def anchors(text: str) -> set[str]:
    """GitHub's anchors of the headings.

    Lower case, without punctuation, with hyphens for spaces.
    """
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.*)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.replace("`", "").lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("manual", MANUALS)
def test_links_lead_to_files_and_headings(manual: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[manual]):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / manual).parent / path if path else ROOT / manual
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def rooted(name: str, manual: str) -> bool:
    """Whether ``name`` is a project file, seen from root, manual or a room."""
    places = (ROOT, (ROOT / manual).parent, ROOT / "nas")
    return any((place / name).exists() for place in places)


@pytest.mark.parametrize("manual", MANUALS)
def test_files_named_in_the_text_exist(manual: str) -> None:
    names = re.findall(r"`((?:nas|tests|conf|search_spaces|runs)/[\w./]+|[a-z_]+(?:/[a-z_]+)*\.py)`", TEXTS[manual])
    for name in names:
        if "NAME" in name or "FAMILY" in name or name.startswith(("runs/", "conf/space/tiny", "conf/experiment/mine")):
            continue
        if any(ROOT.glob(f"nas/**/templates/**/{name}.j2")):  # which a command writes
            continue
        found = rooted(name, manual) or any(ROOT.glob(f"nas/**/{name}")) or (ROOT / "tests" / name).exists()
        assert found or any(ROOT.glob(f"tests/**/{name}")), name


@pytest.mark.parametrize("manual", MANUALS)
def test_symbols_named_in_the_text_exist(manual: str) -> None:
    names = set(re.findall(r"`(_?[A-Z][A-Z_]{2,}|[A-Z][a-z]+[A-Z]\w+)`", TEXTS[manual])) - {
        "NAME",
        "FAMILY",
        "NO_COLOR",
    }
    if not names:
        return
    sources = "\n".join(
        path.read_text(encoding="utf-8")
        for top in ("nas", "search_spaces", "tests")
        for path in (ROOT / top).rglob("*.py")
    )
    assert {name for name in names if not re.search(rf"\b{name}\b", sources)} == set()


ROOM_TABLES: Final = {
    "nas": "Map", "nas/reporting": "The modules", "nas/methods/scaling": "The modules", "nas/latency": "The modules",
    "nas/methods/netadapt": "The modules",
    "nas/study": "The modules", "nas/exporters": "The modules", "search_spaces": "The modules",
}  # fmt: skip


@pytest.mark.parametrize("room", ROOM_TABLES)
def test_tables_of_modules_name_every_module_and_no_other(room: str) -> None:
    """First column: all modules and subfolders; second: files of theirs."""
    section = TEXTS[f"{room}/README.md"].partition(f"\n## {ROOM_TABLES[room]}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*) \| (.*) \|$", section, flags=re.MULTILINE)
    named = [name for first, _ in rows for name in re.findall(r"`([^`]+)`", first)]
    there = {path.name for path in (ROOT / room).glob("*.py") if path.name != "__init__.py"}
    there |= {
        f"{path.name}/"
        for path in (ROOT / room).iterdir()
        if path.is_dir() and (any(path.glob("*.py")) or path.name == "templates")
    }
    assert sorted(set(named) - {"__init__.py"}) == sorted(there)
    for first, second in rows:
        folders = [ROOT, ROOT / room, *(ROOT / room / name for name in re.findall(r"`([^`]+/)`", first))]
        for name in re.findall(r"`((?:\w+/)*\w+\.(?:py|html)|(?:\w+/)+)`", second):
            assert any((folder / name).exists() for folder in folders), name


@pytest.mark.parametrize("manual", MANUALS)
def test_block_strings_shown_are_parsed(manual: str) -> None:
    for text in re.findall(r"`((?:ir|ds|dsa|er|cn|uir|mqa)_r\d\w*(?:\.\w+)*)`", TEXTS[manual]):
        assert str(parse_block(text)).split("_")[0] == text.split("_")[0]


def test_the_space_shown_is_the_one_that_is_tested() -> None:
    tested = (ROOT / "tests" / "search_spaces" / "data" / "tiny.yaml").read_text(encoding="utf-8")
    assert [text.strip() for text in blocks("search_spaces/README.md", "yaml")] == [tested.strip()]


def test_every_yaml_block_is_tried() -> None:
    assert {manual: len(blocks(manual, "yaml")) for manual in MANUALS if blocks(manual, "yaml")} == {
        "search_spaces/README.md": 1,
        "conf/README.md": 1,
    }


def test_the_files_of_figures_shown_are_read() -> None:
    assert {manual for manual in MANUALS if blocks(manual, "csv")} == {"nas/latency/README.md", "conf/README.md"}
    measured = read_measurements(Path("phone.csv"))
    assert measured.device.processor == "Pixel 6, big core" and len(measured.networks) == 3
    assert read_table(Path("blocks.csv")).device.processor == "Pixel 1"
    mixnet = import_module("nas.search").make_plan(["space=mixnet"]).space
    evaluated = read_evaluated_file(Path("evaluated.csv"), mixnet).evaluations
    names = [zoo.published_name(mixnet.decode(one.genotype)) for one in evaluated]
    assert dict(zip(names, (one.accuracy for one in evaluated), strict=True)) == PUBLISHED_ACCURACY


@pytest.mark.parametrize("words", all_commands("python", "-m", "nas.search"))
def test_searches_are_accepted(words: list[str]) -> None:
    study_command("search", words)


@pytest.mark.parametrize("words", all_commands("python", "-m", "nas.supernet"))
def test_supernets_are_accepted(words: list[str]) -> None:
    config = hydra_config.compose_config("supernet", words)
    if config["show"] is None:
        plan, searched = (import_module(f"nas.{name}").make_plan for name in ("supernet", "search"))
        command = import_module("nas.supernet").search_command(words)
        assert plan(words).estimator == searched(shlex.split(command)[3:]).estimator
        assert plan(words).proxy == searched(shlex.split(command)[3:]).proxy


@pytest.mark.parametrize("words", all_commands("python", "-m", "nas.train"))
def test_trainings_are_accepted(words: list[str]) -> None:
    command = import_module("nas.train")
    if "--help" in words:
        with redirect_stdout(StringIO()) as output:
            assert command.command(words) == 0
        assert output.getvalue()
    else:
        assert command.make_plan(words).network(10, 3).classes == 10


@pytest.mark.parametrize("words", all_commands("python", "-m", "nas.compound_grid"))
def test_grids_are_accepted(words: list[str]) -> None:
    study_command("compound_grid", words)


@pytest.mark.parametrize("words", all_commands("python", "-m", "nas.netadapt"))
def test_adaptations_are_accepted(words: list[str]) -> None:
    study_command("netadapt", words)


def study_command(name: str, words: list[str]) -> None:
    """Check the immediate output of ``nas.<name>`` and build its plan."""
    module = import_module(f"nas.{name}")
    if any(word.startswith("-") and word not in ("-m", "--multirun") for word in words):
        with redirect_stdout(StringIO()) as output:
            assert module.command(words) == 0
        assert output.getvalue()
    elif not words and name == "search":
        with pytest.raises(NasError, match=r"which space\? Add one of these:"):
            module.command(words)
    else:
        several, rest = multirun.split_multirun_flag(words)
        jobs = [job.overrides for job in multirun.jobs(rest)] if several else [rest]
        assert len(jobs) > several
        plans = [module.make_plan(list(job)) for job in dict.fromkeys((tuple(jobs[0]), tuple(jobs[-1])))]
        for word in rest:
            if word.startswith(("+space=", "experiment=")) and "," not in word:
                meant = plans[0].space.name if word.startswith("+") else plans[0].name
                assert meant == word.partition("=")[2]
        if name == "compound_grid" and not any(word.startswith("experiment=") for word in words):
            for plan in plans:
                kind = (plan.compare[0],) if plan.is_table else ("compare", "latency", f"-phi{plan.phi}")
                assert re.sub(r"-seed\d+$", "", plan.name).endswith(kind)


@pytest.mark.parametrize("words", [*all_commands("python", "-m", "nas.show"), *all_commands("nas-show")])
def test_networks_are_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert import_module("nas.show").command([*words, "latency=macs"]) == 0
    assert resolve_arch(words[0].removeprefix("arch=").strip('"')).name in capsys.readouterr().out


@pytest.mark.parametrize("words", all_commands("python", "-m", "nas.bench"))
def test_benchmarks_compose(words: list[str]) -> None:
    names, overrides = app.split_words(words)
    command = import_module("nas.bench")
    config = hydra_config.compose_config("bench", [command.as_list(override) for override in overrides])
    app.check_keys(config, command._KEYS, optional=("data",))
    assert all(map(is_network, [*names, *config["arch"]]))
    assert set(config["precision"]) <= {"float32", "int8", "mixed"}
    assert set(config["runtime"]) <= set(EXTRAS) | {"onnxruntime"}


@pytest.mark.parametrize("words", all_commands("python", "-m", "nas.export"))
def test_exports_are_accepted(words: list[str]) -> None:
    command = import_module("nas.export")
    if "--help" in words:
        with redirect_stdout(StringIO()) as output:
            assert command.command(words) == 0
        assert output.getvalue()
    else:
        assert command.make_plan(words).side_px > 0


@pytest.mark.parametrize("words", all_commands("python", "-m", "nas.scale"))
def test_scalings_are_answered(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    written = next((Path(word.partition("=")[2]) for word in words if word.startswith("out=")), None)
    if written:
        written.unlink(missing_ok=True)
    assert import_module("nas.scale").command([*words, "latency=macs"]) == 0
    if written:
        assert load_spec(written).depth >= resolve_arch(words[0].removeprefix("arch=")).depth


@pytest.mark.parametrize("words", all_commands("python", "-m", "nas.compare"))
def test_comparisons_are_answered(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    names, overrides = app.split_words(words)
    if all(map(is_network, names)):
        assert import_module("nas.compare").command([*words, "latency=macs"]) == 0
        assert names[0] in capsys.readouterr().out
    else:
        assert len(names) >= 2 and not any(map(is_network, names))
        composes("compare", overrides)


def composes(name: str, overrides: list[str]) -> dict[str, Any]:
    config = hydra_config.compose_config(name, overrides)
    app.check_keys(config, import_module(f"nas.{name}")._KEYS)
    return config


@pytest.mark.parametrize("words", all_commands("python", "-m", "nas.report"))
def test_reports_compose(words: list[str]) -> None:
    composes("report", app.word_as_setting(words, "study"))


@pytest.mark.parametrize("words", all_commands("python", "-m", "nas.dashboard"))
def test_dashboards_compose(words: list[str]) -> None:
    composes("dashboard", words)


@pytest.mark.parametrize("words", all_commands("python", "-m", "nas.calibrate"))
def test_calibrations_compose(words: list[str]) -> None:
    from nas.latency.settings import LatencySettings

    config = composes("calibrate", words)
    module = import_module("nas.calibrate")
    assert config["device"] in module._DEVICES
    if backends := module._BACKENDS.get(config["device"]):
        backend = config["backend"] or backends[0]
        assert backend in backends
        LatencySettings(backend=backend, precision=config["precision"] or "float32", budget_s=config["budget_s"])
    elif config["device"] == "measurements":
        is_kit = any(f"out={config['path']}" in words for manual in MANUALS for words in commands(manual))
        assert is_kit or Path(config["path"]).is_file()
    else:
        assert device_kits.kit_settings(config).n == 100


def test_no_other_command_of_ours_is_shown() -> None:
    tried = {
        "search", "compound_grid", "netadapt", "supernet", "train", "show", "scale", "compare", "report", "dashboard",
        "calibrate", "bench", "export",
    }  # fmt: skip
    modules = {words[2] for manual in MANUALS for words in commands(manual) if words[:2] == ["python", "-m"]}
    assert modules == {f"nas.{name}" for name in tried}


@pytest.mark.parametrize("manual", MANUALS)
def test_installations_and_tests_name_what_exists(manual: str) -> None:
    for words in commands(manual):
        if words[:2] == ["pip", "install"]:
            for extra in re.findall(r"\.\[(\w+)\]", " ".join(words)):
                assert extra in EXTRAS
        elif words[:1] == ["pytest"]:
            paths = [word for word in words[1:] if "/" in word]
            assert all((ROOT / path).exists() for path in paths), words


@pytest.mark.parametrize("manual", MANUALS)
def test_benchmarks_have_the_options_shown(manual: str) -> None:
    for words in commands(manual):
        script = next((word for word in words if word.startswith("tests/benchmarks/")), None)
        options = [word for word in words if word.startswith("--")] if script else []
        source = (ROOT / script).read_text(encoding="utf-8") if script else ""
        assert all(f'"{option}"' in source for option in options), words


NUMBERS: Final = itertools.count(1)
PYTHON: Final = [manual for manual in MANUALS if blocks(manual, "python")]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    """Make studies from Python fast: few trials, synthetic accuracy, no device.

    The survey is small too.
    """
    search, grid, netadapt = nas.run_search, nas.run_compound_grid, nas.run_netadapt
    cheap: dict[str, Any] = {"latency": "macs", "data": "digits", "data.subset": 40}
    trained = ProxyEvaluator.evaluate

    def run_search(*words: str, **settings: Any) -> Any:
        study = {**settings.pop("study", {}), "n_trials": 2, "name": f"search{next(NUMBERS)}"}
        return search(*words, **{**settings, **cheap, "estimator": "proxy", "study": study})

    def run_compound_grid(*words: str, **settings: Any) -> Any:
        few = {"alpha": [1.0, 1.9], "beta": [1.0, 1.4], "gamma": [1.0], "realised_tolerance": None}
        return grid(*words, **{**settings, **cheap, "grid": few, "race": {"seeds": 1, "finalists": 2}})

    def run_netadapt(*words: str, **settings: Any) -> Any:
        few = {"step": 0.3, "delta": 0.1, "batches": 1, "kinds": ["expansion", "resolution"]}
        with monkeypatch.context() as patch:  # it needs the weights of what is trained
            patch.setattr(ProxyEvaluator, "evaluate", trained)
            return netadapt(*words, **{**settings, **cheap, "netadapt": few, "training": {"epochs": 1}})

    def evaluate(
        _: ProxyEvaluator, arch: ArchSpec, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        if on_epoch is not None:
            on_epoch(epoch_result(1, accuracy=accuracy_of(arch)))
        return Evaluation(accuracy=accuracy_of(arch), cpu_s=1.0, duration_s=1.0)

    monkeypatch.setattr(ProxyEvaluator, "evaluate", evaluate)
    monkeypatch.setattr("nas.methods.search.session.survey", partial(survey, samples=50))
    monkeypatch.setattr(nas, "run_search", run_search)
    monkeypatch.setattr(nas, "run_compound_grid", run_compound_grid)
    monkeypatch.setattr(nas, "run_netadapt", run_netadapt)


@pytest.fixture(scope="module")
def weights(folder: Path) -> None:
    """Weights of the example's proxy, which are not kept in the project."""
    from nas.exporters.standalone import save_weights
    from nas.model.build import build

    proxy = folder / STUDY / "winners" / "winner_1.proxy.yaml"
    save_weights(build(load_spec(proxy)), proxy.with_suffix(".safetensors"))


@pytest.mark.parametrize("manual", PYTHON)
def test_the_python_shown_runs(manual: str, quick: None, weights: None) -> None:
    names: dict[str, Any] = {}
    for text in blocks(manual, "python"):
        ast.parse(text)
        exec(compile(text, manual, "exec"), names)
