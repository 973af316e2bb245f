"""A small search with synthetic accuracies, and its dashboard, for tests.

For tests with and without a browser.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

import optuna
import pytest

from nas.arch.files import dump_spec
from nas.core.files import write_text_atomically
from nas.dashboard import _Notes
from nas.methods.search.dashboard import write_search_notes
from nas.reporting.dashboard.board import ARTIFACTS
from nas.reporting.dashboard.serving import HOST, make_dashboard
from nas.reporting.search_report import SearchReport, Winner, search_plot
from nas.study.storage.opening import open_storage, open_study
from nas.study.trial_attributes import trial_records
from nas.study.trial_record import pareto_front
from tests.deadline import DEADLINE_S
from tests.study.fakes import PARETO, FakeEvaluator, OneWorker, make_search, small_space


def database(runs_dir: Path) -> str:
    """Default storage URL of searches."""
    return f"sqlite:///{runs_dir / 'optuna.db'}"


def made_search(runs_dir: Path, *, name: str = "small", trials: int = 6, url: str = "") -> OneWorker:
    """Create a search with synthetic accuracies; some trials are infeasible.

    In the storage at ``url`` or in the database of ``runs_dir``.
    """
    runs_dir.mkdir(parents=True, exist_ok=True)
    study = open_study(open_storage(url or database(runs_dir)), name, PARETO, {})
    search = make_search(
        small_space(), FakeEvaluator(epochs=3), study=study, n_trials=trials, limits={"latency_ms": 0.016}
    )
    search.run()
    return search


def report_of(search: OneWorker, *, best: int | None = None) -> SearchReport:
    """What its report says; of the winners only the ``best`` fastest."""
    rows = trial_records(search.study)
    winners = [
        Winner(
            label=f"W{index}",
            arch=replace(search.pricer.decode(row.genotype), name=f"winner_{index}"),
            row=row,
            files={"spec": f"winners/winner_{index}.yaml"},
        )
        for index, row in enumerate(pareto_front(rows)[:best], start=1)
    ]
    return SearchReport(
        title=f"Search {search.study.study_name}",
        command="python -m nas.search +space=small",
        facts=(("space", "small, 288 points"), ("limits", str(search.pricer.constraints))),
        rows=tuple(rows),
        winners=tuple(winners),
    )


def show(search: OneWorker, runs_dir: Path, report: SearchReport | None = None) -> SearchReport:
    """Publish notes and files of ``search``; return the report they show."""
    report = report or report_of(search)
    folder = runs_dir / search.study.study_name
    (folder / "winners").mkdir(parents=True, exist_ok=True)
    for winner in report.winners:
        write_text_atomically(folder / str(winner.spec_file), dump_spec(winner.arch))
    write_text_atomically(folder / "pareto.svg", search_plot(report))
    write_search_notes(search.study, report, search.pricer, folder, runs_dir / ARTIFACTS)
    return report


@contextmanager
def served(runs_dir: Path, url: str = "") -> Iterator[str]:
    """Serve the dashboard in the background; yield its address.

    Of ``url`` or of the database of ``runs_dir``.
    """
    server = make_dashboard(url or database(runs_dir), runs_dir, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def stop_after_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``nas.dashboard`` end, as by Ctrl-C, as soon as its notes are written."""
    write, is_written = _Notes.write, threading.Event()

    def write_and_tell(notes: _Notes, **options: Any) -> None:
        write(notes, **options)
        is_written.set()

    def end(_: WSGIServer) -> None:
        assert is_written.wait(DEADLINE_S)
        is_written.clear()
        raise KeyboardInterrupt

    monkeypatch.setattr(_Notes, "write", write_and_tell)
    monkeypatch.setattr(WSGIServer, "serve_forever", end)


def attributes(study: optuna.Study) -> dict[str, object]:
    """The study's system attributes as they stand in its storage."""
    return dict(study._storage.get_study_system_attrs(study._study_id))
