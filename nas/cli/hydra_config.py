"""Hydra composition of a command line into plain data.

It composes fast and converts Hydra's errors into plain messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nas.cli.help_layout import entries
from nas.cli.hydra_loader import ConfigLoader
from nas.core.credentials import mask_words
from nas.core.errors import NasError, suggestion
from nas.core.parsing import MAX_YAML_CHARACTERS, read_text

# Today's names of settings that were called otherwise, by command.
_RENAMED: Final = {
    "scale": {"resolution": "resolution_px"},
    "compound_grid": {"table.sides_px": "table.resolution_px"},
}
# Columns at which descriptions start in help texts.
_HEADLINES: Final = 6
_ALTERNATIVES: Final = 14
# Characters that Hydra's grammar lacks, those that give a value a structure, and the words of its parser's library.
_UNPARSED: Final = re.compile(r"[^A-Za-z0-9_/\\+.$%*@?|:=~,(){}\[\]'\"\s-]")
_STRUCTURE: Final = re.compile(r"[,(){}\[\]'\"\\$]")
_GRAMMAR: Final = re.compile(
    r"LexerNoViable|mismatched input|extraneous input|no viable|token recognition|missing [A-Z]|Error parsing override"
)
_MAX_CONFIG_BYTES: Final = 100_000  # of a file; OmegaConf takes some CPU-seconds for more
# Groups that can be selected though a command's defaults list has none, or no choice, of them.
_ADDED: Final = {
    "search": ("space", "experiment"),
    "compound_grid": ("experiment",),
    "supernet": ("space",),
    "export": ("data",),
    "bench": ("data",),
}
# The setting of a command that names its task, and the groups whose choice it brings along.
_TASK_GROUPS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "search": ("objective.task", ("data", "proxy")),
    "supernet": ("objective.task", ("data", "proxy")),
    "train": ("task", ("data", "recipe")),
}
_MULTIRUN: Final = ("search", "compound_grid", "netadapt")  # commands that run one study per value


def config_dir() -> Path:
    """The configuration folder: the checkout's ``conf``, else the packaged copy."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "conf"
    return checkout if (checkout / "search.yaml").is_file() else package / "conf"


def config_dirs() -> list[Path]:
    """Configuration folders in order of precedence.

    ``conf`` in the working directory precedes the project's own.
    """
    own = Path.cwd() / "conf"
    return [own, config_dir()] if own.is_dir() and own.resolve() != config_dir().resolve() else [config_dir()]


def choices(group: str) -> list[str]:
    """Names of a group's configurations, such as the spaces of ``space``."""
    return sorted({path.stem for folder in config_dirs() for path in (folder / group).glob("*.yaml")})


def headline(group: str, name: str) -> str:
    """First comment line of a configuration, its one-line description."""
    lines = _text(group, name).splitlines()
    first = (
        lines[1] if lines and lines[0].startswith("# @") else next(iter(lines), "")
    )  # Hydra's package directive comes first
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def presets(config_name: str) -> list[str]:
    """Names of the experiments for a command.

    An experiment belongs to the command that its header's command line runs.
    """
    return [name for name in choices("experiment") if f"nas.{config_name} " in _text("experiment", name)]


def describe_choices(group: str, names: Sequence[str], prefix: str) -> str:
    """Help text of ``names`` of a group, each with its headline."""
    return entries(*((f"{prefix}{name}", headline(group, name)) for name in names), column=_HEADLINES)


def choices_help(*groups: str) -> str:
    """Help text of the choices of each of ``groups``."""
    return entries(*((f"{group}=", " | ".join(choices(group))) for group in groups), column=_ALTERNATIVES)


