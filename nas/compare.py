"""``python -m nas.compare mixnet_s mixnet_m``: compare networks or studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.arch import zoo
from nas.cli import app, hydra_config
from nas.cli.help_layout import entries, option_lines, paragraph
from nas.cli.resolve.networks import is_network, known_networks
from nas.core.errors import NasError, quoted, suggestion
from nas.core.streams import write_lines

if TYPE_CHECKING:
    from nas.cli.compare_output import Comparison

_KEYS: Final = ("names", "json", "csv", "html", "storage", "runs_dir", "latency")
_FILES: Final = ("csv", "html")


def main() -> None:
    """Console entry point."""
    app.run_command(command, short=True)


def command(arguments: list[str]) -> int:
    """Compare the named networks or studies."""
    words, overrides = app.split_words(arguments)
    if app.answer_option("compare", overrides, _help):
        return 0
    config = hydra_config.compose_config("compare", overrides)
    app.check_keys(config, _KEYS)
    app.check_flags(config, "json")
    app.check_texts(config, "storage")
    paths = {name: _path(config, name) for name in _FILES}
    comparison = _compared(_names(words, config["names"]), config)
    if config["json"]:
        write_lines(comparison.json())
    else:
        comparison.print()
    for path, write in ((paths["csv"], comparison.write_csv), (paths["html"], comparison.write_html)):
        if path:
            write(path)
            if not config["json"]:
                write_lines(f"written: {path}")
    return 0


def _names(words: Sequence[str], given: object) -> list[str]:
    """Unique names to compare. Raises: NasError for fewer than two."""
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise NasError(f"names {quoted(given)}: must be a list such as [mixnet_s,mixnet_m].")
    names = list(dict.fromkeys([*words, *given]))
    if len(names) < 2:
        problem = f"nothing to compare {names[0]!r} with: name" if names else "nothing to compare: name"
        raise NasError(f"{problem} two or more networks, or studies, such as: nas.compare mixnet_s mixnet_m.")
    return names


def _compared(names: Sequence[str], config: Mapping[str, Any]) -> Comparison:
    """Compare ``names``, which are all networks or all studies.

    Raises: NasError for a mix of the two.
    """
    networks = [name for name in names if is_network(name)]
    if not networks:
        return _studies(names, config)
    if len(networks) < len(names):
        other = next(name for name in names if name not in networks)
        raise NasError(
            f"{networks[0]!r} is a network and {other!r} is not: compare networks with networks, or studies with "
            f"studies.{suggestion(other, zoo.names())}"
        )
    from nas.cli.compare_networks import compare_networks, find_networks
    from nas.cli.resolve.predictors import resolve_predictor

    found = find_networks(networks)
    return compare_networks(found, resolve_predictor(config))


def _studies(names: Sequence[str], config: Mapping[str, Any]) -> Comparison:
    from nas.cli.compare_studies import compare_studies
    from nas.cli.resolve.studies import resolve_study

    runs_dir, found = app.runs_dir(config), []
    for name in names:
        try:
            found.append(resolve_study(name, runs_dir, config["storage"]))
        except NasError as error:
            raise NasError(f"{error}{suggestion(name, zoo.names())}") from None
    return compare_studies(found)


def _path(config: Mapping[str, Any], name: str) -> Path | None:
    """Path of the ``csv=`` or ``html=`` file; None if unset. Raises: NasError."""
    value = config[name]
    if value is None:
        return None
    if not isinstance(value, str) or Path(value).suffix != f".{name}":
        raise NasError(f"{name} {quoted(value)}: must be the path of a file that ends in .{name}, or null.")
    path = Path(value).expanduser()
    if path.is_dir():
        raise NasError(f"{name} {quoted(value)}: is a folder; name a file.")
    app.check_writable(path.parent, name)
    return path


def _help() -> str:
    what = entries(
        (
            "mixnet_s timm/fbnetc_100 runs/my-study/winners/winner_1.yaml",
            "networks: cost, predicted latency, accuracy if a spec file records it, ratios to the first",
        ),
        (
            "mixnet-mnist_5k mobilenet_v3-mnist_5k",
            "studies of runs_dir: trials, best accuracy, front, time, winners",
        ),
        (
            "runs/mixnet_s other/runs/mixnet_s",
            "studies by folder, needed if a study has the name of a published network",
        ),
    )
    settings = option_lines(
        "compare",
        ("csv=compare.csv", "all figures to a file"),
        ("html=compare.html", "a page that opens offline"),
        ("json=true", 'one JSON object: {"networks": [...]} or {"studies": [...]}'),
        ("storage=URL", "of the studies, if their folder does not record it"),
        ("runs_dir=runs", "the folder of studies and calibrations"),
        ("latency=", " | ".join(hydra_config.choices("latency"))),
    )
    return f"{paragraph(__doc__ or '')}\n\n{what}\n{settings}\n\n{known_networks()}"


if __name__ == "__main__":
    main()
