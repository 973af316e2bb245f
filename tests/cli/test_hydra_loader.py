"""Tests of the loader of configurations: Hydra's own result, folders of one's own, files that change."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nas.cli.hydra_config import compose_config
from nas.core.errors import NasError
from tests.paths import CONF

COMMAND_LINES = [
    "search +space=mixnet",
    "search +space=mobilenet_v3 latency=macs sampler=nsga2 pruner=asha 'study.name=a b' constraint.macs_m=0.5e2",
    "search +space=mixnet 'space.choices.groups=[1, 2]' ++proxy.epochs=3 ~pruner data.root=null '+more={a: 1, b: [x]}'",
    "search +experiment=mobilenet_v3_mnasnet_reward space=mnasnet engine=ray",
    "compound_grid +experiment=mobilenet_v1_table",
    "compound_grid baseline=mixnet_s proxy=tiny runs_dir=${oc.env:HOME}/${study.seed}",
    "scale arch=mixnet_s",
    "show arch=mixnet_s latency=cuda",
    "calibrate device=cpu",
    "compare latency=macs",
    "report study=x",
    "dashboard",
]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ``conf`` of the working directory, with one choice of a group."""
    monkeypatch.chdir(tmp_path)
    write_epochs(tmp_path / "conf", 77)
    return tmp_path / "conf"


def write_epochs(folder: Path, epochs: int) -> None:
    text = (CONF / "proxy" / "tiny.yaml").read_text(encoding="utf-8").replace("\nepochs: 1\n", f"\nepochs: {epochs}\n")
    (folder / "proxy").mkdir(parents=True, exist_ok=True)
    (folder / "proxy" / "tiny.yaml").write_text(text, encoding="utf-8")


def epochs(*overrides: str) -> int:
    """Epochs of the tiny proxy, from its configuration."""
    found: int = compose_config("search", ["space=mixnet", "proxy=tiny", *overrides])["proxy"]["epochs"]
    return found


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_the_configuration_is_that_of_hydra(line: str) -> None:
    name, *arguments = shlex.split(line)
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        expected = OmegaConf.to_container(compose(name, arguments), resolve=True)
    assert compose_config(name, arguments) == expected
    assert list(compose_config(name, arguments)) == list(expected)


def test_a_composition_leaves_nothing_to_the_next() -> None:
    changed = compose_config("search", ["space=mixnet", "proxy.epochs=9", "space.choices.groups=[3]"])
    changed["study"]["n_trials"] = -1
    again = compose_config("search", ["space=mixnet"])
    assert (again["proxy"]["epochs"], again["space"]["choices"]["groups"], again["study"]["n_trials"]) == (
        4,
        [1, 2, 3, 4, 5],
        100,
    )


def test_a_choice_of_ones_own_precedes_one_of_its_name(own: Path) -> None:
    assert epochs() == 77
    assert epochs("proxy.epochs=5") == 5


def test_a_file_that_changes_is_read_again(own: Path) -> None:
    for expected in (11, 22, 11):  # of the same size, and in the same moment
        write_epochs(own, expected)
        assert epochs() == expected
    (own / "proxy" / "tiny.yaml").unlink()
    assert epochs() == 1


def test_a_command_s_own_file_is_the_project_s(own: Path) -> None:
    (own / "search.yaml").write_text("of: another application\n", encoding="utf-8")
    assert epochs() == 77


def test_a_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my work, 50% [é]"
    write_epochs(folder / "conf", 33)
    monkeypatch.chdir(folder)
    assert epochs() == 33


@pytest.mark.parametrize("setting", ["hydra.run.dir=x", "++hydra.verbose=true", "hydra/launcher=basic", "~hydra/help"])
def test_settings_of_hydra_itself_are_refused(setting: str) -> None:
    name = setting.lstrip("+~").partition("=")[0]
    with pytest.raises(
        NasError, match=rf"^{name}: Hydra's own settings have no effect here; .* runs_dir=, .*folder conf"
    ):
        compose_config("search", ["space=mixnet", setting])
