"""Shared helpers below all other rooms; they know nothing of networks.

Errors, masking of passwords, validation, dataclass I/O, atomic files, formatting, console and tables.
Does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.core.bounded_cache import BoundedCache
    from nas.core.console import StudyConsole, announced, label_column, plain_text_of, print_lines, progress_bar
    from nas.core.credentials import (
        MASK,
        mask_credentials,
        mask_reason,
        mask_settings,
        mask_url,
        mask_words,
        masked_command,
    )
    from nas.core.csv_rows import (
        CsvError,
        CsvRecord,
        CsvRow,
        check_delimiter,
        parse_csv_rows,
        read_csv_records,
        shortened_cell,
        unknown_name,
    )
    from nas.core.dataclass_io import from_mapping
    from nas.core.errors import NasError, SpecError, quoted, suggestion, unknown_choice
    from nas.core.files import file_sha256, write_bytes_atomically, write_text_atomically
    from nas.core.formatting import (
        MISSING,
        changed_command,
        cpu_time,
        decimal,
        escape_controls,
        first_names,
        interval,
        megabytes,
        millions,
        ms,
        ms_with_error,
        number_with_error,
        percent,
        percent_with_error,
        plural,
        shown_path,
    )
    from nas.core.lazy import lazy_exports
    from nas.core.parsing import MAX_JSON_CHARACTERS, MAX_YAML_CHARACTERS, parse_json, parse_yaml, read_text
    from nas.core.progress import ProgressCallback
    from nas.core.statistics import binomial_error, binomial_tail, kendall_tau, paired_difference_error
    from nas.core.streams import (
        discard_output,
        prepare_streams,
        silenced_standard_error,
        write_error,
        write_lines,
        write_unbuffered,
    )
    from nas.core.tables import TableMaker, TableRow, available_width, fit_columns, print_fitted, print_table
    from nas.core.validation import (
        MAX_DIGITS,
        MAX_FIGURE,
        MAX_SEED,
        MAX_THREADS,
        check_figures,
        check_number,
        check_whole,
        is_whole_text,
    )
    from nas.core.version import __version__
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "bounded_cache": ["BoundedCache"],
            "console": ["StudyConsole", "announced", "label_column", "plain_text_of", "print_lines", "progress_bar"],
            "credentials": [
                "MASK",
                "mask_credentials",
                "mask_reason",
                "mask_settings",
                "mask_url",
                "mask_words",
                "masked_command",
            ],
            "csv_rows": [
                "CsvError",
                "CsvRecord",
                "CsvRow",
                "check_delimiter",
                "parse_csv_rows",
                "read_csv_records",
                "shortened_cell",
                "silenced_standard_error",
                "unknown_name",
            ],
            "dataclass_io": ["from_mapping"],
            "errors": ["NasError", "SpecError", "quoted", "suggestion", "unknown_choice"],
            "files": ["file_sha256", "write_bytes_atomically", "write_text_atomically"],
            "formatting": [
                "MISSING",
                "changed_command",
                "cpu_time",
                "decimal",
                "escape_controls",
                "first_names",
                "interval",
                "megabytes",
                "millions",
                "ms",
                "percent",
                "ms_with_error",
                "number_with_error",
                "percent_with_error",
                "plural",
                "shown_path",
            ],
            "lazy": ["lazy_exports"],
            "parsing": ["MAX_JSON_CHARACTERS", "MAX_YAML_CHARACTERS", "parse_json", "parse_yaml", "read_text"],
            "progress": ["ProgressCallback"],
            "statistics": ["binomial_error", "binomial_tail", "kendall_tau", "paired_difference_error"],
            "streams": [
                "discard_output",
                "prepare_streams",
                "silenced_standard_error",
                "write_error",
                "write_lines",
                "write_unbuffered",
            ],
            "tables": ["TableMaker", "TableRow", "available_width", "fit_columns", "print_fitted", "print_table"],
            "validation": [
                "MAX_FIGURE",
                "MAX_DIGITS",
                "MAX_SEED",
                "MAX_THREADS",
                "check_figures",
                "check_number",
                "check_whole",
                "is_whole_text",
            ],
            "version": ["__version__"],
        },
    )

__all__ = [
    "paired_difference_error",
    "BoundedCache",
    "CsvError",
    "CsvRecord",
    "CsvRow",
    "MASK",
    "MAX_DIGITS",
    "MAX_FIGURE",
    "MAX_JSON_CHARACTERS",
    "MAX_SEED",
    "MAX_THREADS",
    "MAX_YAML_CHARACTERS",
    "MISSING",
    "NasError",
    "ProgressCallback",
    "SpecError",
    "StudyConsole",
    "TableMaker",
    "TableRow",
    "__version__",
    "announced",
    "available_width",
    "binomial_error",
    "binomial_tail",
    "changed_command",
    "check_delimiter",
    "check_figures",
    "check_number",
    "check_whole",
    "cpu_time",
    "decimal",
    "discard_output",
    "escape_controls",
    "file_sha256",
    "first_names",
    "fit_columns",
    "from_mapping",
    "interval",
    "is_whole_text",
    "kendall_tau",
    "label_column",
    "lazy_exports",
    "mask_credentials",
    "mask_reason",
    "mask_settings",
    "mask_url",
    "mask_words",
    "masked_command",
    "megabytes",
    "millions",
    "ms",
    "ms_with_error",
    "number_with_error",
    "parse_csv_rows",
    "parse_json",
    "parse_yaml",
    "percent",
    "percent_with_error",
    "plain_text_of",
    "plural",
    "prepare_streams",
    "print_fitted",
    "print_lines",
    "print_table",
    "progress_bar",
    "quoted",
    "read_csv_records",
    "read_text",
    "shortened_cell",
    "silenced_standard_error",
    "shown_path",
    "suggestion",
    "unknown_choice",
    "unknown_name",
    "write_bytes_atomically",
    "write_error",
    "write_lines",
    "write_text_atomically",
    "write_unbuffered",
]
