"""``python -m nas.netadapt arch=SPEC.yaml target=0.7``: shrink a trained network.

It is shrunk to a latency on your device, step by step, and keeps its weights (NetAdapt).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from nas.cli import app, hydra_config, multirun
from nas.cli.help_layout import entries, option_lines, paragraph
from nas.cli.resolve.networks import known_networks, resolve_arch
from nas.cli.resolve.weights import resolve_weights
from nas.methods import NETADAPT

_SETTINGS: Final = ("data", "latency", "engine", "netadapt", "training", "study")
_TARGETS: Final = ("target", "target_ms", "target_macs_m", "target_params_m", "target_memory_mb")
_KEYS: Final = ("arch", "weights", "resolution_px", *_TARGETS, *_SETTINGS, "runs_dir", "json")


def main() -> None:
    """Console entry point."""
    app.run_command(command)


def command(arguments: list[str]) -> int:
    """Run the adaptation, after all quick checks and before any heavy import."""
    return multirun.run_studies(arguments, multirun.StudyCommand("netadapt", make_plan, NETADAPT, _help))


def make_plan(arguments: list[str]) -> Any:
    """A checked ``NetAdaptPlan`` from command-line overrides. Raises: NasError.

    Loads torch only for a network of timm's.
    """
    config = hydra_config.compose_config("netadapt", arguments)
    app.check_keys(config, _KEYS)
    app.check_flags(config, "json")
    from nas.core.credentials import masked_command
    from nas.data.sources import check_data
    from nas.methods.netadapt.config import NetAdaptPlan

    seed, side = resolve_arch(config["arch"]), config["resolution_px"]
    plan = NetAdaptPlan.of(
        {**config, "weights": resolve_weights(config["weights"])},
        seed=seed if side is None else replace(seed, resolution_px=side),
        runs_dir=app.runs_dir(config),
        command=masked_command(["python", "-m", "nas.netadapt", *arguments]),
    )
    check_data(plan.data)
    return plan


def _help() -> str:
    about = """NetAdapt (arXiv:1804.03230), as MobileNetV3 uses it (arXiv:1905.02244, section 4.2), for any network
        that arch= accepts. Each step makes proposals that cut the predicted latency by at least netadapt.delta: one
        expansion layer, one width that blocks share, one kernel, one MixConv group, one block, the head, or the input
        side is shrunk, and the most important channels keep their weights. The proposals whose loss grows least for the
        latency that they save are joined until they cut netadapt.step, and fine-tuned for a few batches."""
    settings = entries(
        ("arch=NAME", "a published network, timm/NAME, or a spec file, such as a winner's"),
        ("weights=FILE.safetensors", "of nas.train, or pretrained; null: trained first, training.epochs epochs"),
        ("target=0.7", "share of its latency; or target_ms target_macs_m target_params_m target_memory_mb"),
        ("netadapt.delta netadapt.kinds netadapt.divisor netadapt.least_px", "what a step cuts, and how"),
        ("netadapt.step netadapt.criterion netadapt.loss_images", "which proposals a step keeps"),
        ("netadapt.fine_tuned netadapt.batches netadapt.lr", "what is fine-tuned at its end"),
        ("training.epochs training.lr training.batch_size", "of the network to begin with; see --cfg job for all"),
        ("resolution_px data.root data.subset", "side of the input; the images"),
        ("study.name study.seed runs_dir", "the study; the same name resumes it"),
        *multirun.STORAGE_HELP,
        *multirun.WORKERS_HELP,
    )
    return f"""{paragraph(__doc__ or "")}

{paragraph(about)}

Choices:
{hydra_config.choices_help("data", "latency", "engine")}

Settings (name=value):
{settings}
{option_lines("netadapt", *multirun.multirun_options("target=0.8,0.6 study.seed=0,1"))}

Results are in <runs_dir>/<study.name>/: report.html, adapted.yaml and its
weights adapted.safetensors, steps.csv, trials.csv, steps/ with the network
of every step. The same command resumes the study.

{known_networks()}"""


if __name__ == "__main__":
    main()
