"""What all commands share: composing the configuration fast, turning it into checked settings, and failing well."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nas.arch.errors import NasError, nearest, shown

USAGE_ERROR: Final = 2
INTERRUPTED: Final = 130
_HELP: Final = ("--help", "-h")
_CFG: Final = ("--cfg", "-c")


def config_dir() -> Path:
    """The folder of configurations: the checkout's ``conf`` where there is one, otherwise the copy in the package."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "conf"
    return checkout if (checkout / "search.yaml").is_file() else package / "conf"


def config_dirs() -> list[Path]:
    """All folders that configurations are looked for in; ``conf`` in the working directory comes before ours."""
    own = Path.cwd() / "conf"
    return [own, config_dir()] if own.is_dir() and own.resolve() != config_dir().resolve() else [config_dir()]


def choices(group: str) -> list[str]:
    """Names of the configurations of a group, such as the spaces of ``space``."""
    return sorted({path.stem for folder in config_dirs() for path in (folder / group).glob("*.yaml")})


def headline(group: str, name: str) -> str:
    """The first comment line of a configuration: what it is, in the words of its author."""
    for folder in config_dirs():
        path = folder / group / f"{name}.yaml"
        if path.is_file():
            first = path.read_text(encoding="utf-8").partition("\n")[0]
            return first.removeprefix("#").strip() if first.startswith("#") else ""
    return ""


