"""How results are shown: plots, network drawings, pages, dashboard notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.reporting.baseline_verdict import baseline_verdicts
    from nas.reporting.bench_report import BENCH_DISPENSABLE, BENCH_FIGURES, BenchReport, bench_columns
    from nas.reporting.class_accuracy import ClassRow, class_columns, class_name, class_rows, lowest_class
    from nas.reporting.columns import (
        Column,
        Row,
        csv_table,
        csv_text,
        percent_number,
        plain_record,
        print_columns,
        select,
    )
    from nas.reporting.html_page import template
    from nas.reporting.search_columns import (
        AGREEMENT_COLUMNS,
        RECORD_COLUMNS,
        LabelledRecord,
        select_winner_columns,
        shown_winner_columns,
        winner_label,
    )
    from nas.reporting.search_decision import winner_groups
    from nas.reporting.search_report import (
        SearchReport,
        Winner,
        render_search_report,
        search_plot,
        winner_drawing,
    )
    from nas.reporting.study_report import StudyReport, closing_lines, write_report
    from nas.reporting.svg import png_renderer, printable, standalone, to_png
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "bench_report": ["BENCH_DISPENSABLE", "BENCH_FIGURES", "BenchReport", "bench_columns"],
            "search_decision": ["winner_groups"],
            "baseline_verdict": ["baseline_verdicts"],
            "class_accuracy": ["lowest_class", "class_rows", "class_name", "class_columns", "ClassRow"],
            "columns": [
                "Row",
                "Column",
                "csv_table",
                "csv_text",
                "percent_number",
                "plain_record",
                "print_columns",
                "select",
            ],
            "html_page": ["template"],
            "search_columns": [
                "shown_winner_columns",
                "AGREEMENT_COLUMNS",
                "RECORD_COLUMNS",
                "LabelledRecord",
                "select_winner_columns",
                "winner_label",
            ],
            "search_report": [
                "SearchReport",
                "Winner",
                "render_search_report",
                "search_plot",
                "winner_drawing",
            ],
            "study_report": ["StudyReport", "closing_lines", "write_report"],
            "svg": ["png_renderer", "printable", "standalone", "to_png"],
        },
    )

__all__ = [
    "bench_columns",
    "BenchReport",
    "BENCH_FIGURES",
    "BENCH_DISPENSABLE",
    "baseline_verdicts",
    "AGREEMENT_COLUMNS",
    "ClassRow",
    "Column",
    "LabelledRecord",
    "RECORD_COLUMNS",
    "Row",
    "SearchReport",
    "StudyReport",
    "Winner",
    "class_columns",
    "class_name",
    "class_rows",
    "closing_lines",
    "csv_table",
    "csv_text",
    "lowest_class",
    "percent_number",
    "plain_record",
    "png_renderer",
    "print_columns",
    "printable",
    "render_search_report",
    "search_plot",
    "select",
    "select_winner_columns",
    "shown_winner_columns",
    "standalone",
    "template",
    "to_png",
    "winner_drawing",
    "winner_groups",
    "winner_label",
    "write_report",
]
