"""A small adaptation of real trainings as a command."""

from __future__ import annotations

from pathlib import Path

SPEC = """
format: nas.arch/1
name: small
stem: {channels: 8, kernel: 3, stride: 2}
stages:
- [ds_r1_k3_s1_c8]
- [ir_r2_k3.5_s2_e4_c16]
- [ir_r2_k5_s1_e4_c16]
head: {channels: 32, kind: conv_pool}
resolution_px: 16
in_channels: 1
classes: 10
"""
# Two steps of a network with 0.2 M multiply-adds on 100 images: a trial takes some tens of milliseconds.
TINY = (
    "arch=small.yaml", "target=0.6", "latency=macs", "data=digits", "data.subset=100", "training.epochs=1",
    "netadapt.step=0.13", "netadapt.delta=0.04", "netadapt.batches=2", "netadapt.fine_tuned=2", "study.name=tiny",
)  # fmt: skip


def write_small_spec(folder: Path) -> None:
    """Write the network that ``TINY`` begins with."""
    (folder / "small.yaml").write_text(SPEC, encoding="utf-8")
