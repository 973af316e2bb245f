"""``python -m nas.search +space=mixnet``: search a space for networks.

It looks for networks that are accurate, and fast on this machine.
"""

from __future__ import annotations

from typing import Any

from nas.cli import app, hydra_config, multirun
from nas.cli.help_layout import entries, option_lines, paragraph
from nas.cli.search_plan import make_search_plan, spaces_help
from nas.methods import SEARCH


def main() -> None:
    """Console entry point."""
    app.run_command(command)


def command(arguments: list[str]) -> int:
    """Run the search, after all quick checks and before any heavy import."""
    return multirun.run_studies(arguments, multirun.StudyCommand("search", make_plan, SEARCH, _help))


def make_plan(arguments: list[str]) -> Any:
    """Build a checked ``SearchPlan`` from command-line overrides.

    Imports neither torch nor Optuna, but for baselines of timm. Raises: NasError.
    """
    config = hydra_config.compose_config("search", arguments)
    return make_search_plan(config, ["python", "-m", "nas.search", *arguments])


def _help() -> str:
    groups = ("data", "proxy", "estimator", "latency", "objective", "sampler", "pruner", "engine")
    settings = entries(
        ("study.name study.n_trials study.seed", "the study; the same name resumes it"),
        ("study.first=NAME", "an earlier study whose best networks are trained first"),
        ("study.evaluated=FILE.csv 'study.learn_from=[NAME]'", "evaluations that sampler=guided learns from"),
        ("objective.task=segmentation", "or detection: candidates get a head for it, and data= and proxy= fit"),
        ("head.c3_scale head.filters head.halve", "settings of that head"),
        ("'study.baselines=[timm/NAME]'", "pretrained networks, fine-tuned as long as the proxies, to compare with"),
        *multirun.STORAGE_HELP,
        *multirun.LIMITS_HELP,
        ("data.root proxy.epochs proxy.width_multiplier objective.target_ms runs_dir", "see --cfg job for all"),
        *multirun.WORKERS_HELP,
    )
    several = "space=mixnet,mobilenet_v3 study.seed=0,1,2"
    return f"""{paragraph(__doc__ or "")}

Spaces:
{spaces_help()}

Experiments, complete studies of the same name:
{hydra_config.describe_choices("experiment", hydra_config.presets("search"), "experiment=")}

Choices:
{hydra_config.choices_help(*groups)}

Settings (name=value):
{settings}
{option_lines("search", *multirun.multirun_options(several))}

Results are in <runs_dir>/<study.name>/: winners/, trials.csv, report.html;
the study is in <runs_dir>/optuna.db."""


if __name__ == "__main__":
    main()
