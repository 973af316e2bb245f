"""What all commands share: composing the configuration fast, turning it into checked settings, and failing well."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nas.arch.errors import NasError, nearest

USAGE_ERROR: Final = 2
INTERRUPTED: Final = 130


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
    """The resolved configuration as plain data. Raises NasError in words for anything wrong with an override."""
    arguments = [_normalised(argument) for argument in overrides]
    _check_groups(arguments)
    searched = [f"file://{folder}" for folder in config_dirs()[:-1]]
    if searched:
        arguments.append(f"hydra.searchpath=[{','.join(searched)}]")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
            config = compose(config_name=config_name, overrides=arguments)
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise NasError(_in_words(error)) from None
    return dict(plain)  # type: ignore[arg-type]


def check_keys(config: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse top-level keys that no command reads (``+typo=1`` passes through Hydra)."""
    for key in config:
        if key not in known:
            raise NasError(f"unknown key {key!r}: known are {', '.join(known)}.{nearest(str(key), known)}")


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
    """``space=x`` as ``+space=x``: the group is not among the defaults, so that a forgotten one can be answered."""
    return f"+{argument}" if argument.startswith(("space=", "experiment=")) else argument


def _check_groups(arguments: Sequence[str]) -> None:
    """Answer a misspelt choice of a group with the list of its choices, before Hydra does with a stack of lines."""
    for argument in arguments:
        key, separator, value = argument.lstrip("+~").partition("=")
        names = choices(key) if separator and key.isidentifier() else []
        if names and value not in names:
            raise NasError(f"unknown {key} {value!r}: choose from {', '.join(names)}.{nearest(value, names)}")


def _in_words(error: Exception) -> str:
    """The line of a Hydra error that says what is wrong."""
    text = str(error.__cause__ or error) if isinstance(error, ConfigCompositionException) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in lines if "not in struct" in line or "Could not" in line), lines[0] if lines else "")
    if "is not in struct" in text or "not in '" in text:
        key = text.partition("Key '")[2].partition("'")[0] or said
        return f"unknown key {key!r} in the overrides: see --cfg job for the keys there are."
    return said
