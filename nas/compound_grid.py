"""``python -m nas.compound_grid phi=1``: how to scale a network up: more depth, more width, or larger images."""

from __future__ import annotations

import shlex
from typing import Any, Final

from nas import cli, composing, sweep
from nas.networks import find_arch

_SETTINGS: Final = ("data", "proxy", "latency", "engine", "grid", "table", "rounding", "race", "study", "constraint")
_KEYS: Final = ("baseline", "phi", "target", "compare", "coefficients", *_SETTINGS, "runs_dir", "json")


def main() -> None:
    """Console entry point."""
    cli.run(command)


def command(arguments: list[str]) -> int:
    """Check everything that can be checked in a moment, then load what is heavy and run the grid."""
    return sweep.run(arguments, sweep.Command("compound_grid", make_plan, ("nas.compound.results", "COMPOUND"), _help))


def make_plan(arguments: list[str]) -> Any:
    """A checked ``CompoundPlan`` from command-line overrides. Raises: NasError.

    Loads torch only for a baseline of timm's.
    """
    config = composing.compose_config("compound_grid", arguments)
    cli.check_keys(config, _KEYS)
    cli.check_flags(config, "json")
    from nas.compound.plan import CompoundPlan
    from nas.proxy.sources import check_data
    from nas.study.urls import masked

    plan = CompoundPlan.of(
        config,
        baseline=find_arch(config["baseline"], "baseline"),
        runs_dir=cli.runs_dir(config),
        command=masked(shlex.join(["python", "-m", "nas.compound_grid", *arguments])),
    )
    check_data(plan.data)
    return plan


def _help() -> str:
    groups = ("data", "proxy", "latency", "engine")
    lists = "\n".join(f"  {group}= {' | '.join(composing.choices(group))}" for group in groups)
    return f"""{cli.plain(__doc__)}

The grid of EfficientNet (arXiv:1905.11946, equation 3) on a network of your own: every alpha (depth), beta (width) and
gamma (resolution) whose cost grows by about 2, the real growth of each after rounding, a proxy trained of each, several
where the accuracies are closer than their noise. It answers with the best triple, its uncertainty, and the triples that
it cannot tell apart from it.

  baseline=efficientnet_b0 | baseline=timm/fbnetc_100 | baseline=runs/my-study/winners/winner_1.yaml
  phi=1                the target grows by 2^phi
  target=macs|latency  latency: of the predictor, so that the coefficients fit the device
  compare=[depth,width,resolution,compound,dwr,stepwise]    these rules at the same cost instead of a grid; stepwise
                       grows one axis at a time and keeps the best of each doubling (X3D)
  coefficients=[1.2,1.1,1.15]                               of compound in a comparison
  compare=width_lines          a table instead: widths from several depths and resolutions (EfficientNet, figure 4)
  compare=width_resolution     a table instead: widths x input sides (MobileNetV1's 16 networks)

Experiments, complete and named after themselves:
{composing.listed("experiment", composing.presets("compound_grid"), "experiment=")}

Choices:
{lists}

Settings (name=value):
  grid.alpha=[1.0,1.2,1.4] grid.beta= grid.gamma= grid.tolerance= grid.realised_tolerance=
  table.widths=[1.0,1.5,2.2] table.starts=[[1,1],[1,1.3],[2,1],[2,1.3]] table.sides_px=[224,192,160,128]
  rounding.depth_rule=ceil|round rounding.divisor= rounding.resolution_rule=exact|multiple_of_4|multiple_of_8
  race.seeds race.finalists race.stop_share        trainings per triple
  constraint.peak_memory_mb constraint.latency_ms constraint.macs_m constraint.params_m    upper limits
  study.name study.seed study.storage study.patience_s engine.workers engine.address runs_dir
  engine.max_retries engine.trial_timeout_s engine.trial_memory_mb    when workers die, and what a trial may take
  json=true    what came out as one JSON object on stdout, all else on stderr
  --multirun   one study for each combination of values: baseline=mixnet_s,efficientnet_b0 study.seed=0,1
  --cfg job    print the whole configuration and stop
  -sc install=bash    tab completion of nas-compound-grid: eval "$(nas-compound-grid -sc install=bash)"; also zsh, fish

Results stand in <runs_dir>/<study.name>/: report.html, networks.csv, trials.csv, family/; the study in
<runs_dir>/optuna.db. The same command goes on where it stopped."""


if __name__ == "__main__":
    main()
