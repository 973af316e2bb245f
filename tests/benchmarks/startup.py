"""CPU time of commands that train nothing: lists, help, mistakes, reports, comparisons, the layers of a network.

    python tests/benchmarks/startup.py [--before CHECKOUT [--before-python PYTHON]] [--rounds 5]

With ``--before`` another commit's checkout, which must know ``estimator=proxy``, runs the same commands in turns with
this one, so that a busy machine slows both alike; ``--before-python`` is its interpreter, where that is another than
this one. Times are of the whole child process, user and system, on one thread, without the first run of each, which
compiles. A search of six candidates and a grid of four networks with two seeds are made once, by the earlier commit if
there are two, in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
STUDIES: Final = (
    ("nas.search", "space=mobilenet_v1", "estimator=proxy", "data=digits", "proxy=tiny", "study.name=search",
     "study.n_trials=6"),
    ("nas.compound_grid", "baseline=mobilenetv2_035", "phi=1", "grid.alpha=[1.0,1.4]", "grid.beta=[1.0,1.4]",
     "grid.gamma=[1.0,1.2]", "grid.realised_tolerance=0.5", "race.seeds=2", "race.finalists=2", "study.name=grid",
     "proxy.resolution_px=8", "proxy.epochs=1", "proxy.width_multiplier=0.3", "proxy.min_map_px=1"),
)  # fmt: skip
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "help": ("nas.search", "--help"),
    "config error": ("nas.search", "space=mixnet", "study.n_trials=0"),
    "list": ("nas.report",),
    "report of a search": ("nas.report", "study=search"),
    "report of a grid": ("nas.report", "study=grid"),
    "compare studies": ("nas.compare", "search", "grid"),
    "compare networks": ("nas.compare", "mixnet_s", "mixnet_m", "latency=macs"),
    "show": ("nas.show", "arch=mixnet_s", "latency=macs"),
}
EXIT_CODES: Final = {"config error": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A commit's files, the interpreter that runs them, and the folder that it works in."""

    root: Path
    python: Path
    folder: Path

    def cpu_s(self, command: Sequence[str], exit_code: int = 0) -> float:
        """CPU time of ``command`` in a process of its own, user and system. Raises: RuntimeError where it fails."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [self.python, "-m", *command], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != exit_code:
            raise RuntimeError(f"{' '.join(command)} in {self.root}: exit code {done.returncode}:\n{done.stderr}")
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(checkouts: Mapping[str, Checkout], rounds: int) -> dict[str, dict[str, float]]:
    """By command and checkout, the median CPU time in s over ``rounds`` that take turns."""
    samples: dict[str, dict[str, list[float]]] = {name: {which: [] for which in checkouts} for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, command in COMMANDS.items():
            for which, checkout in checkouts.items():
                taken = checkout.cpu_s(command, EXIT_CODES.get(name, 0))
                if turn:  # the first one compiled
                    samples[name][which].append(taken)
    return {name: {which: statistics.median(found) for which, found in row.items()} for name, row in samples.items()}


def main() -> None:
    """Print the table, and everything as JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--before", type=Path, help="checkout of the commit to compare with")
    parser.add_argument("--before-python", type=Path, default=Path(sys.executable), help="its interpreter")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        after = Checkout(root=ROOT, python=Path(sys.executable), folder=Path(folder, "after"))
        checkouts = {"after": after}
        if args.before:
            before = Checkout(
                root=args.before.resolve(), python=args.before_python.absolute(), folder=Path(folder, "before")
            )
            checkouts = {"before": before, **checkouts}
        first = next(iter(checkouts.values()))
        first.folder.mkdir()
        for study in STUDIES:
            first.cpu_s((*study, "data.subset=100", "latency=macs"))
        if first is not after:
            shutil.copytree(first.folder, after.folder)
        times = measure(checkouts, args.rounds)
    ratios = {name: round(row["before"] / row["after"], 2) for name, row in times.items()} if args.before else {}
    print(f"{'CPU seconds':20s}" + "".join(f"{which:>9s}" for which in checkouts) + ("    ratio" if ratios else ""))
    for name, row in times.items():
        ratio = f"{ratios[name]:9.1f}" if ratios else ""
        print(f"{name:20s}" + "".join(f"{row[which]:9.2f}" for which in checkouts) + ratio)
    load = [round(value, 1) for value in os.getloadavg()]
    print(
        f"medians of {args.rounds} runs in turns; load of the last 1, 5 and 15 minutes {load}, {os.cpu_count()} cores"
    )
    cpu_s = {name: {which: round(value, 3) for which, value in row.items()} for name, row in times.items()}
    print(json.dumps({"cpu_s": cpu_s, "times_faster": ratios, "load": load}))


if __name__ == "__main__":
    main()
