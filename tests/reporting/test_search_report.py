"""Tests of the search report, parsed: complete, escaped, self-contained.

Its figures equal those of the specs, and it has no URL to fetch.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from html.parser import HTMLParser

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.core.errors import NasError
from nas.data.description import ClassCount, DatasetDescription
from nas.reporting.plots.pareto import pareto_svg
from nas.reporting.search_report import SearchReport, Winner, render_search_report
from nas.reporting.search_summary import losses, search_summary
from nas.study.trial_record import Outcome, TrialRecord

HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "br", "hr", "img", "link", "input"}
LINKS = {"src", "href", "xlink:href", "action", "srcset", "poster", "data"}


class Page(HTMLParser):
    """Tags that do not match, links, scripts and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in LINKS]
        self.ids += [value or "" for key, value in attrs if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def row(number: int, outcome: Outcome = Outcome.TRAINED, **fields: object) -> TrialRecord:
    return TrialRecord(number=number, outcome=outcome, **fields)


TIMES = {"latency_ms": 12.5, "predicted_ms": 12.5, "latency_low_ms": 11.0, "latency_high_ms": 14.0}


def winner(label: str, name: str, number: int, times: Mapping[str, float] = TIMES, **fields: object) -> Winner:
    return Winner(label=label, arch=zoo.get(name), row=row(number, accuracy=0.8125, **times), **fields)


def report(**fields: object) -> SearchReport:
    defaults: dict[str, object] = {"title": "Test", "command": "nas-search", "facts": (), "rows": ()}
    return SearchReport(**(defaults | fields))


@pytest.fixture(scope="module")
def full() -> SearchReport:
    files = {"spec": "winners/winner 1.yaml", "ONNX": "winners/winner_1.onnx"}
    times = {**TIMES, "measured_ms": 10.0, "measured_spread_ms": 0.25}
    first = winner("W1", "mixnet_s", 2, times, files=files, sample_logits=(1.5,))
    second = winner("W2", "mobilenetv3_large_100", 3, latency_by_path={"conv_stem": 1.0, "blocks.0.0.conv_dw": 4.0})
    rows = (
        row(0, Outcome.FAILED, reason=f"loss is nan at step 7 {HOSTILE}"),
        row(1, Outcome.INFEASIBLE, reason="latency_ms 31.2 > 20", latency_ms=31.2),
        first.row,
        second.row,
        row(4, Outcome.INFEASIBLE, reason="latency_ms 45 > 20", latency_ms=45.0),
        row(5, Outcome.DUPLICATE, reason="repeats trial 2"),
        row(6, accuracy=0.5, latency_ms=9.75, blocks=HOSTILE, arch_id="0123456789ab"),
    )
    return report(
        title=f"Search {HOSTILE}",
        command=f"nas-search space=x '{HOSTILE}'",
        facts=(("space", HOSTILE), (HOSTILE, "device")),
        rows=rows,
        winners=(first, second),
        published={6: "<b>net</b> $x^2$"},
        objective="mnasnet",
        limit_ms=20.0,
        reward={2: 0.8, 3: 0.7, 6: 0.5},
    )


@pytest.fixture(scope="module")
def html(full: SearchReport) -> str:
    return render_search_report(full)


def test_figures_of_a_winner_are_those_of_its_spec_in_full(full: SearchReport, html: str) -> None:
    text = Page(html).text
    for item in full.winners:
        cost = complexity(item.arch)
        for figure in (f"({cost.macs:,})", f"({cost.params:,})", f"({cost.peak_memory_bytes:,} bytes)"):
            assert figure in text
        assert all(block in text for strings in item.arch.strings for block in strings)
        assert item.arch.arch_id in text
    assert "81.25%" in text and "12.50 ms" in text and "11.00 to 14.00" in text


def test_measured_latency_comes_with_its_spread_and_the_error_of_the_prediction(html: str) -> None:
    text = Page(html).text
    assert "10.00 ms (spread 0.25); prediction +25.0%" in text  # 12.5 / 10
    assert "not measured" in text


def test_measured_and_predicted_latency_are_shown_together(full: SearchReport, html: str) -> None:
    text = Page(html).text
    assert "Predicted vs. measured latency" in text
    # One network, 12.5 ms in an interval of 11 to 14 ms predicted and 10 ms measured: outside, and once is no habit.
    assert "1 network measured, 0 of 1 (0%) inside their 90% interval, predicted / measured 1.250 on average." in text
    assert "measured 10.00 ms, below the 90% interval of the prediction (11.00 to 14.00 ms)" in text
    assert "off by more than it says" not in text
    cells = re.search(r'<tr class="winner"><th scope="row">W1</th>(.*?)</tr>', html, re.DOTALL)
    assert cells and re.findall(r"[\d.]+", re.sub("<[^>]*>", " ", cells[1])) == [
        "12.50", "11.00", "14.00", "10.00", "0.25", "1.250",
    ]  # fmt: skip


def test_without_measurements_there_is_no_comparison() -> None:
    assert "Predicted vs. measured latency" not in render_search_report(report(rows=(row(0, accuracy=0.5, **TIMES),)))


def test_overconfident_intervals_are_flagged_with_a_remedy() -> None:
    rows = tuple(row(i, accuracy=0.5, arch_id=f"a{i}", measured_ms=15.0, **TIMES) for i in range(2))
    text = Page(render_search_report(report(rows=rows))).text
    assert "intervals are too narrow: 2 of 2 measurements" in text and "latency.refine=true" in text


def test_a_winner_above_the_limit_is_flagged() -> None:
    slow = winner("W1", "mixnet_s", 0, {**TIMES, "measured_ms": 13.5})
    text = Page(render_search_report(report(rows=(slow.row,), winners=(slow,), limit_ms=13.0))).text
    assert "measured 13.50 ms, above the limit of 13 ms" in text


def test_latencies_that_were_measured_are_called_so_and_have_no_interval() -> None:
    times = {**TIMES, "latency_ms": 12.0, "measured_ms": 12.0}
    first = winner("W1", "mixnet_s", 0, times)
    page = Page(render_search_report(report(rows=(first.row,), winners=(first,), refined=True)))
    assert "measured latency, ms" in page.text and "Latency is measured for the full network." in page.text
    assert "winner, with 90% interval" not in page.text
    assert "12.50 ms (90% interval 11.00 to 14.00 ms)" in page.text  # of the prediction, where it is told
    assert "Each prediction was made before its measurement" in page.text


def test_nothing_is_fetched(html: str) -> None:
    page = Page(html)
    assert all(not re.match(r"[a-z][a-z0-9+.-]*:|//", link, re.IGNORECASE) for link in page.links), page.links
    assert not re.search(r"url\(\s*['\"]?(?!#)", html)
    assert "@import" not in html
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "winners/winner%201.yaml" in page.links


def test_nothing_a_user_wrote_becomes_markup(html: str) -> None:
    assert Page(html).tags.count("script") == 1  # the one that sorts the table
    assert "<script>alert" not in html
    assert HOSTILE in Page(html).text


def test_links_inside_of_the_page_have_their_targets_and_ids_are_unique_outside_of_drawings(html: str) -> None:
    page = Page(html)
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_every_candidate_has_a_line(full: SearchReport, html: str) -> None:
    body = html[html.index('<table id="trials">') : html.index("</table>", html.index('<table id="trials">'))]
    assert [int(number) for number in re.findall(r'<tr id="trial-\d+"[^>]*><td class="n">(\d+)</td>', body)] == list(
        range(7)
    )
    assert body.count('class="winner"') == len(full.winners)


def test_drawn_latencies_sum_to_the_prediction_for_the_whole(html: str) -> None:
    """Kernels of 1 and 4 ms, scaled to a prediction of 12.5 ms: 2.5 and 10 ms.

    The stem is 2.5 ms and the first stage 10 ms.
    """
    text = Page(html).text
    assert "12.50 ms predicted" in text
    assert "2.50 ms" in text and "10.00 ms" in text


def test_summary_counts_and_names_the_best(full: SearchReport) -> None:
    text = search_summary(full.rows, full.reward)
    assert "7 candidates tried: 3 trained, 2 infeasible and not trained, 1 duplicate, 1 failed." in text
    assert "Best accuracy: 81.25% at 12.50 ms (trial 2)." in text
    assert "Fastest trained: 9.75 ms with 50.00% (trial 6)." in text
    assert "2 networks on the Pareto front." in text
    assert "Highest reward: 0.8000 (trial 2)." in text
    text = search_summary((*full.rows, row(7, Outcome.STOPPED)))
    assert "8 candidates tried: 3 trained, 1 stopped early, 2 infeasible" in text


def test_reasons_that_differ_in_numbers_alone_are_one_reason(full: SearchReport) -> None:
    found = [(loss.outcome, loss.reason.partition(" <")[0], loss.candidates, loss.trials) for loss in losses(full.rows)]
    assert found == [
        (Outcome.FAILED, "loss is nan at step 7", 1, "0"),
        (Outcome.INFEASIBLE, "latency_ms 31.2 > 20", 2, "1, 4"),
        (Outcome.DUPLICATE, "repeats trial 2", 1, "5"),
    ]


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (row(0, Outcome.RUNNING),),
        (row(0, Outcome.INFEASIBLE, latency_ms=30.0), row(1, Outcome.FAILED)),
        (row(0, Outcome.TRAINED, latency_ms=3.0),),
    ],
)
def test_a_search_without_accuracy_is_reported_as_such(rows: tuple[TrialRecord, ...]) -> None:
    text = Page(render_search_report(report(rows=rows, limit_ms=20.0))).text
    assert "No candidate was trained" in text
    assert "no candidate was trained" in text  # in the plot
    assert "No winners" in text