def compose_config(config_name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose and resolve the configuration as plain data.

    Raises: NasError with a plain message for any invalid override.
    """
    arguments = [normalize_override(argument) for argument in overrides]
    check_form(arguments)
    _check_no_hydra(arguments)
    _check_groups(config_name, arguments)
    arguments = _with_task_choices(config_name, override_presets(arguments))
    _check_sizes()
    try:
        return _compose(config_name, arguments)
    except RecursionError:
        raise NasError("a configuration or a setting is nested too deep; write it with fewer levels.") from None
    except UnicodeDecodeError as error:
        raise NasError(
            f"a configuration is not a text file in UTF-8 ({error.reason}); save it with that encoding."
        ) from None
    except YAMLError as error:
        raise NasError(f"a configuration is not valid YAML: {' '.join(str(error).split())}.") from None
    except (HydraException, OmegaConfBaseException) as error:
        text = str(error.__cause__ or error) if isinstance(error, ConfigCompositionException) else str(error)
        unknown_key = re.search(r"full_key: (\S+)", text) if "Key '" in text else None
        if unknown_key:
            raise _unknown_key(unknown_key[1], config_name, arguments) from None
        several = re.search(r"Ambiguous value for argument '(.*?)'\n", text)
        if several:
            raise NasError(
                f"{several[1]!r}: write a list in brackets, [..]; with --multirun, nas.search and "
                "nas.compound_grid run one study per value."
            ) from None
        if isinstance(error, OverrideParseException):
            raise unreadable_override(str(error.override), _essential_line(text)) from None
        raise NasError(_essential_line(text)) from None


def unreadable_override(override: str, reason: str) -> NasError:
    """The error for an ``override`` that Hydra cannot parse.

    Hydra's ``reason`` is left out where it is that of its parser's library, which is in terms of a grammar, and of an
    override with credentials, because it quotes parts of the text.
    """
    shown = mask_words([override])[0]
    if shown == override:
        name = override.partition("=")[0]
        forms = f"lists are written [a,b], mappings {{a: b}}, and other text in two pairs of quotes: \"{name}='a, b'\"."
        return NasError(f"{override!r}: {f'cannot be read; {forms}' if _GRAMMAR.search(reason) else reason}")
    return NasError(
        f"{shown!r}: holds characters that a setting cannot; put its value in quotes, and write special characters "
        "of a password as %XX (a blank is %20, a brace %7B or %7D)."
    )


def normalize_override(argument: str) -> str:
    """Convert an override to the form that Hydra needs.

    ``space=x`` becomes ``+space=x``: the group is not in the defaults list, so that a missing one can be reported.
    ``data.root=~/x`` gets its home folder expanded: shells do not expand it, and Hydra cannot parse it. Text with
    characters that Hydra cannot parse, such as letters with accents, is quoted. Raises: NasError for ``~nobody/x``.
    """
    name, _, value = argument.partition("=")
    if value.startswith("~"):
        try:
            value = str(Path(value).expanduser())
        except RuntimeError:
            raise NasError(f"{argument!r}: there is no user of that name; ~/FOLDER is in your own home.") from None
        argument = f"{name}={value}"
    if _UNPARSED.search(value) and not _STRUCTURE.search(value) and mask_words([argument])[0] == argument:
        argument = f"{name}='{value}'"
    return f"+{argument}" if name in _ADDED["search"] else argument


def check_form(arguments: Sequence[str]) -> None:
    """Refuse arguments other than ``name=value``, and a space given twice."""
    for argument in arguments:
        name, separator, _ = argument.partition("=")
        if not name.startswith("~") and not (separator and name.lstrip("+")):
            raise NasError(f"{argument!r}: settings have the form name=value; see --help.")
        if name.startswith("+") and sum(other.startswith(f"{name}=") for other in arguments) > 1:
            raise NasError(f"{name.lstrip('+')}: given twice; give it once.")


def _check_no_hydra(arguments: Sequence[str]) -> None:
    """Refuse settings of Hydra itself, which would have no effect.

    Raises: NasError.
    """
    for argument in arguments:
        name = argument.lstrip("+~").partition("=")[0]
        if re.match(r"hydra\b", name):
            raise NasError(
                f"{name}: Hydra's own settings have no effect here; results are written to runs_dir=, and "
                "configurations of your own are found in a folder conf of the working directory."
            )


def _text(group: str, name: str) -> str:
    """Text of a configuration file; empty if there is none."""
    path = next((path for folder in config_dirs() if (path := folder / group / f"{name}.yaml").is_file()), None)
    try:
        return "" if path is None else read_text(path, max_characters=MAX_YAML_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file in UTF-8"
        raise NasError(f"cannot read configuration {path}: {reason}.") from None


def _check_sizes() -> None:
    """Refuse a user's own configurations that would take long to read.

    Raises: NasError naming the file.
    """
    for folder in config_dirs()[:-1]:
        for path in sorted([*folder.glob("*.yaml"), *folder.glob("*/*.yaml")]):
            if path.is_file() and path.stat().st_size > _MAX_CONFIG_BYTES:
                raise NasError(f"configuration {path}: has more than {_MAX_CONFIG_BYTES:,} bytes; make it smaller.")


def _compose(config_name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Compose with Hydra and return plain data."""
    config = config_loader().load_configuration(config_name, list(arguments), RunMode.RUN, from_shell=False)
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    return dict(plain)  # type: ignore[arg-type]


def config_loader() -> ConfigLoader:
    """Hydra's loader of our configurations and those of the working directory."""
    return ConfigLoader(config_dirs())


def override_presets(arguments: Sequence[str]) -> list[str]:
    """Make ``space=`` replace an experiment's space instead of adding one.

    ``+space=`` beside an experiment's own space would give the group two values.
    """
    chosen = [argument.partition("=")[2] for argument in arguments if argument.startswith("+experiment=")]
    if not any("- /space:" in _text("experiment", name) for name in chosen):
        return list(arguments)
    return [argument.removeprefix("+") if argument.startswith("+space=") else argument for argument in arguments]


def _with_task_choices(config_name: str, arguments: Sequence[str]) -> list[str]:
    """Add the choices that a task brings along, of groups without a choice.

    ``objective.task=segmentation`` selects ``data=segmentation``, so that ``data.root`` is all that is left to say.
    """
    setting, groups = _TASK_GROUPS.get(config_name, ("", ()))
    values = [value for name, _, value in (one.partition("=") for one in arguments) if name.lstrip("+") == setting]
    if not values:
        return list(arguments)
    chosen = {argument.partition("=")[0].lstrip("+") for argument in arguments}
    for name in (one.partition("=")[2] for one in arguments if one.startswith("+experiment=")):
        chosen |= set(re.findall(r"^\s*- (?:override )?/(\w+):", _text("experiment", name), re.MULTILINE))
    added = [f"{group}={values[-1]}" for group in groups if group not in chosen and values[-1] in choices(group)]
    return [*added, *arguments]


def _check_groups(config_name: str, arguments: Sequence[str]) -> None:
    """Report an unknown group choice with the list of valid ones.

    Hydra's own error for it spans many lines.
    """
    for argument in arguments:
        key, _, value = argument.lstrip("+~").partition("=")
        if key == "experiment" and value not in (known := presets(config_name)):
            remedy = "choose one of these:" if known else "this command has none."
            raise NasError(
                f"unknown experiment {value!r}: {remedy}", choices=describe_choices(key, known, "experiment=")
            )
        names = _group_choices(argument)
        if names and value not in names:
            parts = value.split(",")
            is_sweep = len(parts) > 1 and set(parts) <= set(names) and config_name in _MULTIRUN
            several = f" Several at once: nas.{config_name} --multirun." if is_sweep else ""
            raise NasError(
                f"unknown {key} {value!r}: choose from {', '.join(names)}.{several or suggestion(value, names)}"
            )


def _group_choices(argument: str) -> list[str]:
    """Valid choices of the config group that ``argument`` selects from.

    Empty if it selects no group.
    """
    key, separator, _ = argument.lstrip("+~").partition("=")
    return choices(key) if separator and key.isidentifier() else []


def _unknown_key(key: str, config_name: str, arguments: Sequence[str]) -> NasError:
    """The error for an unknown configuration key, with the closest known key."""
    if key in _ADDED.get(config_name, ()):  # a setting of a group without a selected choice
        names = ", ".join(choices(key))
        return NasError(
            f"{key}: no choice is selected, so it has no settings to change; add {key}=NAME, one of {names}."
        )
    if key in _RENAMED.get(config_name, ()):
        return NasError(f"unknown key {key!r}: it is called {_RENAMED[config_name][key]}.")
    choosing = [argument for argument in arguments if _group_choices(argument)]
    try:
        keys = list(_dotted(_compose(config_name, choosing)))
    except (HydraException, OmegaConfBaseException):
        keys = []
    keys += _ADDED.get(config_name, ())
    return NasError(f"unknown key {key!r}: see --cfg job for all keys.{suggestion(key, keys)}")


def _dotted(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")


def _essential_line(text: str) -> str:
    """The essential line of a Hydra error message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "Could not" in line), lines[0] if lines else "")
