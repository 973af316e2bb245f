"""Shell completion of the installed commands, such as ``nas-search``.

By Hydra's rules: groups, choices, keys, values.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import Final

from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.core_plugins.fish_completion import FishCompletion
from hydra.errors import HydraException
from hydra.plugins.completion_plugin import DefaultCompletionPlugin
from omegaconf.errors import OmegaConfBaseException

from nas.cli.hydra_config import config_loader, normalize_override, override_presets, presets
from nas.core.errors import NasError
from nas.core.streams import write_lines

_FLAG: Final = "-sc"
_SHELLS: Final = {"bash": BashCompletion, "zsh": BashCompletion, "fish": FishCompletion}
_OPTIONS: Final = ("--help", "--cfg", "--multirun")
_HOW: Final = 'eval "$(nas-search -sc install=bash)", or: nas-search -sc install=fish | source'


def complete(config_name: str, arguments: Sequence[str]) -> None:
    """Print the completion script or the candidates that a shell requests.

    ``install=bash`` (zsh, fish) and ``uninstall=...`` print a script; shells send ``query=...`` on each Tab.

    Raises: NasError for anything else, and where the command was not started by its installed name, which shells use.
    """
    given = next((argument for argument in arguments if not argument.startswith("-")), "")
    verb, _, shell = given.partition("=")
    if verb not in ("install", "uninstall", "query") or shell not in _SHELLS:
        raise NasError(f"{_FLAG} {given!r}: must be install=, uninstall= or query= of bash, zsh or fish. {_HOW}")
    if verb == "query":
        write_lines(*completions(config_name, os.environ.get("COMP_LINE", "")))
        return
    if sys.argv[0].endswith(".py"):
        raise NasError(f"{_FLAG} {given!r}: shells complete only the installed command. {_HOW}")
    plugin = _SHELLS[shell](config_loader())
    plugin.install() if verb == "install" else plugin.uninstall()


def completions(config_name: str, line: str) -> list[str]:
    """Completion candidates for the last word of ``line``.

    ``line`` starts with the command's name.
    """
    try:
        words = shlex.split(line)[1:]
    except ValueError:  # an unclosed quote
        return []
    last = words.pop() if words and not line[-1].isspace() else ""
    if last.startswith("-"):
        return [option for option in _OPTIONS if option.startswith(last)]
    overrides = override_presets(
        [normalize_override(word) for word in words if "=" in word and not word.startswith("-")]
    )
    typed = [word for word in overrides if " " not in word]  # Hydra splits at blanks
    plugin = DefaultCompletionPlugin(config_loader())
    try:
        candidates = plugin._query(config_name=config_name, line=" ".join([*typed, last]))
    except (HydraException, OmegaConfBaseException):
        return []
    if last.startswith(("experiment=", "+experiment=")):
        own = presets(config_name)
        candidates = [word for word in candidates if word.partition("=")[2] in own]
    return [word for word in candidates if not word.startswith("hydra")]