def test_plot_is_xml_that_is_the_same_each_time_and_keeps_text_as_text(full: SearchReport) -> None:
    def plot() -> str:
        return pareto_svg(full.rows, {"W1": full.rows[2]}, published=full.published, limit_ms=20.0)

    assert plot() == plot()
    text = "".join(ET.fromstring(plot()).itertext())
    for label in ("W1", "<b>net</b> $x^2$", "limit 20 ms", "infeasible (2, 2 beyond the edge)"):
        assert label in text


@pytest.mark.parametrize("path", ["/etc/passwd", "//host/file", ""])
def test_a_file_must_be_named_relative_to_the_report(path: str) -> None:
    with pytest.raises(NasError, match="spec"):
        winner("W1", "mixnet_s", 0, files={"spec": path})


def test_a_path_cannot_become_another_scheme() -> None:
    odd = winner("W1", "mixnet_s", 0, files={"spec": "javascript:alert(1)"})
    assert "javascript%3Aalert%281%29" in Page(render_search_report(report(rows=(odd.row,), winners=(odd,)))).links


def test_winners_with_one_label_are_refused() -> None:
    with pytest.raises(NasError, match="W1, W1"):
        report(winners=(winner("W1", "mixnet_s", 0), winner("W1", "mixnet_m", 1)))


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(NasError, match="pareto, mnasnet"):
        report(objective="accuracy")


