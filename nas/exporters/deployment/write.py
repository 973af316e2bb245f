"""Export of a network: written, checked against torch, described, then in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from nas.arch.spec import ArchSpec
from nas.core.console import print_lines, progress_bar
from nas.core.errors import NasError
from nas.core.formatting import plural
from nas.data.dense import DenseDataSettings
from nas.exporters.check import (
    FileScore,
    ImageAccuracy,
    LogitDifference,
    accuracy_through,
    largest_difference,
    noise_images,
)
from nas.exporters.deployment.dense import (
    ExportImages,
    OpenImages,
    file_processing,
    no_images,
    noise_pixels,
    processing_difference,
)
from nas.exporters.deployment.documents import CheckedFile, file_metadata, write_documents
from nas.exporters.deployment.folder import check_free, staged_folder
from nas.exporters.deployment.network import ExportedNetwork, load_exported_network
from nas.exporters.deployment.plan import AUTO, NONE, ExportPlan
from nas.exporters.deployment.quantised import CompareRuns, QuantisedFile, check_int8_images, write_quantised
from nas.exporters.formats import Format, ImageBatch, Run, format_of
from nas.exporters.graph import InferenceGraph, inference_graph
from nas.exporters.reference import numpy_run, torch_run
from nas.exporters.rewriting.forms import PLAIN, FormChoice, Forms
from nas.exporters.rewriting.named import named_forms

if TYPE_CHECKING:
    from nas.exporters.deployment.images import ValidationImages

LatencyText = Callable[[ArchSpec, Forms | None], str]
FastestForms = Callable[[ArchSpec], FormChoice]
_NOT_MEASURED: Final = FormChoice(None, "plain blocks: this runtime is not measured here")
_COMPARED: Final = 32  # validation images whose logits are compared
_NOISE: Final = 4  # images of noise, without validation images
_NOISE_SEED: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """Result of an export.

    ``folder``: everything that was written, ``file`` what the runtime opens, ``files`` all. ``spec``: the network, with
    the classes of its weights. ``difference``: largest difference to the logits of torch (of random weights: of NumPy
    in float64). ``accuracy``: through the file, on all validation images, of a detector or segmenter AP or mIoU; None
    without images. ``size_bytes``: of the network's files. ``int8``: what is known of an int8 file; then ``difference``
    is that of float32 before it.
    """

    spec: ArchSpec
    format: str
    folder: Path
    file: Path
    files: tuple[Path, ...]
    difference: LogitDifference
    accuracy: ImageAccuracy | FileScore | None
    size_bytes: int
    int8: QuantisedFile | None = None


def run_export(
    plan: ExportPlan,
    console: Console,
    latency_text: LatencyText = lambda arch, forms: "",
    compare_runs: CompareRuns = lambda before, after, images: "",
    fastest_forms: FastestForms = lambda arch: _NOT_MEASURED,
    dense_images: OpenImages = no_images,
) -> ExportResult:
    """Export the network of ``plan``; nothing is written unless its check passes.

    ``latency_text``: the predicted latency of a network with its blocks in forms (None: plain ones) in a sentence,
    empty if it is not known. ``compare_runs``: the same of int8 beside float32, measured. ``fastest_forms``: the forms
    of blocks for ``rewrite=auto``. ``dense_images``: the images of the check of a detector or segmenter.

    Raises: NasError in one line.
    """
    file_format = format_of(plan.format)
    module = file_format.module()
    check_free(plan.out, overwrite=plan.overwrite)
    is_int8 = plan.precision != "float32"
    if is_int8:
        check_int8_images(plan)
        file_format.int8_module()
    network = load_exported_network(plan)
    print_lines(console, *network.remarks)
    labelled = _validation_images(plan, network)
    dense = dense_images(plan, network) if isinstance(plan.data, DenseDataSettings) else None
    images: ValidationImages | ExportImages | None = labelled or dense
    choice = _form_choice(plan, file_format, network.arch, fastest_forms)
    graph = _graph(plan, file_format, network, choice.forms)
    whole = replace(graph, processing=file_processing(plan, file_format, network))
    with staged_folder(plan.out, overwrite=plan.overwrite) as folder:
        path, int8 = folder / f"{file_format.stem or plan.name}{file_format.suffix}", None
        if is_int8:
            run = raw = module.open_graph(graph, plan.threads)
        else:
            files = module.write_model(whole, path)
            run = raw = module.open_model(files[0], plan.threads)
            if whole.processing is not None:
                raw = module.open_graph(graph, plan.threads)
        difference = _difference(plan, file_format, network, graph, raw, images)
        processing_text = ""
        if whole.processing is not None and not is_int8:
            pixels = noise_pixels(graph, _NOISE_SEED, _NOISE) if dense is None else dense.pixel_sample(_COMPARED)
            processing_text = processing_difference(run, _reference(plan, file_format, network), whole, pixels)
        accuracy: ImageAccuracy | FileScore | None
        if is_int8:
            int8 = write_quantised(plan, file_format, network, whole, path, run, images, compare_runs, console)
            files, accuracy = int8.files, int8.own_accuracy
        else:
            accuracy = _accuracy(plan, run, labelled, console)
            if dense is not None:
                accuracy = dense.score(run, plan.batch, whole.processing)
        checked = CheckedFile(
            files=files,
            difference=difference,
            reference=_reference_name(network),
            images="images of noise" if images is None else f"validation images of {images.name}",
            tolerance=file_format.tolerance,
            runtime=_runtime(file_format),
            accuracy=accuracy,
            data="" if images is None else images.name,
            processing=whole.processing,
            processing_text=processing_text,
            latency_text=latency_text(network.arch, choice.forms),
            int8_texts=int8.texts if int8 else (),
            rewrite_text=choice.reason,
        )
        others = write_documents(folder, plan, file_format, network, checked)
    if choice.reason:
        print_lines(console, f"rewrite={','.join(plan.rewrite)}: {choice.reason}")
    when = "before quantisation, " if is_int8 else ""
    print_lines(console, f"{when}checked in {checked.difference_text}", *filter(None, [checked.processing_text]))
    print_lines(console, *(checked.int8_texts or filter(None, [checked.accuracy_text])))
    written = [plan.out / path.name for path in (*files, *others)]
    return ExportResult(
        spec=network.arch,
        format=file_format.name,
        folder=plan.out,
        file=written[0],
        files=tuple(written),
        difference=difference,
        accuracy=accuracy,
        size_bytes=sum((plan.out / path.name).stat().st_size for path in files),
        int8=int8,
    )


def _form_choice(plan: ExportPlan, file_format: Format, arch: ArchSpec, fastest_forms: FastestForms) -> FormChoice:
    """Forms of the blocks of ``arch``.

    Raises: NasError for named rewrites of what has no operations.
    """
    if plan.rewrite == (NONE,):
        return FormChoice(None, "")
    if plan.rewrite == (AUTO,):
        return fastest_forms(arch) if file_format.is_folded else FormChoice(None, "")
    if not file_format.is_folded:
        raise NasError(
            f"rewrite {', '.join(plan.rewrite)}: format {file_format.name} holds the network with its own layers; "
            "leave rewrite out."
        )
    forms = named_forms(arch, plan.rewrite)
    changed = sum(one != PLAIN for one in forms)
    return FormChoice(forms, f"changes {changed} of {plural(len(forms), 'block')}")


def _graph(
    plan: ExportPlan, file_format: Format, network: ExportedNetwork, forms: Forms | None = None
) -> InferenceGraph:
    """Operations that are written, with the metadata of the file.

    ``forms``: of the blocks.
    """
    graph = inference_graph(
        network.arch, weights=network.weights, batch=plan.batch, seed=plan.seed, provenance=network.facts, forms=forms
    )
    return replace(graph, metadata={**graph.metadata, **file_metadata(plan, file_format, network)})


def _validation_images(plan: ExportPlan, network: ExportedNetwork) -> ValidationImages | None:
    if plan.data is None or isinstance(plan.data, DenseDataSettings):
        return None
    from nas.exporters.deployment.images import ValidationImages

    return ValidationImages(plan.data, network)


def _difference(
    plan: ExportPlan,
    file_format: Format,
    network: ExportedNetwork,
    graph: InferenceGraph,
    run: Run,
    images: ValidationImages | ExportImages | None,
) -> LogitDifference:
    """Compare the file with torch. Raises: NasError beyond the format's tolerance."""
    compared: ImageBatch
    if images is None:
        compared = noise_images((_NOISE, *graph.input_shape[1:]), _NOISE_SEED)
    else:
        compared = images.sample(_COMPARED)
    found = largest_difference(run, _reference(plan, file_format, network), compared, plan.batch)
    if not found.relative <= file_format.tolerance:
        raise NasError(
            f"format {file_format.name}: the file's logits differ from those of {_reference_name(network)} by "
            f"{found.absolute:.1e}, {found.relative:.1e} of the largest, where {file_format.tolerance:.0e} is allowed; "
            f"nothing was written. Choose another format, or another version of {_runtime(file_format)}."
        )
    return found


def _reference(plan: ExportPlan, file_format: Format, network: ExportedNetwork) -> Callable[[ImageBatch], Any]:
    """What the file's outputs are compared with: torch's, of random weights NumPy's."""
    if network.weights is None:
        return numpy_run(_graph(plan, file_format, network))
    return torch_run(network.arch, network.weights, plan.threads)


def _accuracy(plan: ExportPlan, run: Run, images: ValidationImages | None, console: Console) -> ImageAccuracy | None:
    if images is None:
        return None
    with progress_bar(console, f"validation images of {images.name}") as progress:
        return accuracy_through(run, images, images.labels, plan.batch, progress)


def _reference_name(network: ExportedNetwork) -> str:
    return "NumPy's float64" if network.weights is None else "torch"


def _runtime(file_format: Format) -> str:
    """Name and version of what runs the file."""
    package = file_format.packages[-1]
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package
