"""Functions of the public Python API; ``nas/__init__.py`` lists all its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.arch import zoo
from nas.arch.rewrites import Rewrites
from nas.arch.scaling.compound import ScaledNetwork
from nas.arch.scaling.request import ScalingRequest, target_measures
from nas.arch.scaling.rounding_rules import RoundingOverrides
from nas.arch.scaling.targets import CostMeasure
from nas.arch.scaling.transform import Compound, Factors, Scaling, scale
from nas.arch.spec import ArchSpec
from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError

if TYPE_CHECKING:
    from torch import nn

    from nas.cli.resolve.reopened import ReopenedStudy
    from nas.exporters.deployment.write import ExportResult
    from nas.latency.predictors.base import LatencyEstimate, LatencyPredictor
    from nas.reporting.bench_report import BenchReport
    from nas.results import CompoundGridResult, NetAdaptResult, SearchResult, StudyResult, TrainingResult
    from nas.study.config import StudyPlan
    from nas.study.kind import StudyKind

_TIMM_PREFIX: Final = "timm/"
_NAME_OR_FILE: Final = "arch: must be a name or the path of a spec file; nas.save_spec(spec, path) writes one."


def published_names() -> tuple[str, ...]:
    """Names of the published networks by family: ``mixnet_s``, ``mixnet_m``, ..."""
    return zoo.names()


def published(name: str) -> ArchSpec:
    """Published network of that name, at its published input side.

    Raises: NasError for an unknown name.
    """
    return zoo.get(name)


def from_timm(network: str | nn.Module) -> ArchSpec:
    """Spec of a timm network of the EfficientNet and MobileNet families.

    ``network``: ``"fbnetc_100"``, ``"timm/fbnetc_100"``, or ``timm.create_model(...)``. The spec is exact: ``build`` of
    it has the same state-dict keys and, with the same weights, the same outputs.
    Raises: NasError for what a spec cannot express.
    """
    from nas.cli.app import import_heavy

    network_module = import_heavy("nas.model.timm_import.network")
    if isinstance(network, str):
        named: ArchSpec = network_module.timm_arch(network.removeprefix(_TIMM_PREFIX))
        return named
    read: ArchSpec = network_module.from_timm(network)
    return read


def scale_spec(
    spec: ArchSpec,
    scaling: Scaling | None = None,
    *,
    phi: float | str | None = None,
    width: float | None = None,
    depth: float | None = None,
    resolution_px: int | None = None,
    rule: str = "compound",
    coefficients: Compound | None = None,
    dwr_alpha: float = 0.8,
    target_macs_m: float | None = None,
    target_params_m: float | None = None,
    target_memory_mb: float | None = None,
    target_ms: float | None = None,
    predictor: LatencyPredictor | None = None,
    rounding: Mapping[str, Any] | None = None,
    head: str | None = None,
    hswish_from: float | None = None,
) -> ScaledNetwork:
    """Scale ``spec`` in width, depth and resolution; ``arch`` is the scaled network.

    As ``python -m nas.scale`` does it. Say how far in one of four ways: by ``phi`` (units of about twice the MACs,
    negative for a smaller network); by some of ``width``, ``depth`` (multipliers) and ``resolution_px`` (input side);
    to one or more targets (the largest phi within them; ``target_ms`` needs a ``predictor``); or by a complete
    ``scaling`` with rules of its own. ``rule``: compound (by ``coefficients``), published, dwr (with ``dwr_alpha``),
    width, depth or resolution.
    ``rounding``: other rules than the family of ``spec`` was published with, such as ``{"depth_rule": "round"}``; those
    that were used are the result's ``rounding``, with the family in ``rounding.origin``.
    ``head="pool_conv"`` and ``hswish_from=0.5`` rewrite ``spec`` before it is scaled, or alone: MobileNetV3's efficient
    last stage, and h-swish in the second half of its blocks; the steps are the result's ``rewrites``.

    >>> import nas
    >>> nas.scale_spec(nas.published("efficientnet_b0"), phi=1).arch.resolution_px
    256

    Raises: NasError for values out of range, more than one way, nothing to do, and a target that nothing meets.
    """
    targets = {
        "target_ms": target_ms,
        "target_macs_m": target_macs_m,
        "target_params_m": target_params_m,
        "target_memory_mb": target_memory_mb,
    }
    request = ScalingRequest(
        rule=rule,
        coefficients=coefficients or Compound(),
        dwr_alpha=dwr_alpha,
        phi=phi,
        width=width,
        depth=depth,
        resolution_px=resolution_px,
        targets={name: value for name, value in targets.items() if value is not None},
        rewrites=Rewrites(head=head, hswish_from=hswish_from),
    )
    if scaling is not None:
        if not request.is_empty or rounding:
            raise NasError(
                "scaling: says how far to go and how to round; leave phi, multipliers, targets and rounding out."
            )
        return _by_scaling(spec, scaling, request.rewrites)
    if target_ms is not None and predictor is None:
        raise NasError("target_ms: needs a predictor, such as predictor=nas.latency_predictor(backend='onnxruntime').")
    latency = None if predictor is None else _latency_of(predictor)
    rules = from_mapping(RoundingOverrides, rounding or {}, "rounding").rules(spec)
    return request.resolve(spec, target_measures(latency), rules)


def _latency_of(predictor: LatencyPredictor) -> CostMeasure:
    return lambda arch: predictor.predict(arch).latency_ms


def _by_scaling(spec: ArchSpec, scaling: Scaling, rewrites: Rewrites) -> ScaledNetwork:
    steps = rewrites.steps(spec)
    baseline = steps[-1].after if steps else spec
    side = scaling.resolution_px or spec.resolution_px
    factors = Factors(depth=scaling.depth, width=scaling.width, resolution=side / spec.resolution_px)
    arch = scale(baseline, scaling)
    return ScaledNetwork(baseline=baseline, arch=arch, factors=factors, scaling=scaling, rewrites=steps)


def latency_predictor(**settings: Any) -> LatencyPredictor:
    """Latency predictor of this device, calibrated first if it never was (a minute).

    ``settings`` are those of the group ``latency`` of every command: ``backend`` (onnxruntime, torch, cuda, cuda_graph,
    macs or table), ``precision``, ``threads``, ``batch``, ``budget_s``, ``calibration``, ...; ``latency``, the name of
    a configuration of that group; and ``runs_dir``, where calibrations are kept. Progress goes to stderr.
    Raises: NasError for a wrong setting, and a calibration of another device.
    """
    from nas.cli.hydra_config import compose_config
    from nas.cli.overrides import overrides_of
    from nas.cli.resolve.predictors import resolve_predictor

    shared: dict[str, Any] = {name: settings.pop(name) for name in ("latency", "runs_dir") if name in settings}
    overrides = [*overrides_of(shared), *overrides_of({"latency": settings})]
    return resolve_predictor(compose_config("show", overrides))


def predict_latency(spec: ArchSpec, **settings: Any) -> LatencyEstimate:
    """Predicted latency of ``spec`` on this device, with its 90% interval.

    ``settings``: as of ``latency_predictor``, which is for many networks: it is loaded once.

    >>> import nas
    >>> estimate = nas.predict_latency(nas.published("mixnet_s"), backend="macs")
    >>> estimate.low_ms <= estimate.latency_ms <= estimate.high_ms
    True
    """
    return latency_predictor(**settings).predict(spec)


def run_search(*overrides: str, progress: bool = True, **settings: Any) -> SearchResult:
    """Run or resume an architecture search, as ``python -m nas.search`` does.

    The settings are those of the command, as ``overrides`` in its words or as keywords with nested mappings::

        nas.run_search("space=mixnet", "study.n_trials=40")
        nas.run_search(space="mixnet", study={"n_trials": 40}, constraint={"latency_ms": 20})

    ``progress``: say on stderr what is done. Ctrl-C ends the search after writing its results, with ``interrupted``
    set; the same call goes on.
    Raises: NasError, with the text that the command prints, for a wrong setting.
    """
    from nas.methods import SEARCH
    from nas.results import search_result
    from nas.search import make_plan

    plan = make_plan(_arguments(overrides, settings))
    found, interrupted = _run(plan, SEARCH, progress)
    return search_result(found, interrupted=interrupted)


def run_compound_grid(*overrides: str, progress: bool = True, **settings: Any) -> CompoundGridResult:
    """Run or resume a grid of compound scalings, as ``python -m nas.compound_grid``.

    Settings and ``progress`` as of ``run_search``, such as
    ``nas.run_compound_grid(baseline="mixnet_s", phi=1, race={"seeds": 2})``; a ``baseline`` is a name or a spec file.
    Raises: NasError, with the text that the command prints, for a wrong setting.
    """
    from nas.compound_grid import make_plan
    from nas.methods import SCALING
    from nas.results import compound_grid_result

    if isinstance(settings.get("baseline"), ArchSpec):
        raise NasError("baseline: must be a name or the path of a spec file; nas.save_spec(spec, path) writes one.")
    plan = make_plan(_arguments(overrides, settings))
    found, interrupted = _run(plan, SCALING, progress)
    return compound_grid_result(found, interrupted=interrupted)


def run_netadapt(*overrides: str, progress: bool = True, **settings: Any) -> NetAdaptResult:
    """Run or resume an adaptation (NetAdapt), as ``python -m nas.netadapt``.

    Settings and ``progress`` as of ``run_search``, such as
    ``nas.run_netadapt(arch="mobilenetv2_100", weights="pretrained", target=0.7)``; an ``arch`` is a name or a spec
    file.
    Raises: NasError, with the text that the command prints, for a wrong setting.
    """
    from nas.methods import NETADAPT
    from nas.netadapt import make_plan
    from nas.results import netadapt_result

    if isinstance(settings.get("arch"), ArchSpec):
        raise NasError(_NAME_OR_FILE)
    plan = make_plan(_arguments(overrides, settings))
    found, interrupted = _run(plan, NETADAPT, progress)
    return netadapt_result(found, interrupted=interrupted)


def train_network(*overrides: str, progress: bool = True, **settings: Any) -> TrainingResult:
    """Train a network in full, or go on, as ``python -m nas.train`` does.

    Settings and ``progress`` as of ``run_search``, such as ``nas.train_network(arch="mixnet_s", recipe="finetune")``;
    an ``arch`` is a name or a spec file. Ctrl-C raises KeyboardInterrupt once the state is saved; the same call goes
    on, and returns the result of a training that is finished.
    Raises: NasError, with the text that the command prints, for a wrong setting.
    """
    from nas.results import training_result
    from nas.train import finished_or_trained, make_plan

    if isinstance(settings.get("arch"), ArchSpec):
        raise NasError(_NAME_OR_FILE)
    plan = make_plan(_arguments(overrides, settings))
    return training_result(plan.folder, finished_or_trained(plan, to_stderr=True, quiet=not progress))


def run_bench(*overrides: str, progress: bool = True, **settings: Any) -> BenchReport:
    """Compare exported networks on this machine, as ``python -m nas.bench`` does.

    What was measured before is kept. Settings and ``progress`` as of ``run_search``, such as
    ``nas.run_bench(arch=["mixnet_s", "mobilenetv2_100"], precision=["float32", "int8"])``. The result's ``networks``
    have the rows, its ``verdicts`` what they show.
    Raises: NasError, with the text that the command prints, for a wrong setting.
    """
    from rich.console import Console

    from nas.bench import make_plan, run_plan

    return run_plan(make_plan(_arguments(overrides, settings)), Console(stderr=True, quiet=not progress))


def export_network(*overrides: str, progress: bool = True, **settings: Any) -> ExportResult:
    """Export a network for a runtime, as ``python -m nas.export`` does.

    Settings and ``progress`` as of ``run_search``, such as
    ``nas.export_network(arch="runs/w1/best.yaml", format="onnx")``; an ``arch`` is a name or a spec file. The result's
    ``file`` was run and compared with torch.
    Raises: NasError, with the text that the command prints, for a wrong setting, and for a file that differs.
    """
    from nas.export import exported, make_plan

    if isinstance(settings.get("arch"), ArchSpec):
        raise NasError(_NAME_OR_FILE)
    return exported(make_plan(_arguments(overrides, settings)), to_stderr=True, quiet=not progress)


def load_study(name: str, runs_dir: str | Path = "runs", *, storage: str | None = None) -> StudyResult:
    """Result of the study ``name`` below ``runs_dir``, finished or not.

    A ``SearchResult``, a ``CompoundGridResult`` or a ``NetAdaptResult``. Nothing is trained or written. ``storage``:
    its URL, where its folder does not say it.
    Raises: NasError, with the studies that there are, for an unknown name.
    """
    from nas.cli.resolve.reopened import reopen_study
    from nas.results import result_of
    from nas.study.config import RecordSettings

    record = RecordSettings(name=name, storage=storage)
    return result_of(reopen_study(name, record.storage, Path(runs_dir).expanduser()))


def _arguments(overrides: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """What would be typed after the command. Raises: NasError."""
    from nas.cli.app import refuse_options
    from nas.cli.overrides import overrides_of

    refuse_options(overrides)
    return [*overrides, *overrides_of(settings)]


def _run(plan: StudyPlan, kind: StudyKind, progress: bool) -> tuple[ReopenedStudy, bool]:
    """Run ``plan``; its study, and whether it was interrupted. Raises: NasError."""
    from nas.cli.app import EXIT_INTERRUPTED, launch_study
    from nas.cli.resolve.reopened import reopen_study

    code = launch_study(plan, kind, to_stderr=True, quiet=not progress)
    return reopen_study(plan.name, plan.study.storage, plan.runs_dir), code == EXIT_INTERRUPTED
