"""``python -m nas.compound_grid phi=1``: find the best way to scale a network.

It compares more depth, more width and larger images.
"""

from __future__ import annotations

from typing import Any, Final

from nas.cli import app, hydra_config, multirun
from nas.cli.help_layout import entries, option_lines, paragraph
from nas.cli.resolve.networks import known_networks, resolve_arch
from nas.methods import SCALING

_SETTINGS: Final = ("data", "proxy", "latency", "engine", "grid", "table", "rounding", "race", "study", "constraint")
_KEYS: Final = ("baseline", "phi", "target", "compare", "coefficients", *_SETTINGS, "runs_dir", "json")


def main() -> None:
    """Console entry point."""
    app.run_command(command)


def command(arguments: list[str]) -> int:
    """Run the grid, after all quick checks and before any heavy import."""
    return multirun.run_studies(
        arguments,
        multirun.StudyCommand("compound_grid", make_plan, SCALING, _help),
    )


def make_plan(arguments: list[str]) -> Any:
    """A checked ``ScalingPlan`` from command-line overrides. Raises: NasError.

    Loads torch only for a baseline of timm's.
    """
    config = hydra_config.compose_config("compound_grid", arguments)
    app.check_keys(config, _KEYS)
    app.check_flags(config, "json")
    from nas.core.credentials import masked_command
    from nas.data.sources import check_data
    from nas.methods.scaling.config import ScalingPlan

    plan = ScalingPlan.of(
        config,
        baseline=resolve_arch(config["baseline"], "baseline"),
        runs_dir=app.runs_dir(config),
        command=masked_command(["python", "-m", "nas.compound_grid", *arguments]),
    )
    check_data(plan.data)
    return plan


def _help() -> str:
    about = """The grid of EfficientNet (arXiv:1905.11946, equation 3) on a network of your own: every alpha (depth),
        beta (width) and gamma (resolution) whose cost grows by about 2, with the realised growth after rounding. It
        trains a proxy of each, and more seeds where accuracies are within noise, and reports the best triple, its
        uncertainty, and the triples that are statistically indistinguishable from it."""
    questions = entries(
        ("baseline=NAME", "efficientnet_b0, any published network, timm/NAME, or a spec file, such as a winner's"),
        ("phi=1", "the target grows by 2^phi"),
        ("target=macs|latency", "latency: the predicted one, so that the coefficients fit the device"),
        (
            "compare=[depth,width,resolution,compound,dwr,stepwise]",
            "these rules at the same cost instead of a grid; stepwise grows one axis at a time and keeps the best of "
            "each doubling (X3D)",
        ),
        ("coefficients=[1.2,1.1,1.15]", "of compound in a comparison"),
        ("compare=width_lines", "a table: widths from several depths and resolutions (EfficientNet, figure 4)"),
        ("compare=width_resolution", "a table: widths x input sides (MobileNetV1's 16 networks)"),
    )
    settings = entries(
        (
            "grid.alpha=[1.0,1.2,1.4] grid.beta= grid.gamma= grid.tolerance= grid.realised_tolerance=",
            "the triples to consider",
        ),
        (
            "table.widths=[1.0,1.5,2.2] table.starts=[[1,1],[1,1.3]] table.resolution_px=[224,192]",
            "the networks of a table",
        ),
        (
            "rounding.depth_rule=ceil|round rounding.divisor= "
            "rounding.resolution_rule=exact|multiple_of_4|multiple_of_8",
            "override the rules of the baseline's family",
        ),
        (
            "race.seeds race.finalists race.stop_share race.min_power race.criterion race.last_epochs",
            "trainings per triple, and when to end",
        ),
        *multirun.LIMITS_HELP,
        ("study.name study.seed runs_dir", "the study; the same name resumes it"),
        *multirun.STORAGE_HELP,
        *multirun.WORKERS_HELP,
    )
    several = "baseline=mixnet_s,efficientnet_b0 study.seed=0,1"
    return f"""{paragraph(__doc__ or "")}

{paragraph(about)}

{questions}

Experiments, complete studies of the same name:
{hydra_config.describe_choices("experiment", hydra_config.presets("compound_grid"), "experiment=")}

Choices:
{hydra_config.choices_help("data", "proxy", "latency", "engine")}

Settings (name=value):
{settings}
{option_lines("compound_grid", *multirun.multirun_options(several))}

Results are in <runs_dir>/<study.name>/: report.html, networks.csv,
trials.csv, family/; the study is in <runs_dir>/optuna.db. The same command
resumes it.

{known_networks()}"""


if __name__ == "__main__":
    main()
