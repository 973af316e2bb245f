"""Shared code of the commands: options, configuration, completion, multirun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.cli import app, hydra_config, multirun
    from nas.cli.app import EXIT_INTERRUPTED, import_heavy, launch_study, refuse_options
    from nas.cli.compare_networks import find_networks
    from nas.cli.compare_output import Comparison
    from nas.cli.help_layout import entries, option_lines, paragraph
    from nas.cli.hydra_config import compose_config
    from nas.cli.layer_rows import LEVELS, network_rows, row_cells
    from nas.cli.overrides import overrides_of
    from nas.cli.scale_output import check_free, print_family, print_rewrites, print_scaled, scaling_facts, write_scaled
    from nas.cli.search_plan import make_search_plan, spaces_help
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "app": ["EXIT_INTERRUPTED", "import_heavy", "launch_study", "refuse_options"],
            "compare_networks": ["find_networks"],
            "compare_output": ["Comparison"],
            "help_layout": ["entries", "option_lines", "paragraph"],
            "hydra_config": ["compose_config"],
            "layer_rows": ["LEVELS", "network_rows", "row_cells"],
            "overrides": ["overrides_of"],
            "scale_output": [
                "check_free",
                "print_family",
                "print_rewrites",
                "print_scaled",
                "scaling_facts",
                "write_scaled",
            ],
            "search_plan": ["make_search_plan", "spaces_help"],
        },
        submodules=["app", "hydra_config", "multirun"],
    )

__all__ = [
    "EXIT_INTERRUPTED",
    "LEVELS",
    "Comparison",
    "app",
    "check_free",
    "compose_config",
    "entries",
    "find_networks",
    "hydra_config",
    "import_heavy",
    "launch_study",
    "make_search_plan",
    "network_rows",
    "multirun",
    "option_lines",
    "overrides_of",
    "paragraph",
    "print_family",
    "print_rewrites",
    "print_scaled",
    "refuse_options",
    "row_cells",
    "scaling_facts",
    "spaces_help",
    "write_scaled",
]
