"""ncnn files, and networks that run them on the CPU."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from nas.core.errors import NasError
from nas.core.parsing import MAX_JSON_CHARACTERS, read_text
from nas.exporters.formats import ImageBatch, Logits, Outputs, Run, as_outputs
from nas.exporters.graph import InferenceGraph
from nas.exporters.model_files import check_pair, weights_path, write_pair
from nas.exporters.ncnn.graph import INPUT_BLOB, ncnn_model, output_blobs
from nas.exporters.ncnn.layers import MAGIC

# ncnn stores and computes in 16 bits where it can, unless told otherwise; logits then differ by several thousandths.
_OFF: Final = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage",
    "use_vulkan_compute",
)  # fmt: skip


def write_model(graph: InferenceGraph, path: Path) -> tuple[Path, ...]:
    """Write ``graph`` for ncnn, weights as float32.

    Layers to ``path`` (.param), weights beside it (.bin); returns both. Raises: NasError for a batch of several images.
    """
    model = ncnn_model(graph)
    return write_pair(path, model.text.encode(), model.weights)


def open_model(path: Path, threads: int = 1) -> Run:
    """Open the ncnn file of layers at ``path``, with its weights beside it.

    It computes in float32, with ``threads`` threads. Raises: NasError if it cannot be read.
    """
    import ncnn

    check_pair(path, "ncnn")
    _check_complete(path)
    net = ncnn.Net()
    net.opt.num_threads = threads
    for name in _OFF:
        if hasattr(net.opt, name):  # not every version has all
            setattr(net.opt, name, False)
    if net.load_param(str(path)) != 0:
        raise NasError(f"{path}: ncnn cannot read it as a network.")
    if net.load_model(str(weights_path(path))) != 0:
        raise NasError(f"{weights_path(path)}: ncnn cannot read it as the weights of {path.name}.")
    outputs = output_blobs(max(1, len(net.output_names())))
    if [list(net.input_names()), sorted(net.output_names())] != [[INPUT_BLOB], sorted(outputs)]:
        raise NasError(
            f"{path}: needs one input {INPUT_BLOB}, and outputs {outputs[0]}, {output_blobs(2)[1]} and so on."
        )
    return _run(net, ncnn.Mat, outputs)


def open_graph(graph: InferenceGraph, threads: int = 1) -> Run:
    """Open ``graph`` in ncnn, by files that do not stay.

    Raises: NasError for a batch of several images.
    """
    with TemporaryDirectory(prefix="nas-ncnn-") as folder:
        path = Path(folder) / "model.param"
        write_model(graph, path)
        return open_model(path, threads)


def _check_complete(path: Path) -> None:
    """Check the number of layers in a text.

    Raises: NasError if there are others; ncnn 2024 crashes on these.
    """
    magic, counts, *layers = [
        *read_text(path, max_characters=MAX_JSON_CHARACTERS, encoding="latin-1").split("\n"),
        "",
        "",
    ]
    if magic != str(MAGIC) or counts.split()[:1] != [str(sum(map(bool, layers)))]:
        raise NasError(f"{path}: is no network of ncnn, or an incomplete one.")


def _run(net: Any, mat: Any, outputs: tuple[str, ...]) -> Run:
    def run(images: ImageBatch) -> Outputs:
        if len(images) != 1:
            raise NasError(f"format ncnn: batch {len(images)}: ncnn runs one image at a time.")
        image = np.ascontiguousarray(images[0])  # read in place: it has to stay until the run has ended
        extractor = net.create_extractor()
        extractor.input(INPUT_BLOB, mat(image))

        def extracted(blob: str) -> Logits:
            error, found = extractor.extract(blob)
            if error:
                raise NasError(f"format ncnn: the network does not run on an image of shape {image.shape}.")
            return np.array(found)[None]

        return as_outputs(map(extracted, outputs))

    return run
