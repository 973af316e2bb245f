"""Choice of the forms in which a network is exported.

The fastest of some, measured side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from nas.arch.spec import ArchSpec
from nas.exporters.rewriting.forms import PLAIN, FormChoice, Forms
from nas.exporters.rewriting.named import named_forms
from nas.exporters.rewriting.network import rewritten_ops
from nas.latency.device import Device
from nas.latency.measure.backends import Runner, runner
from nas.latency.measure.side_by_side import measure_side_by_side
from nas.latency.measure.timer import RUNS

# Rewrites of the whole network that are measured; which of them pays differs between runtimes.
_CROP: Final = "crop_kernels"  # costs nothing: done in all of them
_MEASURED: Final = (
    (),
    ("merge_mixconv",),
    ("merge_mixconv", "group_pointwise"),
    ("group_pointwise",),
    ("split_mixconv",),
    ("split_mixconv", "group_pointwise"),
    ("split_mixconv", "pad_channels"),
    ("split_mixconv", "group_pointwise", "pad_channels"),
    ("split_mixconv", "sum_pieces"),
    ("split_mixconv", "sum_pieces", "pad_channels"),
)
_PREDICTED: Final = "each block in its predicted form"
_FIRST_ROUNDS, _LAST_ROUNDS, _FINALISTS = 4, 12, 3
_SIGNIFICANT: Final = 3.0  # standard errors by which a form must be faster than the plain one; several are compared
_FLOAT: Final = "float32"


def fastest_forms(
    spec: ArchSpec, device: Device, *, seed: int = 0, predicted: Forms | None = None, precision: str = _FLOAT
) -> FormChoice:
    """Measure the fastest forms of ``spec`` on this machine, as ``device``.

    Plain and rewritten forms are measured with random weights. ``device``: with precision float32. ``predicted``: the
    forms of a predictor, measured among the others. The fastest of a short round are measured again, longer: plain
    blocks stay unless one of them is faster by three standard errors of their ratio. With ``precision`` int8 the
    fastest in float32 is compared with plain blocks in int8 again.

    Raises: NasError where the runtime fails, or a clock jumps all the time.
    """
    named = {" + ".join(names or (_CROP,)): named_forms(spec, (*names, _CROP)) for names in _MEASURED}
    rivals = _distinct(spec, {**({_PREDICTED: predicted} if predicted else {}), **named})
    choice = _fastest(spec, device, rivals, seed)
    if precision == _FLOAT or choice.forms is None:
        return choice
    name = next(name for name, forms in rivals.items() if forms == choice.forms)
    return _fastest(spec, replace(device, precision=precision), {name: choice.forms}, seed)


def _fastest(spec: ArchSpec, device: Device, rivals: Mapping[str, Forms], seed: int) -> FormChoice:
    """The fastest of ``rivals`` by name, if it is faster than the plain form."""
    if not rivals:
        return FormChoice(None, "no rewrite changes this network")
    opened = partial(
        runner, spec, backend=device.backend, precision=device.precision, threads=device.threads, batch=device.batch,
        seed=seed,
    )  # fmt: skip
    plain, runners = opened(), {name: opened(forms=forms) for name, forms in rivals.items()}
    if len(runners) > _FINALISTS:
        order = sorted(zip(_ratios(plain, list(runners.values()), device, _FIRST_ROUNDS), runners, strict=True))
        runners = {name: runners[name] for _, name in order[:_FINALISTS]}
    (ratio, error), name = min(zip(_ratios(plain, list(runners.values()), device, _LAST_ROUNDS), runners, strict=True))
    measured = f"{name}, {ratio:.2f} ± {error:.2f} times the latency of plain blocks"
    if ratio + _SIGNIFICANT * error >= 1:
        which = (
            f"the fastest of {len(rivals)} rewrites" if len(rivals) > 1 else "the rewrite that is fastest in float32"
        )
        return FormChoice(None, f"plain blocks; {which} is {measured}, measured")
    several = f", the fastest of {len(rivals)}" if len(rivals) > 1 else ""
    return FormChoice(rivals[name], f"{measured}{several}, measured")


def _ratios(plain: Runner, runners: Sequence[Runner], device: Device, rounds: int) -> list[tuple[float, float]]:
    """Latencies of ``runners`` divided by that of ``plain``, with standard errors."""
    timed = measure_side_by_side([plain, *runners], [device] * (1 + len(runners)), rounds=rounds, runs=RUNS)
    base, *others = [one.latency_ms for one in timed.measurements]
    return [(ms / base, ms / base * error) for ms, error in zip(others, timed.ratio_errors[0][1:], strict=True)]


def _distinct(spec: ArchSpec, found: Mapping[str, Forms]) -> dict[str, Forms]:
    """Forms whose operations differ from the plain ones, each under its first name."""
    seen, rivals = {rewritten_ops(spec, (PLAIN,) * len(list(spec.placed_blocks())))[0]}, {}
    for name, forms in found.items():
        ops = rewritten_ops(spec, forms)[0]
        if ops not in seen:
            rivals[name] = forms
        seen.add(ops)
    return rivals
