"""Trials per hour and CPU-seconds per trial with 1, 2 and 4 workers, by engine.

Run from the root: ``python tests/benchmarks/workers.py [--trials 12] [--epochs 4] [--rounds 1]``. Every search is a
process of its own on the handwritten digits. ``per hour`` counts from the first result to the last, ``first_s`` is what
a user waits for the first one, and CPU-seconds are of all processes that a search consists of, from start to results;
``training`` is what the trainings themselves took of them. Figures of several rounds are medians. In the end it prints
what asking and telling cost in studies of 100, 1,000 and 10,000 trials with the default sampler and storage, and with
random search; ``tests/benchmarks/overhead.py`` does that for all samplers and storages.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna

from nas.study.storage.opening import open_storage
from nas.study.trial_attributes import trial_records

ROOT = Path(__file__).resolve().parents[2]
WORKERS = (1, 2, 4)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
OVERHEAD = ("--samplers", "random", "tpe", "--storages", "sqlite")
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one search: trials per hour, seconds to the first of them; CPU-s per trial, in all and in training."""

    engine: str
    workers: int
    per_hour: float
    first_s: float
    cpu_s: float
    training_cpu_s: float

    @property
    def line(self) -> str:
        return (
            f"{self.engine} x{self.workers}: {self.per_hour:.0f} trials per hour, the first in {self.first_s:.0f} s; "
            f"{self.cpu_s:6.2f} CPU-s per trial, {self.training_cpu_s:.2f} in training"
        )


class CpuOfAll:
    """Within, the CPU time of all processes below this one is looked at five times a second.

    What the kernel adds up for a parent lacks those whose parent ignores their end, as Ray's does.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str], float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> CpuOfAll:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # processes whose parent is gone become ours
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ChildProcessError):
            while True:
                os.wait()
        self._over.set()
        self._thread.join()

    @property
    def total_s(self) -> float:
        return sum(self._seen.values())

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            for pid in list(_below(os.getpid())):
                with suppress(OSError):  # it has just ended
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    self._seen[pid, fields[19]] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _below(pid: int) -> Iterator[int]:
    """Children of a process, and theirs."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                yield child
                yield from _below(child)


def measure(engine: str, workers: int, *, trials: int, epochs: int) -> Figures:
    """One search in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "nas.search", "space=mobilenet_v1", "latency=macs", "estimator=proxy", "data=digits",
            "proxy=tiny", "sampler=random", f"proxy.epochs={epochs}", f"study.n_trials={trials}",
            "study.name=scaling", f"engine={engine}", f"engine.workers={workers}",
        ]  # fmt: skip
        with CpuOfAll() as cpu:
            started_s = time.time()
            done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        with closing(open_storage(f"sqlite:///{folder}/runs/optuna.db")) as storage:
            study = optuna.load_study(study_name="scaling", storage=storage)
            told = study.trials
            rows = [row for row in trial_records(study) if row.outcome == "trained"]
    first_s, *_, last_s = sorted(told[row.number].datetime_complete.timestamp() for row in rows)
    return Figures(
        engine=engine,
        workers=workers,
        per_hour=3600 * (len(rows) - 1) / (last_s - first_s),
        first_s=first_s - started_s,
        cpu_s=cpu.total_s / len(rows),
        training_cpu_s=statistics.fmean(row.cpu_s or 0.0 for row in rows),
    )


def middle(rounds: list[Figures]) -> Figures:
    """The median of each figure."""
    names = ("per_hour", "first_s", "cpu_s", "training_cpu_s")
    found = {name: round(statistics.median(getattr(one, name) for one in rounds), 2) for name in names}
    return Figures(engine=rounds[0].engine, workers=rounds[0].workers, **found)


def overhead() -> dict[str, Any]:
    """What a study costs beside its trainings: the lines of that benchmark are passed on, its figures come back."""
    command = [sys.executable, str(Path(__file__).with_name("overhead.py")), *OVERHEAD]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if not line.startswith("{"):
                print(line, end="", flush=True)
    if process.returncode:
        raise SystemExit(process.returncode)
    return dict(json.loads(lines[-1]))


def main() -> None:
    """Print a line per search as soon as it is known, and everything as JSON at the end."""
    engines = ["local", *(["ray"] if find_spec("ray") else [])]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--engines", nargs="*", default=engines)
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found: dict[tuple[str, int], list[Figures]] = {}
    for _ in range(args.rounds):
        for engine in args.engines:
            for workers in args.workers:
                one = measure(engine, workers, trials=args.trials, epochs=args.epochs)
                found.setdefault((engine, workers), []).append(one)
                print(one.line, flush=True)
    searches = [asdict(middle(one)) for one in found.values()]
    cores = len(os.sched_getaffinity(0))
    print(json.dumps({"cores": cores, "searches": searches, "overhead": overhead()}))


if __name__ == "__main__":
    main()
