"""Questions and answers between workers and their parent, by two connections to one database as in real life."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import Trial

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.engines.local.measure_requests import pause_training, request_measurement, serve_requests
from nas.study.recovery import requeue_trial
from nas.study.storage.opening import open_storage, open_study
from nas.study.trial_attributes import MeasuredLatency, distributions, record_candidate
from tests.deadline import DEADLINE_S
from tests.study.fakes import MS_PER_GMAC, PARETO, Stopwatch, mobilenet_v1, pricer

SMALL, LARGE = {"width": 0.25, "resolution_px": 128}, {"width": 0.5, "resolution_px": 128}
PRICES = pricer(mobilenet_v1())


def opened(folder: Path) -> optuna.Study:
    """One more connection to the study."""
    return open_study(open_storage(f"sqlite:///{folder / 'optuna.db'}"), "fake", PARETO, {})


def begun(study: optuna.Study, genotype: dict[str, Any]) -> Trial:
    """A trial as its worker has it when it comes to measuring."""
    study.enqueue_trial(genotype)
    trial = study.ask(distributions(PRICES.space.parameters))
    record_candidate(trial, PRICES.price(trial.params), has_interval=False)
    return trial


def asked(folder: Path, *genotypes: dict[str, Any]) -> tuple[list[threading.Thread], list[MeasuredLatency | str]]:
    """Workers that ask for these networks and keep what they are told."""
    study, told = opened(folder), []

    def work(trial: Trial) -> None:
        try:
            told.append(request_measurement(opened(folder), trial))
        except NasError as error:
            told.append(str(error))

    workers = [threading.Thread(target=work, args=(begun(study, genotype),), daemon=True) for genotype in genotypes]
    for worker in workers:
        worker.start()
    return workers, told


def serve(folder: Path, workers: list[threading.Thread], measure: Callable[[Any], list[MeasuredLatency]]) -> None:
    """Answer until nobody waits any more."""
    study, give_up = opened(folder), time.monotonic() + DEADLINE_S
    while any(worker.is_alive() for worker in workers) and time.monotonic() < give_up:
        serve_requests(study, PRICES, measure)
        time.sleep(0.02)
    assert not any(worker.is_alive() for worker in workers)


def test_each_network_is_measured_once_and_every_worker_is_told(tmp_path: Path) -> None:
    stopwatch = Stopwatch(MS_PER_GMAC)
    workers, told = asked(tmp_path, SMALL, LARGE, SMALL)
    serve(tmp_path, workers, stopwatch)
    small, large = (PRICES.price(genotype).latency.latency_ms for genotype in (SMALL, LARGE))
    assert [said.latency_ms for said in sorted(told)] == pytest.approx([small, small, large])
    assert {said.spread_ms for said in told} == {0.001}
    assert len(set(stopwatch.timed)) == len(stopwatch.timed) == 2


def test_a_failure_is_told_to_the_worker_that_asked(tmp_path: Path) -> None:
    def trouble(_: int, arch: ArchSpec) -> None:
        if arch.arch_id == PRICES.price(LARGE).arch.arch_id:
            raise RuntimeError("no such kernel")

    workers, told = asked(tmp_path, LARGE, SMALL)
    serve(tmp_path, workers, Stopwatch(MS_PER_GMAC, trouble))
    assert "no such kernel" in told and any(isinstance(said, MeasuredLatency) for said in told)


def test_nobody_is_measured_for_a_worker_that_is_gone(tmp_path: Path) -> None:
    study, stopwatch = opened(tmp_path), Stopwatch(MS_PER_GMAC)
    trial = begun(study, SMALL)
    study._storage.set_trial_system_attr(trial._trial_id, "nas:measure", {"state": "asked"})
    requeue_trial(study, study.trials[0])
    serve_requests(opened(tmp_path), PRICES, stopwatch)
    assert stopwatch.timed == []


def state_of(process: BaseProcess) -> str:
    """The kernel's letter for what a process does: T is stopped."""
    return Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(") ")[2][0]


def test_workers_stand_still_while_their_parent_measures() -> None:
    worker, gone = (multiprocessing.get_context("spawn").Process(target=time.sleep, args=(s,)) for s in (DEADLINE_S, 0))
    worker.start()
    gone.start()
    gone.join()
    give_up = time.monotonic() + DEADLINE_S
    try:
        with pytest.raises(NasError), pause_training([worker, gone]):
            while state_of(worker) != "T" and time.monotonic() < give_up:
                time.sleep(0.01)
            assert state_of(worker) == "T"
            raise NasError("cannot be measured")
        while state_of(worker) == "T" and time.monotonic() < give_up:
            time.sleep(0.01)
        assert state_of(worker) != "T"
    finally:
        worker.kill()
        worker.join()
