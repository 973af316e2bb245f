"""Cost of ask and tell besides a training, by sampler, storage and trials.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/overhead.py [--sizes 100 1000 10000] [--samplers tpe]
    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/overhead.py --samplers --baseline ../earlier --rounds 3

A trial is all that a worker does for it except training: ask, screen, record one epoch, tell; on the published mixnet
space (68 choices) with a limit. Samplers are timed in memory and storages with random search, each storage by a new
process that has not seen its study before. CPU time of the worker alone: not of a database's server. The studies are
filled with synthetic trials, databases with 100 of them and copies. With ``--baseline``, another checkout, its workers
and those of this one take turns on the same studies, ``--rounds`` times. A quarter of an hour of CPU.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import grpc
import optuna
import yaml
from filled import fill, multiply
from hydra.utils import instantiate
from optuna.trial import FrozenTrial, TrialState

from nas.estimators.base import Evaluation
from nas.methods.search.ask_tell import SearchAskTell
from nas.methods.search.settings import SAMPLER_NAMES, SamplerSettings, StudySettings
from nas.reporting.search_columns import records_to_csv
from nas.reporting.search_report import SearchReport, render_search_report
from nas.study.objective import ObjectiveSettings
from nas.study.storage.opening import open_storage, open_study
from nas.study.storage.urls import checked_url
from nas.study.trial_attributes import trial_records
from nas.study.trial_loop import TrialTask
from tests.postgres_server import Postgres
from tests.study.fakes import CONF, accuracy_of, epoch_result, pricer

SIZES = (100, 1_000, 10_000)
STEPS = 10
LIMIT_MS = 20.0
OBJECTIVE = ObjectiveSettings()
GP_MOST = 1_000
FILLED = 100  # trials that Optuna writes into a database; more are copies
STORAGES = ("sqlite", "journal", "postgresql", "grpc")
SPACE = instantiate(yaml.safe_load((CONF / "mixnet.yaml").read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one trial in the middle of a study of ``trials``: CPU and wall ms; ``first_s``: CPU s of a worker's first.

    ``build``: which code it was.
    """

    sampler: str
    storage: str
    trials: int
    build: str = "this"
    first_s: float
    cpu_ms: float
    wall_ms: float

    @property
    def line(self) -> str:
        """The figures with their units."""
        return (
            f"{self.build:8} {self.sampler:7} {self.storage:10} {self.trials:6} trials: a trial {self.cpu_ms:7.1f} "
            f"CPU-ms, {self.wall_ms:7.1f} ms on the clock; a worker's first {self.first_s:6.2f} CPU-s"
        )


def search_on(study: optuna.Study, sampler: str) -> SearchAskTell:
    """A worker on the published mixnet space: 68 choices, under a limit, latency by multiply-adds."""
    return SearchAskTell(
        study=study,
        pricer=pricer(SPACE, latency_ms=LIMIT_MS),
        objective=OBJECTIVE,
        sampler=SamplerSettings(name=sampler),
        settings=StudySettings(n_trials=10**6),
        epochs=1,
        worker="benchmark",
    )


def step(search: SearchAskTell) -> None:
    """Ask until there is a training, and tell what it gave."""
    while not isinstance(task := search.ask(), TrialTask):
        pass
    accuracy = accuracy_of(task.arch)
    search.report_epoch(task, epoch_result(1, accuracy=accuracy))
    search.tell(task, Evaluation(accuracy=accuracy, cpu_s=1.0, duration_s=1.0))


def example() -> FrozenTrial:
    """A trial of a real search."""
    study = new_study(optuna.storages.InMemoryStorage())
    step(search_on(study, "random"))
    return next(trial for trial in study.trials if trial.state is TrialState.COMPLETE)


def filled(study: optuna.Study, trials: int, sampler: str = "random") -> optuna.Study:
    """``study`` with so many finished trials."""
    fill(study, trials, SPACE, sampler, example())
    return study


@contextmanager
def database_url(storage: str) -> Iterator[str]:
    """Where trials are kept in the end, empty; taken away again."""
    with tempfile.TemporaryDirectory() as folder:
        if storage != "postgresql":
            yield f"{'journal' if storage == 'journal' else 'sqlite'}:///{folder}/study"
            return
        Path(folder).chmod(0o755)  # the server is another user's
        server = Postgres(Path(folder))
        try:
            yield server.url()
        finally:
            server.remove()


