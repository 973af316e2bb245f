"""nas.dashboard on a real search as a person sees it: the plot has its points, notes and drawings show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import NAME, Look

if TYPE_CHECKING:
    from playwright.sync_api import Page

POINTS = "#graph-pareto-front .points path"
PICTURES_LOADED = "[...document.images].length > 0 && [...document.images].every((image) => image.naturalWidth > 0)"


@pytest.mark.parametrize("width_px", (1280, 400))
def test_the_study_s_page_has_the_pareto_plot_with_its_points(look: Look, dashboard: str, width_px: int) -> None:
    page = look(f"{dashboard}studies/1", width_px)
    page.locator(POINTS).first.wait_for(state="attached")
    assert page.locator(POINTS).count() == 5


@pytest.mark.parametrize("width_px", (1280, 400))
def test_the_study_s_note_tells_it_in_words_and_in_a_plot(look: Look, dashboard: str, width_px: int) -> None:
    page = look(f"{dashboard}studies/1/note", width_px)
    page.get_by_role("heading", name=f"Search {NAME}").wait_for()
    said = page.locator("body").inner_text()
    assert "5 trained" in said and "python -m nas.search" in said and "W1" in said
    page.wait_for_function(PICTURES_LOADED)


def trial(look: Look, dashboard: str, number: int) -> Page:
    page = look(f"{dashboard}studies/1/trials?numbers={number}", 1280)
    page.get_by_role("heading", name=f"Trial {number} ").wait_for()
    return page


def test_a_trial_shows_its_note_and_its_drawing(look: Look, dashboard: str) -> None:
    page = trial(look, dashboard, 0)
    page.get_by_text("The published mobilenetv1_025, for comparison.").wait_for()
    page.get_by_text("dsa_r1_k3_s1_c16").wait_for()
    page.wait_for_function(PICTURES_LOADED)
    assert page.locator("img").count() == 2  # in the note, and among the files


def test_a_trial_that_was_turned_down_says_why(look: Look, dashboard: str) -> None:
    page = trial(look, dashboard, 3)
    page.get_by_text("Not trained: beyond a limit").wait_for()
    assert "latency_ms 16.82 > 14" in page.locator("body").inner_text()