def compose_config(config_name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved configuration as plain data. Raises: NasError in words for anything wrong with an override."""
    arguments = [_normalised(argument) for argument in overrides]
    _check_form(arguments)
    _check_groups(arguments)
    try:
        return _compose(config_name, arguments)
    except YAMLError as error:
        raise NasError(f"a configuration is not valid YAML: {' '.join(str(error).split())}.") from None
    except (HydraException, OmegaConfBaseException) as error:
        text = str(error.__cause__ or error) if isinstance(error, ConfigCompositionException) else str(error)
        unknown_key = re.search(r"full_key: (\S+)", text) if "Key '" in text else None
        if unknown_key:
            raise _unknown_key(unknown_key[1], config_name, arguments) from None
        given = f"{error.override!r}: " if isinstance(error, OverrideParseException) else ""
        raise NasError(given + _in_words(text)) from None


def check_keys(config: Mapping[str, Any], known: Sequence[str], *, optional: Sequence[str] = ()) -> None:
    """Refuse top-level keys that no command reads (``+typo=1`` passes through Hydra), and missing ones (``~data``)."""
    for key in config:
        if key not in known:
            raise NasError(f"unknown key {key!r}: known are {', '.join(known)}.{nearest(str(key), known)}")
    for key in known:
        if key not in config and key not in optional:
            raise NasError(f"{key}: missing; do not take it away with ~{key}.")


def check_flags(config: Mapping[str, Any], *names: str) -> None:
    """Refuse settings that are neither true nor false. Raises: NasError."""
    for name in names:
        if not isinstance(config[name], bool):
            raise NasError(f"{name} {shown(config[name])}: must be true or false.")


def runs_dir(config: Mapping[str, Any]) -> Path:
    """The folder of results. Raises: NasError if it is no path."""
    value = config["runs_dir"]
    if not isinstance(value, str) or not value:
        raise NasError(f"runs_dir {shown(value)}: must be the path of a folder, such as runs.")
    return Path(value).expanduser()


def check_writable(path: Path) -> None:
    """Refuse a folder that results cannot be written to, before hours are spent on them; leaves nothing there.

    Raises: NasError.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        for folder in missing:
            folder.rmdir()
    except OSError as error:
        raise NasError(f"runs_dir {str(path)!r}: cannot be written to: {error.strerror}.") from None


def heavy(module: str) -> ModuleType:
    """Import a module that needs torch. Raises: NasError in words where torch and torchvision do not fit together."""
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NasError(
            f"torch, torchvision or timm cannot be loaded ({said}). Install torch and torchvision anew, together and "
            "from the same place: a torch without CUDA beside a torchvision with it, or the reverse, does not work."
        ) from error


def run_study(plan: Any, module: str, work: str) -> int:
    """Run a checked plan as the ``work`` that heavy ``module`` holds; returns the exit code.

    Raises: NasError.
    """
    check_writable(plan.runs_dir)
    stopped = heavy("nas.engine.run").run(plan, getattr(heavy(module), work))
    return INTERRUPTED if stopped else 0


def plain(docstring: str | None) -> str:
    """A docstring for a terminal, without its mark-up."""
    return (docstring or "").replace("``", "").strip()


def run(main: Callable[[list[str]], int]) -> NoReturn:
    """Run a command's main function: its exit code, 2 with one line for a user's mistake, 130 for an interrupt."""
    try:
        code = main(sys.argv[1:])
    except NasError as error:
        print(f"error: {error}", file=sys.stderr)
        code = USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    sys.exit(code)


def _normalised(argument: str) -> str:
    """An override as Hydra wants it.

    ``space=x`` as ``+space=x``: the group is not among the defaults, so that a forgotten one can be answered.
    ``data.root=~/x`` with the home folder in full: shells leave it to us, Hydra cannot read it.
    """
    name, _, value = argument.partition("=")
    if value == "~" or value.startswith("~/"):
        argument = f"{name}={Path(value).expanduser()}"
    return f"+{argument}" if name in ("space", "experiment") else argument


def words_apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that a command takes as they are (``a b`` of ``nas.compare a b json=true``), and the rest for Hydra."""
    words: list[str] = []
    rest: list[str] = []
    before = ""
    for argument in arguments:
        is_word = "=" not in argument and not argument.startswith(("-", "+", "~")) and before not in _CFG
        (words if is_word else rest).append(argument)
        before = argument
    return words, rest


def answered(config_name: str, arguments: Sequence[str], help_text: Callable[[], str]) -> bool:
    """Answer ``--help``, and ``--cfg job`` with the whole configuration; whether one of them was asked for.

    Raises: NasError for any other option.
    """
    if any(argument in _HELP for argument in arguments):
        print(help_text())
        return True
    if any(argument in _CFG for argument in arguments):
        rest = [argument for argument in arguments if argument not in (*_CFG, "job", "all")]
        sys.stdout.write(OmegaConf.to_yaml(OmegaConf.create(compose_config(config_name, rest))))
        return True
    for argument in arguments:
        if argument.startswith("-"):
            raise NasError(f"unknown option {argument!r}: settings are given as name=value; see --help.")
    return False


def _compose(config_name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Hydra's answer as plain data."""
    searched = ",".join(f"file://{folder}" for folder in config_dirs()[:-1])
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        found = [f"hydra.searchpath=[{searched}]"] if searched else []
        config = compose(config_name=config_name, overrides=[*arguments, *found])
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    return dict(plain)  # type: ignore[arg-type]


def _check_form(arguments: Sequence[str]) -> None:
    """Refuse what is not ``name=value``, and a space given twice."""
    for argument in arguments:
        name, separator, _ = argument.partition("=")
        if not name.startswith("~") and not (separator and name.lstrip("+")):
            raise NasError(f"{argument!r}: settings are given as name=value; see --help.")
        if name.startswith("+") and sum(other.startswith(f"{name}=") for other in arguments) > 1:
            raise NasError(f"{name.lstrip('+')}: given twice; give it once.")


def _check_groups(arguments: Sequence[str]) -> None:
    """Answer a misspelt choice of a group with the list of its choices, before Hydra does with a stack of lines."""
    for argument in arguments:
        key, _, value = argument.lstrip("+~").partition("=")
        names = _group_choices(argument)
        if names and value not in names:
            raise NasError(f"unknown {key} {value!r}: choose from {', '.join(names)}.{nearest(value, names)}")


def _group_choices(argument: str) -> list[str]:
    """The choices of the group that ``argument`` chooses from; empty if it does something else."""
    key, separator, _ = argument.lstrip("+~").partition("=")
    return choices(key) if separator and key.isidentifier() else []


def _unknown_key(key: str, config_name: str, arguments: Sequence[str]) -> NasError:
    """The error for a key that the chosen configurations do not have, with the nearest that they have."""
    choosing = [argument for argument in arguments if _group_choices(argument)]
    try:
        keys = list(_dotted(_compose(config_name, choosing)))
    except (HydraException, OmegaConfBaseException):
        keys = []
    return NasError(f"unknown key {key!r}: see --cfg job for the keys there are.{nearest(key, keys)}")


def _dotted(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")


def _in_words(text: str) -> str:
    """The line of a Hydra error that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "Could not" in line), lines[0] if lines else "")
