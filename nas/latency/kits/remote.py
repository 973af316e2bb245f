"""A kit on a device that is connected: pushed and run, going on where it was."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nas.core.progress import ProgressCallback
from nas.latency.kits.manifest import Kit
from nas.latency.kits.transport import DeviceLostError, Transport, file_sizes, output_lines, setting_words
from nas.latency.kits.writer import DEVICE_FILES, NETWORK_LIST, RUN_SCRIPT

_PROGRESS: Final = re.compile(r"\[(\d+)/(\d+)\] (.*)")


def push_kit(kit: Kit, folder: Path, device: Transport, progress: ProgressCallback | None = None) -> int:
    """Copy what the device lacks of the kit in ``folder``.

    Returns the number of files. A file of another size is one of which only a part arrived. Raises: NasError.
    """
    there = file_sizes(device)
    names = [*kit.files, *DEVICE_FILES, NETWORK_LIST]
    absent = [name for name in names if there.get(name) != (folder / name).stat().st_size]
    if absent:
        device.push(folder, absent, progress)
    return len(absent)


def run_kit(
    device: Transport,
    *,
    tool_path: str | None = None,
    run_with: str | None = None,
    progress: ProgressCallback | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> None:
    """Run the kit on the device until all its networks are measured.

    ``tool_path``: of the benchmark tool there. ``run_with``: words before its command. ``progress(done, total)``:
    called with counts of networks. ``say``: called with lines about networks on which the tool fails.

    Raises: NasError if the tool is missing or fails; DeviceLostError if the device vanishes.
    """
    settings = setting_words({"TOOL": tool_path or "", "RUN_WITH": run_with or ""})
    script = f"cd {shlex.quote(device.folder)} && {settings} sh {RUN_SCRIPT}"
    done = "no network"
    try:
        for line in output_lines(device, script):
            if found := _PROGRESS.match(line):
                done = f"{found[1]} of {found[2]} networks"
                if progress:
                    progress(int(found[1]), int(found[2]))
                if "; failed: " in found[3]:
                    say(line)
    except DeviceLostError as error:
        raise DeviceLostError(f"{str(error).rstrip('.')}, after {done}; the same command goes on there.") from None
