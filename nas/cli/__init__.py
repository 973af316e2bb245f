"""What the commands share: options, configuration, completion, help, running one study or several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.cli import app, hydra_config, multirun
    from nas.cli.compare_networks import find_networks
    from nas.cli.comparison import Comparison
    from nas.cli.help_text import entries, option_lines, paragraph
    from nas.cli.scale_output import check_free, print_family, print_scaled, scaling_facts, write_scaled

__all__ = [
    "Comparison",
    "app",
    "check_free",
    "entries",
    "find_networks",
    "hydra_config",
    "multirun",
    "option_lines",
    "paragraph",
    "print_family",
    "print_scaled",
    "scaling_facts",
    "write_scaled",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "compare_networks": ["find_networks"],
        "comparison": ["Comparison"],
        "help_text": ["entries", "option_lines", "paragraph"],
        "scale_output": ["check_free", "print_family", "print_scaled", "scaling_facts", "write_scaled"],
    },
    submodules=["app", "hydra_config", "multirun"],
)
