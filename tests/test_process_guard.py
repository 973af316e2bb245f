"""Tests that a killed test run leaves no process and no scratch folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.deadline import DEADLINE_S
from tests.paths import ROOT
from tests.process_guard import marked_processes

# A child in a session of its own, one without its parent, and one that stands still and whose environment is empty.
RUN = """
import os, signal, subprocess, sys
from tests.process_guard import MARK, start_guard
folder = start_guard()
(folder / "data").mkdir()
sleep = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(3600)"]
quiet = "stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL"
daemon = f"import subprocess; print(subprocess.Popen({sleep!r}, {quiet}, start_new_session=True).pid)"
pids = [subprocess.Popen(sleep, stdout=subprocess.DEVNULL, start_new_session=True).pid]
pids += [int(subprocess.check_output([sys.executable, "-I", "-S", "-c", daemon]))]
bare = f"import subprocess as s, time; print(s.Popen({sleep!r}, env={{}}).pid, flush=True); time.sleep(3600)"
parent = subprocess.Popen([sys.executable, "-I", "-S", "-c", bare], stdout=subprocess.PIPE)
pids += [parent.pid, int(parent.stdout.readline())]
os.kill(pids[-1], signal.SIGSTOP)
print(os.environ[MARK], folder, *pids, flush=True)
sys.stdin.read()
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_a_run_that_is_killed_leaves_no_process_and_no_folder_behind() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdin is not None and run.stdout is not None
    token, folder, *numbers = run.stdout.readline().split()
    pids = [int(number) for number in numbers]
    assert len(pids) == 4 and set(pids) <= set(marked_processes(token)) and all(map(is_running, pids))
    run.kill()
    run.communicate()
    give_up = time.monotonic() + DEADLINE_S
    while (any(map(is_running, pids)) or Path(folder).exists()) and time.monotonic() < give_up:
        time.sleep(0.05)
    left = [pid for pid in pids if is_running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left and not Path(folder).exists()
