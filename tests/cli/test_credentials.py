"""A password in the storage's URL: no command shows it, and no file keeps it."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

import nas
from nas import compare, dashboard, report, search
from nas.cli.multirun import distinct_names
from nas.core.errors import NasError
from nas.dashboard import _Notes
from nas.study.storage.opening import check_folder, open_storage
from nas.study.storage.retry_policy import RetryPolicy
from nas.study.trial_loop import failure_reason
from tests.core.test_credentials import CANARY, URLS

# A journal ignores what follows its file, so that this search runs where there is no server.
JOURNAL = f"journal:///x.journal?user=me&passwd={CANARY}&{CANARY}"
TINY = (
    "space=mobilenet_v1", "latency=macs", "estimator=proxy", "data=digits", "proxy=tiny", "data.subset=100",
    "study.n_trials=2", "study.name=a",
)  # fmt: skip


def test_a_run_leaves_no_password(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    assert search.command([*TINY, f"study.storage='{JOURNAL}'"]) == 0
    assert report.command([f"storage='{JOURNAL}'"]) == 0
    assert report.command(["study=a", f"storage='{JOURNAL}'"]) == 0
    notes = _Notes(JOURNAL, Path("runs"), sys.stdout)
    notes.write(verbose=True)
    notes.close()
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    names = {path.name for path in found}
    assert {"x.journal", "config.yaml", "study.json", "report.html", "trials.csv"} <= names
    assert [path for path in found if CANARY.encode() in path.read_bytes() or CANARY in str(path)] == []
    assert "passwd=***" in (tmp_path / "runs/a/config.yaml").read_text(encoding="utf-8")
    said = capfd.readouterr()
    assert "report.html" in said.out and CANARY not in said.out + said.err + caplog.text


@pytest.mark.parametrize("url", URLS)
def test_the_printed_configuration_and_errors_show_no_password(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quoted = f'"{url}"' if "'" in url else f"'{url}'"
    wrong = ("space=mobilenet_v1", "study.n_trials=none")
    calls: list[Callable[[], object]] = [
        lambda: search.command([f"study.storage={quoted}", "--cfg", "job"]),
        lambda: search.command([f"study.storage={url}", *wrong]),
        lambda: search.command([f"study.storage={quoted}", *wrong]),
        lambda: search.command([f"study.storage=[{quoted}]", *wrong]),
        lambda: search.command([f"study.storag={url}"]),
        lambda: search.command(["--multirun", f"study.storage={url}", "study.seed=a,b", *wrong]),
        lambda: search.command([url]),
        lambda: dashboard.command([f"storage={quoted}", "port=none"]),
        lambda: compare.command([f"storage={quoted}", "json=none"]),
        lambda: nas.run_search(space="mobilenet_v1", study={"storage": url, "n_trials": "none"}),
    ]
    # Every call sees a fifth of the URLs, and the first URL goes through every call: composing takes most of the time.
    turn = URLS.index(url)
    shown = ""
    for call in calls[turn % 5 :: 5] if turn else calls:
        try:
            call()
        except NasError as error:
            shown += "".join(traceback.format_exception(error))
    printed = capsys.readouterr()
    assert "NasError" in shown and CANARY not in shown + printed.out + printed.err


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{CANARY}@127.0.0.1:1/d",
        f"postgresql://me:{CANARY}/d",
        f"postgresql://127.0.0.1:1/d?user=me&sslpassword={CANARY}",
        f"postgresql://127.0.0.1:1/d?connect_timeout={CANARY}&password={CANARY}",
        f"postgresql://127.0.0.1:1/d?{CANARY}=1",
        f"postgresql+psycopg2://me:{CANARY}@127.0.0.1:1/d",
        f"mysql://me:{CANARY}@127.0.0.1:1/d",
        f"mysql://me:{CANARY}/d",
        f"mysql://127.0.0.1:1/d?user=me&passwd={CANARY}",
        f"mysql://127.0.0.1:1/d?{CANARY}=1",
        f"sqlite:///x.db?{CANARY}=1",
        f"sqlite:///x.db?timeout={CANARY}",
        f"sqlite:///missing/x.db?password={CANARY}",
    ],
)
def test_no_driver_shows_a_password(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    policy = RetryPolicy(limit_s=3.0, say=said.append, sleep=lambda _: None, clock=iter(range(10_000)).__next__)
    with pytest.raises(NasError) as caught:
        open_storage(url, policy)
    shown = "\n".join([*said, *traceback.format_exception(caught.value)])
    assert "study.storage" in shown and CANARY not in shown


def test_a_trial_that_fails_does_not_keep_a_password() -> None:
    assert failure_reason(OSError(f"no answer of postgres://me:{CANARY}@h/d")) == (
        "OSError: no answer of postgres://***@h/d"
    )


def test_a_sweep_over_storages_names_its_studies_without_passwords() -> None:
    swept = [{"study.storage": f"postgres://me:{CANARY}@{host}/d"} for host in ("one", "two")]
    assert distinct_names(["a", "a"], swept) == ["a-storagepostgres_one_d", "a-storagepostgres_two_d"]


def test_a_folder_of_an_older_version_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"storage": "postgresql://me:***@h/d", "identity": {}}', encoding="utf-8")
    check_folder(tmp_path, "postgresql://me:secret@h/d", {})
    with pytest.raises(NasError, match=r"in postgresql://\*\*\*@h/d, this one is in .*@other/d: choose"):
        check_folder(tmp_path, "postgresql://me:secret@other/d", {})


def test_a_study_whose_password_is_not_kept_asks_for_its_url(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    images = "images: {classes: 2, channels: 3, resolution_px: 8, train: 4, val: 2}"
    text = f"{{format: 1, command: x, versions: {{}}, {images}, study: {{storage: 'postgresql://***@h/d'}}}}"
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(NasError, match=r"study 'a': is in postgresql://\*\*\*@h/d, whose password is not kept; give"):
        report.command(["study=a", f"runs_dir={tmp_path}"])
