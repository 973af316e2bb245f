"""Files of one network in several forms: written, opened, scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nas.data.sources import DataSettings
from nas.exporters.deployment.network import ExportedNetwork
from nas.exporters.formats import ImageBatch, Run
from nas.exporters.graph import InferenceGraph, inference_graph
from nas.exporters.quantisation.comparison import PairedAccuracy, correct_images_of
from nas.exporters.quantisation.mixed import NoMixedInt8Error, write_mixed_int8
from nas.exporters.quantisation.sensitivity import full_batches
from nas.exporters.rewriting.forms import FormChoice
from nas.latency.bench.plan import BenchForm, BenchNetwork, BenchPlan
from nas.latency.bench.results import FLOAT, INT8, MIXED, NO_REWRITE, BenchAccuracy
from nas.latency.host import describe
from nas.latency.measure.backends import runtime_errors_as
from nas.latency.rewrite_choice import fastest_forms

if TYPE_CHECKING:  # they load torch
    from nas.exporters.deployment.images import ValidationImages
    from nas.exporters.quantisation.images import QuantisationImages

Correct = npt.NDArray[np.bool_]  # which validation images are classified correctly, (N,)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedForm:
    """A network in a form that can run.

    ``size_bytes``: of its files. ``float_layers``: what stays float32 in ``mixed``. ``accuracy``: on all validation
    images, None without weights or images.
    """

    form: BenchForm
    run: Run
    size_bytes: int
    float_layers: tuple[str, ...] = ()
    accuracy: BenchAccuracy | None = None


def open_forms(
    plan: BenchPlan,
    network: BenchNetwork,
    loaded: ExportedNetwork,
    noise: ImageBatch,
    folder: Path,
    progress: Callable[[int], object],
) -> tuple[list[OpenedForm], list[str]]:
    """Write ``network`` in all forms of ``plan`` into ``folder``, open and score them.

    ``noise``: a batch, for the first run, and for the calibration where there are no images. Returns with the forms
    what a user should know of them.

    Raises: NasError naming the form that cannot be written or run.
    """
    writer = _Writer(plan, network, loaded, noise)
    found: list[OpenedForm] = []
    correct: list[Correct | None] = []
    remarks = writer.remarks()
    for index, form in enumerate(plan.forms):
        with runtime_errors_as(f"{network.given} does not run in {form}"):
            try:
                opened = writer.opened(form, folder / str(index))
            except NoMixedInt8Error as error:
                remarks.append(f"{network.given} in {form} is left out: {error}")
                continue
            opened.run(noise)
            found.append(opened)
            correct.append(writer.correct(opened))
        progress(index + 1)
    remarks += [
        f"{network.given} in {runtime} {precision}, rewrite=auto: {choice.reason}"
        for (runtime, precision), choice in writer.chosen.items()
    ]
    return _scored(found, correct), remarks


def _scored(opened: Sequence[OpenedForm], correct: Sequence[Correct | None]) -> list[OpenedForm]:
    """Forms with their accuracy, compared with float32 in the same runtime."""
    bases = {
        (one.form.runtime, one.form.rewrite): found
        for one, found in zip(opened, correct, strict=True)
        if one.form.precision == FLOAT
    }
    scored = []
    for one, found in zip(opened, correct, strict=True):
        if found is None:
            scored.append(one)
            continue
        accuracy = BenchAccuracy(correct=int(found.sum()), images=len(found))
        base = bases.get((one.form.runtime, one.form.rewrite))
        if one.form.precision != FLOAT and base is not None:
            paired = PairedAccuracy.of(found, base)
            accuracy = replace(accuracy, lost=paired.lost, gained=paired.gained)
        scored.append(replace(one, accuracy=accuracy))
    return scored


class _Writer:
    """Writes and scores the forms of one network."""

    def __init__(self, plan: BenchPlan, network: BenchNetwork, loaded: ExportedNetwork, noise: ImageBatch) -> None:
        self._plan, self._network, self._loaded, self._noise = plan, network, loaded, noise
        self.chosen: dict[tuple[str, str], FormChoice] = {}  # with rewrite=auto, by runtime and precision

    @property
    def _is_scored(self) -> bool:
        return self._network.export.data is not None and self._loaded.weights is not None

    def remarks(self) -> list[str]:
        """What a user should know of all forms."""
        found = []
        if any(form.precision != FLOAT for form in self._plan.forms) and not self._is_scored:
            found.append(
                "int8 is calibrated on noise, which is good for latencies alone; weights= and data= change that"
            )
        if any(form.precision == MIXED for form in self._plan.forms):
            count = len(self._images.selection.labels)
            found.append(
                f"mixed: layers were chosen on {count} train images that the calibration does not use (loss of at most "
                f"{100 * self._plan.tolerance:g} points); top-1 is of the validation images"
            )
        return found

    def opened(self, form: BenchForm, folder: Path) -> OpenedForm:
        """Write and open the network in ``form``. Raises: NasError."""
        module, path = form.format.module(), folder / f"model{form.format.suffix}"
        graph = self._graph(form)
        layers: tuple[str, ...] = ()
        files: Sequence[Path]
        if form.precision == FLOAT:
            files = module.write_model(graph, path)
        elif form.precision == INT8:
            files = form.format.int8_module().write_int8(graph, path, self._calibration())
        else:
            files, layers = self._mixed(graph, form, path)
        size_bytes = sum(file.stat().st_size for file in files)
        run = module.open_model(files[0], self._plan.threads)
        return OpenedForm(form=form, run=run, size_bytes=size_bytes, float_layers=layers)

    def _graph(self, form: BenchForm) -> InferenceGraph:
        """The operations that are written in ``form``."""
        loaded, plan = self._loaded, self._plan
        return inference_graph(
            loaded.arch,
            weights=loaded.weights,
            batch=plan.batch,
            seed=plan.seed,
            provenance=loaded.facts,
            forms=None if form.rewrite == NO_REWRITE else self._fastest(form).forms,
        )

    def _fastest(self, form: BenchForm) -> FormChoice:
        """The fastest forms of blocks in ``form``, measured; of mixed, those of int8."""
        precision = FLOAT if form.precision == FLOAT else INT8
        key = (form.runtime, precision)
        if key not in self.chosen:
            device = describe(form.runtime, self._plan.threads, self._plan.batch)
            self.chosen[key] = fastest_forms(self._loaded.arch, device, seed=self._plan.seed, precision=precision)
        return self.chosen[key]

    def correct(self, opened: OpenedForm) -> Correct | None:
        """Which validation images a form classifies correctly; None without any."""
        return correct_images_of(opened.run, self._validation, self._plan.batch) if self._is_scored else None

    def _mixed(self, graph: InferenceGraph, form: BenchForm, path: Path) -> tuple[Sequence[Path], tuple[str, ...]]:
        found = write_mixed_int8(
            graph,
            form.format,
            path,
            calibration=self._images.calibration,
            selection=self._images.selection,
            tolerance=self._plan.tolerance,
            threads=self._plan.threads,
        )
        return found.files, found.float_layers

    def _calibration(self) -> list[ImageBatch]:
        if not self._is_scored:
            return [self._noise]
        return full_batches(self._images.calibration, self._plan.batch)

    @cached_property
    def _images(self) -> QuantisationImages:
        from nas.exporters.quantisation.images import quantisation_images

        return quantisation_images(self._data, self._loaded, seed=self._plan.seed)

    @cached_property
    def _validation(self) -> ValidationImages:
        from nas.exporters.deployment.images import ValidationImages

        return ValidationImages(self._data, self._loaded)

    @property
    def _data(self) -> DataSettings:
        """Images with one class each, of forms that are scored."""
        data = self._network.export.data
        assert isinstance(data, DataSettings)  # nas.bench refuses images with boxes or masks
        return data
