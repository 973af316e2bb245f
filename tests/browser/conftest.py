"""Debian's Chromium without a screen, and a small real study for it to look at."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from nas import search
from tests.deadline import DEADLINE_S
from tests.paths import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

TIMEOUT_MS: Final = 1000 * DEADLINE_S  # of whatever a page is waited for
NAME: Final = "looked-at"
# Five trainings of a moment each; of the 16 networks only the largest is above the limit, and is tried.
SEARCH: Final = (
    "+space=mobilenet_v1", "latency=macs", "latency.ms_per_gmac=30", "constraint.latency_ms=14", "estimator=proxy",
    "data=digits", "proxy=tiny", "proxy.epochs=3", "data.subset=100", f"study.name={NAME}", "study.n_trials=5",
)  # fmt: skip

Look = Callable[[str, int], "Page"]


@pytest.fixture(scope="package")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``runs_dir`` of a finished search."""
    folder = tmp_path_factory.mktemp("looked_at")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert search.command([*SEARCH]) == 0
    return folder / "runs"


@pytest.fixture(scope="package")  # while it runs, no other test of its thread could start an event loop
def browser() -> Iterator[Browser]:
    """A browser; tests skip, saying so, where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        # Chromium's own sandbox does not start for root, which is who runs tests in a container.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=TIMEOUT_MS)
        yield browser
        browser.close()


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    """Opens an address in a window of so many px; afterwards nothing may have left the machine or gone wrong."""
    faults: list[str] = []

    def guard(route: Route) -> None:
        if route.request.url.startswith(("file://", "http://127.0.0.1:", "data:", "blob:")):
            route.continue_()
        else:
            faults.append(f"asked for {route.request.url}")
            route.abort()

    context = browser.new_context(color_scheme="light")
    context.set_default_timeout(TIMEOUT_MS)
    context.route("**/*", guard)

    def opened(address: str, width_px: int) -> Page:
        page = context.new_page()
        page.set_viewport_size({"width": width_px, "height": 900})
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address)
        return page

    yield opened
    context.close()
    assert not faults


def fits(page: Page) -> bool:
    """Whether the page itself needs no scrolling from side to side; wide things in it may."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def prints(page: Page) -> bool:
    """Whether all of a page stands on A4 between margins of 1 cm, which are 96 px an inch."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 718, "height": 1000})
    return fits(page) and page.pdf(format="A4").startswith(b"%PDF-")


@pytest.fixture(scope="package")
def dashboard(runs: Path) -> Iterator[str]:
    """The address of ``nas.dashboard`` on that search, started as a user starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nas.dashboard", f"runs_dir={runs}", "port=0"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/dashboard/", process.stdout.readline())
        assert found
        yield found[0]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
