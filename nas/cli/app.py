"""Shared command code: options, setting checks, exit codes, error output."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from omegaconf import OmegaConf

from nas.cli.hydra_config import compose_config
from nas.core.credentials import mask_settings
from nas.core.errors import NasError, quoted, suggestion
from nas.core.streams import discard_output, prepare_streams, write_error, write_lines

if TYPE_CHECKING:
    from nas.data.dense import DenseDataSettings
    from nas.data.sources import DataSettings
    from nas.study.config import StudyPlan
    from nas.study.kind import StudyKind

EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
_SHORT_COMMAND_THRESHOLD: Final = 500_000  # allocations before a garbage collection; Python's default is 700
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_HELP: Final = ("--help", "-h")
_CFG: Final = ("--cfg", "-c")
_SHELL: Final = ("-sc", "--shell-completion")


def check_keys(config: Mapping[str, Any], known: Sequence[str], *, optional: Sequence[str] = ()) -> None:
    """Refuse unknown and missing top-level keys.

    Hydra accepts ``+typo=1`` and ``~data``. Raises: NasError.
    """
    for key in config:
        if key not in known:
            raise NasError(f"unknown key {key!r}: choose from {', '.join(known)}.{suggestion(str(key), known)}")
    for key in known:
        if key not in config and key not in optional:
            raise NasError(f"{key}: missing; remove ~{key} from the command line.")


def check_flags(config: Mapping[str, Any], *names: str) -> None:
    """Refuse settings that are neither true nor false. Raises: NasError."""
    for name in names:
        if not isinstance(config[name], bool):
            raise NasError(f"{name} {quoted(config[name])}: must be true or false.")


def check_texts(config: Mapping[str, Any], *names: str) -> None:
    """Refuse settings that are neither text nor null, such as ``study=3``.

    Raises: NasError.
    """
    for name in names:
        if not isinstance(config[name], str | None):
            raise NasError(f"{name} {quoted(config[name])}: must be text, or null.")


def runs_dir(config: Mapping[str, Any]) -> Path:
    """The results folder. Raises: NasError if it is not a path."""
    value = config["runs_dir"]
    if not isinstance(value, str) or not value:
        raise NasError(f"runs_dir {quoted(value)}: must be the path of a folder, such as runs.")
    return Path(value).expanduser()


def check_images(data: DataSettings | DenseDataSettings) -> None:
    """Check the files of images: with one class each, or with boxes or masks.

    Raises: NasError.
    """
    from nas.data.dense.settings import DenseDataSettings
    from nas.data.sources import check_data

    if isinstance(data, DenseDataSettings):
        from nas.data.dense import check_dense_data  # its readers load NumPy

        check_dense_data(data, data.task)
    else:
        check_data(data)


def check_writable(path: Path, field: str = "runs_dir") -> None:
    """Refuse an unwritable folder before time is spent on results for it.

    Folders created for the check are removed again.

    ``field``: the setting's name, for the error. Raises: NasError.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise NasError(f"{field} {str(path)!r}: cannot be written to: {error.strerror}; choose another.") from None
    finally:
        with suppress(OSError):  # another command may use or check the folder too
            for folder in missing:
                folder.rmdir()


def import_heavy(module: str) -> ModuleType:
    """Import a module that needs torch.

    Cyclic garbage is not looked for meanwhile: there is hardly any, and looking takes a tenth of the CPU time.

    Raises: NasError with a remedy where torch, torchvision or timm cannot be loaded.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NasError(
            f"torch, torchvision or timm cannot be loaded ({cause}). Reinstall torch and torchvision, together and "
            "from the same source: a CPU build of one does not work with a CUDA build of the other."
        ) from error
    finally:
        if collects:
            gc.enable()


def launch_study(plan: StudyPlan, kind: StudyKind, *, to_stderr: bool, quiet: bool = False) -> int:
    """Run a checked plan as a study of ``kind``; return the exit code.

    Progress goes to stdout, or with ``to_stderr`` to stderr, which leaves stdout to JSON. ``quiet``: no
    progress at all. Raises: NasError.
    """
    from nas.core.console import StudyConsole

    check_writable(plan.runs_dir)
    import_heavy(kind.session_module)
    stopped = import_heavy("nas.engines.run").run_study(plan, kind, StudyConsole(stderr=to_stderr, quiet=quiet))
    return EXIT_INTERRUPTED if stopped else 0


def run_command(main: Callable[[list[str]], int], *, short: bool = False) -> NoReturn:
    """Run a command's main function and exit with its code.

    A user error exits with 2 and one line on stderr, an interrupt with 130.

    ``short``: raises the garbage collection threshold for commands that end soon. Collections would take a third of
    their CPU time, as most of their objects are freshly imported modules.
    """
    if short:
        gc.set_threshold(_SHORT_COMMAND_THRESHOLD)
    prepare_streams()
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()  # here, where a closed pipe or a full disk can still be reported
    except NasError as error:
        write_error(*f"error: {error}".splitlines())
        code = EXIT_USAGE
    except KeyboardInterrupt:
        write_error("interrupted")
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        code = 1
    except OSError as error:
        if error.errno not in _FULL:
            raise
        write_error(f"error: cannot write the output: {error.strerror}; redirect it elsewhere.")
        os._exit(1)  # a normal exit would flush again and print a traceback
    discard_output()  # which the interpreter would report as it ends
    if short:
        gc.freeze()  # the interpreter collects everything that is not frozen at exit
    sys.exit(code)


def split_words(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into bare words and Hydra overrides.

    Bare words are the ``a b`` of ``nas.compare a b json=true``.
    """
    words: list[str] = []
    rest: list[str] = []
    before = ""
    for argument in arguments:
        is_word = "=" not in argument and not argument.startswith(("-", "+", "~")) and before not in _CFG
        (words if is_word else rest).append(argument)
        before = argument
    return words, rest


def word_as_setting(arguments: Sequence[str], key: str) -> list[str]:
    """Rewrite a single bare word as ``key=WORD``.

    So that ``nas.show mixnet_s`` means ``nas.show arch=mixnet_s``.
    """
    words, rest = split_words(arguments)
    return [f"{key}={words[0]}", *rest] if len(words) == 1 else list(arguments)


def answer_option(config_name: str, arguments: Sequence[str], help_text: Callable[[], str]) -> bool:
    """Handle ``--help``, ``--cfg job`` and shell completion.

    Returns whether ``arguments`` contained one of them. ``--cfg job`` prints the whole configuration,
    with passwords masked.

    Raises: NasError for any other option.
    """
    if any(argument in _HELP for argument in arguments):
        write_lines(*help_text().splitlines())
        return True
    if any(argument in _CFG for argument in arguments):
        rest = [argument for argument in arguments if argument not in (*_CFG, "job", "all")]
        shown = OmegaConf.to_yaml(OmegaConf.create(mask_settings(compose_config(config_name, rest))))
        write_lines(*shown.splitlines())
        return True
    if any(argument in _SHELL for argument in arguments):
        import_module("nas.cli.completion").complete(config_name, arguments)
        return True
    refuse_options(arguments)
    return False


def refuse_options(arguments: Sequence[str]) -> None:
    """Refuse arguments in the form of an option. Raises: NasError."""
    for argument in arguments:
        if argument.startswith("-"):
            raise NasError(f"unknown option {argument!r}: settings have the form name=value; see --help.")