def images(**fields: object) -> DatasetDescription:
    classes = (
        ClassCount(name="ok", found=900, train=180, val=93, sample="aGVsbG8="),
        ClassCount(name=HOSTILE, found=100, train=20, val=7),
    )
    return DatasetDescription(name="imagefolder", classes=classes, **fields)


def test_the_images_of_a_study_are_shown_with_samples_and_warnings() -> None:
    shown = images(path=f"/photos/{HOSTILE}", left_out={f"extension {HOSTILE} is not read": 7}, sample_px=12)
    page = Page(render_search_report(report(dataset=shown)))
    assert not page.open
    assert "1,000 images, 200 of them used (data.subset)" in page.text
    assert "Class Found Train Validation Samples, 12 px ok 900 180 93" in page.text
    assert "class 'ok' has 93.00% of the validation images: always guessing it gives this accuracy" in page.text
    assert "7 (extension" in page.text
    assert "data:image/png;base64,aGVsbG8=" in page.links
    assert page.links.count("data:image/png;base64,") == 0  # no image without a sample
    assert HOSTILE in page.text and "<script>alert" not in render_search_report(report(dataset=shown))


def test_of_many_classes_a_page_shows_twelve() -> None:
    classes = tuple(ClassCount(name=f"c{n}", found=20 + n, train=20 + n, val=5) for n in range(1000))
    text = Page(render_search_report(report(dataset=DatasetDescription(name="x", classes=classes)))).text
    assert "12 of 1,000 classes: those with most and those with fewest train images." in text
    assert "c999" in text and "c5 25" in text and "c500" not in text


def test_a_study_that_does_not_know_its_images_has_no_section_of_them() -> None:
    page = Page(render_search_report(report()))
    assert "images" not in page.ids
