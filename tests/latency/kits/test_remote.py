"""Tests of devices that are reached by ssh and adb, with stand-ins for both that work on a folder here."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.core.errors import NasError
from nas.latency.kits.adb import AdbDevice, find_adb_device
from nas.latency.kits.manifest import Kit
from nas.latency.kits.remote import push_kit, run_kit
from nas.latency.kits.ssh import SshDevice
from nas.latency.kits.transport import (
    DeviceLostError,
    Transport,
    check_reachable,
    file_sizes,
    finish,
    pull_results,
)
from tests.latency.kits.tiny_kit import executable, install_stand_ins, install_tool, write_tiny_kit


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Kit]:
    folder = tmp_path_factory.mktemp("kits") / "kit"
    return folder, write_tiny_kit(folder)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with the stand-ins, first on the PATH; the devices are in its folder ``home``."""
    install_stand_ins(tmp_path, monkeypatch)
    return tmp_path


def ssh_device(place: Path) -> Transport:
    return SshDevice(host="user@box", folder="nas-kit", port=2222)


def adb_device(place: Path) -> Transport:
    return find_adb_device(None, str(place / "home/nas-kit"))


@pytest.mark.parametrize("connect", [ssh_device, adb_device])
def test_a_kit_is_pushed_run_and_pulled(
    written: tuple[Path, Kit], place: Path, connect: Callable[[Path], Transport]
) -> None:
    folder, kit = written
    device = connect(place)
    check_reachable(device)
    assert file_sizes(device) == {}
    assert push_kit(kit, folder, device) == 13 + 4
    there = place / "home/nas-kit"
    assert (there / "networks/012.onnx").read_bytes() == (folder / "networks/012.onnx").read_bytes()
    assert push_kit(kit, folder, device) == 0
    part = there / "networks/004.onnx"
    part.write_bytes(part.read_bytes()[:100])  # of a push that was interrupted
    assert push_kit(kit, folder, device) == 1
    assert part.read_bytes() == (folder / "networks/004.onnx").read_bytes()
    tool = install_tool(place / "home")
    (there / "fails").write_text("003\n")
    seen: list[tuple[int, int]] = []
    said: list[str] = []
    run_kit(device, tool_path=str(tool), progress=lambda *counts: seen.append(counts), say=said.append)
    assert seen == [(done, 12) for done in range(1, 13)] and ["003" in line for line in said] == [True]
    results = place / "results"
    assert pull_results(device, results) == 11 + 1 + 1  # networks, the failed one, device.txt
    assert (results / "012.txt").read_bytes() == (there / "results/012.txt").read_bytes()


def test_a_connection_that_ends_is_gone_on_with(written: tuple[Path, Kit], place: Path) -> None:
    folder, kit = written
    device = ssh_device(place)
    push_kit(kit, folder, device)
    tool = str(install_tool(place / "home"))
    (place / "breaks").write_text("6")
    with pytest.raises(
        DeviceLostError, match=r"host user@box: the connection ended \(client_loop: send dis.* after 5 of 12 ne"
    ):
        run_kit(device, tool_path=tool)
    (place / "breaks").unlink()
    (place / "home/nas-kit/results/running").unlink(missing_ok=True)
    done = len(list((place / "home/nas-kit/results").glob("0*.txt")))
    assert 5 <= done < 12
    seen: list[tuple[int, int]] = []
    run_kit(device, tool_path=tool, progress=lambda *counts: seen.append(counts))
    assert len(seen) == 12 - done


def test_a_phone_that_is_unplugged_is_gone_on_with(written: tuple[Path, Kit], place: Path) -> None:
    folder, kit = written
    device = adb_device(place)
    push_kit(kit, folder, device)
    unplug = f'#!/bin/sh\necho >"{place}/devices"\nkill -9 $PPID\n'
    tool = str(executable(place / "home/tool", unplug))
    with pytest.raises(DeviceLostError, match=r"serial R58M: the device is gone .* after no network; the same command"):
        run_kit(device, tool_path=tool)


def test_what_is_missing_on_the_device_is_said(written: tuple[Path, Kit], place: Path) -> None:
    folder, kit = written
    device = ssh_device(place)
    push_kit(kit, folder, device)
    with pytest.raises(NasError, match=r"^host user@box: TOOL /no/tool: there is no such program on this device\.$"):
        run_kit(device, tool_path="/no/tool")
    with pytest.raises(NasError, match="host user@box: there are no results on the device"):
        pull_results(device, place / "results")


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("user@box: Permission denied (publickey).", r"host user@box: ssh refuses \(.*ssh-copy-id user@box"),
        ("Host key verification failed.", "ssh does not know its key; connect once by hand: ssh user@box"),
        ("ssh: connect to host box port 22: Connection refused", "cannot be reached .*are host= and ssh_port= right"),
        ("ssh: Could not resolve hostname box", "cannot be reached .*Could not resolve"),
    ],
)
def test_an_ssh_that_refuses_is_one_line(place: Path, says: str, words: str) -> None:
    (place / "says").write_text(f"{says}\n")
    with pytest.raises(NasError, match=words) as raised:
        check_reachable(ssh_device(place))
    assert not isinstance(raised.value, DeviceLostError) and "\n" not in str(raised.value)


