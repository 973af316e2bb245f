"""Shared helpers below all other rooms; they know nothing of networks.

Errors, masking of passwords, validation, bounded parsing, dataclass I/O, atomic files, formatting, console and tables.
Does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.core.console import print_lines, progress_bar
    from nas.core.credentials import (
        MASK,
        mask_credentials,
        mask_reason,
        mask_settings,
        mask_url,
        mask_words,
        masked_command,
    )
    from nas.core.dataclass_io import from_mapping
    from nas.core.errors import NasError, SpecError, quoted, suggestion, unknown_choice
    from nas.core.files import write_bytes_atomically, write_text_atomically
    from nas.core.formatting import MISSING, decimal, interval, megabytes, millions, ms, percent, plural, shown_path
    from nas.core.lazy import lazy_exports
    from nas.core.parsing import MAX_JSON_CHARACTERS, MAX_YAML_CHARACTERS, parse_json, parse_yaml, read_text
    from nas.core.progress import ProgressCallback
    from nas.core.rank_correlation import kendall_tau
    from nas.core.tables import TableRow, print_table
    from nas.core.validation import (
        MAX_DIGITS,
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
            "console": ["print_lines", "progress_bar"],
            "credentials": [
                "MASK",
                "mask_credentials",
                "mask_reason",
                "mask_settings",
                "mask_url",
                "mask_words",
                "masked_command",
            ],
            "dataclass_io": ["from_mapping"],
            "errors": ["NasError", "SpecError", "quoted", "suggestion", "unknown_choice"],
            "files": ["write_bytes_atomically", "write_text_atomically"],
            "formatting": [
                "MISSING",
                "decimal",
                "interval",
                "megabytes",
                "millions",
                "ms",
                "percent",
                "plural",
                "shown_path",
            ],
            "lazy": ["lazy_exports"],
            "parsing": ["parse_json", "parse_yaml", "read_text", "MAX_JSON_CHARACTERS", "MAX_YAML_CHARACTERS"],
            "progress": ["ProgressCallback"],
            "rank_correlation": ["kendall_tau"],
            "tables": ["TableRow", "print_table"],
            "validation": [
                "MAX_SEED",
                "check_figures",
                "check_number",
                "check_whole",
                "MAX_DIGITS",
                "MAX_THREADS",
                "is_whole_text",
            ],
            "version": ["__version__"],
        },
    )

__all__ = [
    "is_whole_text",
    "MAX_THREADS",
    "MAX_DIGITS",
    "MAX_YAML_CHARACTERS",
    "MAX_JSON_CHARACTERS",
    "MASK",
    "MAX_SEED",
    "mask_credentials",
    "mask_reason",
    "mask_settings",
    "mask_url",
    "mask_words",
    "masked_command",
    "MISSING",
    "NasError",
    "ProgressCallback",
    "SpecError",
    "TableRow",
    "__version__",
    "check_figures",
    "check_number",
    "check_whole",
    "decimal",
    "from_mapping",
    "interval",
    "kendall_tau",
    "lazy_exports",
    "megabytes",
    "millions",
    "ms",
    "parse_json",
    "parse_yaml",
    "percent",
    "plural",
    "print_lines",
    "print_table",
    "progress_bar",
    "quoted",
    "read_text",
    "shown_path",
    "suggestion",
    "unknown_choice",
    "write_bytes_atomically",
    "write_text_atomically",
]
