"""A device that is reached by adb: an Android phone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.progress import ProgressCallback
from nas.latency.kits.transport import DeviceLostError, Finished, finish, program, unexplained

_INSTALL: Final = "install Android's platform-tools (https://developer.android.com/tools/releases/platform-tools)"
_STATES: Final = {
    "unauthorized": "allow this computer on its screen",
    "offline": "plug it in again, or run adb reconnect",
    "no permissions": "see https://developer.android.com/tools/device (udev rules)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdbDevice:
    """An Android device by its ``serial`` number; ``folder``: of the kit, absolute."""

    serial: str
    folder: str

    @property
    def name(self) -> str:
        return self.serial

    def shell(self, script: str) -> list[str]:
        """Command here that runs ``script`` there."""
        return [*self._adb(), "shell", script]

    def binary(self, script: str) -> list[str]:
        """Command here that runs ``script`` there, and leaves its stdout as it is."""
        return [*self._adb(), "exec-out", script]

    def push(self, folder: Path, names: Sequence[str], progress: ProgressCallback | None) -> None:
        """Copy files one by one. Raises: NasError."""
        for done, name in enumerate(names):
            if progress:
                progress(done, len(names))
            finished = finish([*self._adb(), "push", str(folder / name), f"{self.folder}/{name}"])
            if finished.code != 0:
                raise self.explain(finished)

    def explain(self, finished: Finished) -> NasError:
        """Error of one line about a command that failed."""
        what = f"serial {self.serial}"
        if "No space left" in finished.output:
            return NasError(f"{what}: no space is left on the device; free some.")
        state = finish([*self._adb(), "get-state"])
        if state.code != 0 or state.last_line != "device":
            return DeviceLostError(f"{what}: the device is gone ({state.last_line or 'adb does not see it'})")
        return unexplained(what, finished)

    def _adb(self) -> list[str]:
        return [program("adb", _INSTALL), "-s", self.serial]


def find_adb_device(serial: str | None, folder: str) -> AdbDevice:
    """The device of that serial number, or the only one there is.

    Raises: NasError if there is none, several to choose from, or it does not allow this computer.
    """
    finished = finish([program("adb", _INSTALL), "devices"])
    if finished.code != 0:
        raise unexplained("adb devices", finished)
    states = dict(re.findall(r"^(\S+)\s+(device|unauthorized|offline|no permissions|\w+)\b", _listed(finished), re.M))
    if serial is not None and (not isinstance(serial, str) or serial not in states):
        if not states:
            raise NasError(f"serial {quoted(serial)}: adb sees no device; plug it in and allow USB debugging.")
        raise unknown_choice("serial", serial, tuple(states))
    ready = [name for name, state in states.items() if state == "device"]
    if serial is None and len(ready) > 1:
        raise NasError(f"adb sees {len(ready)} devices: name one, serial={' or serial='.join(ready)}.")
    chosen = serial if serial is not None else next(iter([*ready, *states]), None)
    if chosen is None:
        raise NasError("adb sees no device; plug it in, and allow USB debugging in its developer options.")
    state = states[chosen]
    if state != "device":
        raise NasError(f"serial {chosen}: adb says {state}; {_STATES.get(state, 'wait until it has started')}.")
    return AdbDevice(serial=chosen, folder=folder)


def _listed(finished: Finished) -> str:
    """Lines of ``adb devices`` on devices; the daemon prints others before them."""
    return finished.output.partition("List of devices attached")[2]