def test_ssh_asks_nothing_and_takes_the_port(place: Path) -> None:
    check_reachable(ssh_device(place))
    log = (place / "log").read_text()
    assert "-o BatchMode=yes" in log and "-p 2222 user@box true" in log


def test_machines_behind_one_host_have_names_of_their_own() -> None:
    names = {SshDevice(host="box", folder="kit", port=port).name for port in (None, 2201, 2202)}
    assert names == {"box", "box:2201", "box:2202"}


@pytest.mark.parametrize("host", ["", "-oProxyCommand=sh", "two words", 3])
def test_a_host_that_ssh_would_misread_is_refused(host: str) -> None:
    with pytest.raises(NasError, match="must be a host as ssh takes it"):
        SshDevice(host=host, folder="kit")


def test_no_space_is_said(written: tuple[Path, Kit], place: Path) -> None:
    folder, kit = written
    (place / "full").touch()
    with pytest.raises(NasError, match="serial R58M: no space is left on the device"):
        push_kit(kit, folder, adb_device(place))
    executable(
        place / "ssh", "#!/bin/sh\ncat >/dev/null\necho 'tar: write error: No space left on device' >&2\nexit 1\n"
    )
    device = ssh_device(place)
    with pytest.raises(NasError, match="host user@box: no space is left there; free some"):
        device.push(folder, kit.files, None)


@pytest.mark.parametrize(
    ("devices", "serial", "words"),
    [
        ("", None, "adb sees no device; plug it in, and allow USB debugging"),
        ("", "R58M", "serial 'R58M': adb sees no device"),
        (
            "R58M\tdevice\nemulator-5554\tdevice\n",
            None,
            "adb sees 2 devices: name one, serial=R58M or serial=emulator-5554",
        ),
        ("R58M\tdevice\n", "R58N", "unknown serial 'R58N': choose from R58M. Did you mean 'R58M'"),
        ("R58M\tunauthorized\n", None, "serial R58M: adb says unauthorized; allow this computer on its screen"),
        ("R58M\toffline\n", "R58M", "serial R58M: adb says offline; plug it in again"),
        ("R58M\tno permissions (missing udev rules); see [http]\n", None, "adb says no permissions; see https"),
        ("R58M\tsideload\n", None, "adb says sideload; wait until it has started"),
    ],
)
def test_the_phone_is_chosen_or_the_problem_named(place: Path, devices: str, serial: str | None, words: str) -> None:
    (place / "devices").write_text(devices)
    with pytest.raises(NasError, match=words) as raised:
        find_adb_device(serial, "/data/local/tmp/kit")
    assert "\n" not in str(raised.value)


def test_of_several_phones_the_one_that_is_ready_is_taken(place: Path) -> None:
    (place / "devices").write_text("R58M\tunauthorized\nR58N\tdevice\n")
    assert find_adb_device(None, "/kit") == AdbDevice(serial="R58N", folder="/kit")


def test_a_program_that_is_not_here_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NasError, match="adb is not installed here: install Android's platform-tools"):
        find_adb_device(None, "/kit")
    with pytest.raises(NasError, match="ssh is not installed here: install OpenSSH's client"):
        check_reachable(SshDevice(host="box", folder="kit"))


def test_an_archive_writes_nothing_but_results(place: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in ("001.txt", "../../evil.txt", "run.sh", ".bashrc", "002.txt"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        link = tarfile.TarInfo("003.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    (place / "archive").write_bytes(data.getvalue())
    executable(place / "ssh", f"#!/bin/sh\ncat '{place}/archive'\n")
    assert pull_results(ssh_device(place), place / "results") == 3
    assert sorted(path.name for path in (place / "results").iterdir()) == ["001.txt", "002.txt", "evil.txt"]
    (place / "archive").write_bytes(b"Welcome to this machine!\n" * 40)
    with pytest.raises(NasError, match="host user@box: the results did not arrive whole"):
        pull_results(ssh_device(place), place / "results")


@pytest.mark.parametrize("start", [b"", b"Welcome!"])
def test_a_device_that_does_not_stop_sending_is_left(place: Path, start: bytes) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("001.txt"), io.BytesIO())
    (place / "archive").write_bytes(start + data.getvalue())
    executable(place / "ssh", f"#!/bin/sh\ncat '{place}/archive'\nexec cat /dev/zero\n")
    with pytest.raises(NasError, match=r"host user@box: the (results did not arrive whole|device does not stop send)"):
        pull_results(ssh_device(place), place / "results")


def test_a_command_s_output_and_code_are_known() -> None:
    finished = finish(["sh", "-c", "echo one; echo two >&2; echo; exit 7"])
    assert (finished.code, finished.last_line) == (7, "two")