@contextmanager
def served(url: str) -> Iterator[str]:
    """The database at ``url`` behind Optuna's proxy, a process of its own whose CPU time is not counted."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    code = f"import optuna; optuna.storages.run_grpc_proxy_server(optuna.storages.get_storage({url!r}), port={port})"
    server = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])
    try:
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=120)
        yield f"grpc://localhost:{port}"
    finally:
        server.terminate()
        server.wait()


def cost(
    opened: Callable[[], optuna.storages.BaseStorage], *, sampler: str, storage: str, trials: int, steps: int = STEPS
) -> Cost:
    """Time a new worker's first trial, its opening of the storage included, and then the mean of ``steps``."""
    start = time.process_time()
    search = search_on(new_study(opened()), sampler)
    step(search)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(steps):
        step(search)
    return Cost(
        sampler=sampler,
        storage=storage,
        trials=trials,
        first_s=round(cpu - start, 2),
        cpu_ms=round(1e3 * (time.process_time() - cpu) / steps, 1),
        wall_ms=round(1e3 * (time.perf_counter() - wall) / steps, 1),
    )


def by_sampler(sampler: str, sizes: Sequence[int]) -> Iterator[Cost]:
    """One sampler, in memory, where nothing else costs."""
    storage = optuna.storages.InMemoryStorage()
    for trials in sizes:
        filled(new_study(storage), trials, sampler)
        steps = STEPS if sampler != "gp" else 2
        yield cost(lambda: storage, sampler=sampler, storage="memory", trials=trials, steps=steps)


def by_storage(storage: str, trials: int, builds: Mapping[str, str], rounds: int) -> Iterator[Cost]:
    """One storage, with the sampler that costs nothing, by workers of each build in turn.

    ``builds``: folders of the code by name.
    """
    with database_url(storage) as url, ExitStack() as stack:
        known = trials if storage == "journal" else FILLED
        filled(new_study(open_storage(url)), known)
        if known < trials:
            multiply(checked_url(url), known, trials)
        if storage == "grpc":
            url = stack.enter_context(served(url))
        for _ in range(rounds):
            for build, folder in builds.items():
                yield replace(worker_cost(url, folder), storage=storage, trials=trials, build=build)


def worker_cost(url: str, folder: str) -> Cost:
    """What a new process with the code in ``folder`` measures on the study at ``url``."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--worker", url],
        env={**os.environ, "PYTHONPATH": folder},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Cost(**json.loads(done.stdout))


def ratio_lines(costs: Sequence[Cost]) -> Iterator[str]:
    """How many times as much the baseline costs: median, least and most of the rounds."""
    for storage, trials in dict.fromkeys((one.storage, one.trials) for one in costs):
        own, other = (
            [one for one in costs if (one.storage, one.trials, one.build) == (storage, trials, build)]
            for build in ("this", "baseline")
        )
        for name in ("first_s", "cpu_ms", "wall_ms") if own and other else ():
            ratios = sorted(getattr(b, name) / max(getattr(a, name), 0.01) for a, b in zip(own, other, strict=True))
            least, middle, most = ratios[0], statistics.median(ratios), ratios[-1]
            yield f"{storage:10} {trials:6} trials: {name:8} {middle:6.1f} times ({least:.1f} to {most:.1f})"


def new_study(storage: optuna.storages.BaseStorage) -> optuna.Study:
    """The study in ``storage``, made where there is none."""
    return open_study(storage, "overhead", OBJECTIVE, {})


def after(trials: int) -> dict[str, float]:
    """CPU-seconds of what is made of a study of ``trials`` in the end: rows, table, page."""
    study = filled(new_study(optuna.storages.InMemoryStorage()), trials)
    times = [time.process_time()]
    rows = trial_records(study)
    times.append(time.process_time())
    records_to_csv(rows)
    times.append(time.process_time())
    render_search_report(SearchReport(title="overhead", command="", facts=(), rows=tuple(rows), limit_ms=LIMIT_MS))
    times.append(time.process_time())
    names = ("rows_s", "csv_s", "page_s")
    return {name: round(end - start, 2) for name, start, end in zip(names, times, times[1:], strict=False)}


def main() -> None:
    """Print a line as soon as it is known, and everything as JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="trials in the study")
    parser.add_argument("--samplers", nargs="*", default=list(SAMPLER_NAMES))
    parser.add_argument("--storages", nargs="*", default=STORAGES)
    parser.add_argument("--baseline", help="another checkout, to be compared with")
    parser.add_argument("--rounds", type=int, default=1, help="workers of each build on each storage")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if args.worker:
        one = cost(lambda: open_storage(args.worker), sampler="random", storage="", trials=0)
        print(json.dumps(asdict(one)))
        return
    builds = {"this": str(Path(__file__).parents[2])} | ({"baseline": args.baseline} if args.baseline else {})
    found = []
    for sampler in args.samplers:
        for one in by_sampler(sampler, [size for size in args.sizes if sampler != "gp" or size <= GP_MOST]):
            print(one.line, flush=True)
            found.append(one)
    for storage in args.storages:
        for trials in args.sizes:
            for one in by_storage(storage, trials, builds, args.rounds):
                print(one.line, flush=True)
                found.append(one)
    for line in ratio_lines(found):
        print(line)
    print(json.dumps({"costs": [asdict(one) for one in found], "after": after(max(args.sizes))}))


if __name__ == "__main__":
    main()
