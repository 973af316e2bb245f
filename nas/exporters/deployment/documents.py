"""Files beside an exported network: model card, labels, preprocessing, examples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nas.arch.complexity import complexity
from nas.arch.files import dump_spec
from nas.arch.ops import output_ops
from nas.core.files import write_text_atomically
from nas.core.formatting import escape_controls, percent, sentence_case
from nas.core.version import __version__
from nas.exporters.check import FileScore, ImageAccuracy, LogitDifference
from nas.exporters.deployment.dense import takes_pixels, task_score_text
from nas.exporters.deployment.folder import CARD_FILE, LABELS_FILE, PREPROCESSING_FILE, SPEC_FILE
from nas.exporters.deployment.network import ExportedNetwork
from nas.exporters.deployment.plan import ExportPlan
from nas.exporters.formats import Format
from nas.exporters.processing import Processing

_TEMPLATES: Final = Path(__file__).resolve().parents[1] / "templates"
_BOXES_FILE: Final = "default_boxes.csv"
_CONTENTS: Final = {
    LABELS_FILE: "names of the classes, in the order of the logits",
    PREPROCESSING_FILE: "how an image becomes the input",
    _BOXES_FILE: "default boxes in the order of the maps, rows, columns and boxes of a position: centre x and y, width "
    "and height, as shares of the input's side",
    SPEC_FILE: "the network as a spec, with its provenance",
}
_EXAMPLES: Final = {
    "classification": "an example that classifies images",
    "detection": "an example that finds objects in images, and draws them",
    "segmentation": "an example that writes the classes of all pixels as an image",
}
_TASKS: Final = {
    "classification": "image classification",
    "detection": "object detection",
    "segmentation": "semantic segmentation",
}
_DIGITS: Final = 4  # of mean and deviation in the model card; preprocess.json has all of them
_FIT_WORDS: Final = {
    "crop": "the middle of the image as a square",
    "pad": "the whole image within bars",
    "stretch": "the whole image stretched to a square",
}
_PICTURE_CHANNELS: Final = 3
_NETWORK_FROM: Final = ("study", "space", "trial", "seed")  # of the search that found the network
_PROVENANCE: Final = ("run", "study", "trial", "epoch", "space", "network_from")  # of a spec file, where it has them


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """An exported file with the figures of its check.

    ``files``: the first is opened by the runtime. ``difference``: to the logits of ``reference``, within
    ``tolerance``, on ``images`` (a phrase). ``accuracy``: on the validation images of ``data``, None where there were
    none. ``runtime``: name and version. ``latency_text``: predicted latency in a sentence, empty if unknown.
    ``int8_texts``: sentences on int8, () for a float32 file. ``rewrite_text``: how blocks were rewritten, "" if not.
    ``processing``: what the file has around the network; ``processing_text``: whether it agrees with torch's.
    """

    files: tuple[Path, ...]
    difference: LogitDifference
    reference: str
    images: str
    tolerance: float
    runtime: str
    accuracy: ImageAccuracy | FileScore | None = None
    data: str = ""
    latency_text: str = ""
    int8_texts: tuple[str, ...] = ()
    rewrite_text: str = ""
    processing: Processing | None = None
    processing_text: str = ""

    @property
    def needs_nas(self) -> bool:
        """Whether timm needs this package to open the file."""
        config = next((path for path in self.files if path.name == "config.json"), None)
        return config is not None and json.loads(config.read_text(encoding="utf-8"))["architecture"] == "nas_arch"

    @property
    def difference_text(self) -> str:
        """The largest difference in a sentence."""
        found = self.difference
        same = ""
        if found.same_class is not None:
            kind = "" if found.decisions == found.images else " pixels"
            same = f"; the same class for {found.same_class:,} of {found.decisions:,}{kind}"
        return (
            f"{self.runtime}, {found.images} {self.images}: largest difference to {self.reference} "
            f"{found.absolute:.1e}, {found.relative:.1e} of the largest logit (at most {self.tolerance:.0e}){same}"
        )

    @property
    def accuracy_text(self) -> str:
        """The accuracy through the file in a sentence; empty without images."""
        if self.accuracy is None:
            return ""
        if isinstance(self.accuracy, FileScore):
            return task_score_text(self.accuracy, self.data)
        share = percent(self.accuracy.accuracy, self.accuracy.standard_error)
        return f"accuracy through the file: {share} of the {self.accuracy.images:,} validation images of {self.data}"


def write_documents(
    folder: Path, plan: ExportPlan, file_format: Format, network: ExportedNetwork, checked: CheckedFile
) -> tuple[Path, ...]:
    """Write everything that stands beside the files of ``checked`` into ``folder``.

    Raises: NasError if a file cannot be written.
    """
    names = network.class_names or tuple(f"class {label}" for label in range(network.arch.classes))
    texts = {
        LABELS_FILE: "".join(f"{escape_controls(name)}\n" for name in names),
        PREPROCESSING_FILE: json.dumps(_preprocessing(plan, file_format, network), indent=1, ensure_ascii=False) + "\n",
        SPEC_FILE: dump_spec(network.arch, {**plan.origin, **network.facts}),
        **_examples(plan, file_format, network, checked),
    }
    if network.arch.task == "detection" and checked.processing is None:
        texts[_BOXES_FILE] = _boxes_text(network)
    texts[CARD_FILE] = _card(plan, file_format, network, checked, [*texts])
    for name, text in texts.items():
        write_text_atomically(folder / name, text)
    return tuple(folder / name for name in texts)


def file_metadata(plan: ExportPlan, file_format: Format, network: ExportedNetwork) -> dict[str, str]:
    """Return metadata of a file beside class names and normalisation, JSON text."""
    facts = {
        "preprocessing": _preprocessing(plan, file_format, network),
        "network": {"name": network.arch.name, "arch_id": network.arch.arch_id},
        "weights": dict(network.weights_from) or "random",
        "written_by": f"nas {__version__}",
    }
    return {name: json.dumps(value) for name, value in facts.items()}


def _preprocessing(plan: ExportPlan, file_format: Format, network: ExportedNetwork) -> dict[str, Any]:
    shape, layout = _input_shape(plan, file_format, network), _layout(plan, file_format, network)
    facts = {**network.preprocessing.as_json(), "layout": layout, "input_shape": shape, "dtype": "float32"}
    if takes_pixels(plan, file_format, network):
        facts |= {"dtype": "uint8", "normalised_in_file": True}
    return facts


def _layout(plan: ExportPlan, file_format: Format, network: ExportedNetwork) -> str:
    return "NHWC" if takes_pixels(plan, file_format, network) else file_format.layout


def _input_shape(plan: ExportPlan, file_format: Format, network: ExportedNetwork) -> list[int]:
    steps = network.preprocessing
    sizes = {"N": plan.batch, "C": steps.channels, "H": steps.resolution_px, "W": steps.resolution_px}
    return [sizes[axis] for axis in _layout(plan, file_format, network)]


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _examples(plan: ExportPlan, file_format: Format, network: ExportedNetwork, checked: CheckedFile) -> dict[str, str]:
    """Return the examples of a format by file name.

    There are none of some formats, and for more channels than a picture has: they read picture files.
    """
    if network.preprocessing.channels > _PICTURE_CHANNELS:
        return {}
    environment = _environment()
    values = {
        "name": plan.name,
        "file": checked.files[0].name,
        "needs_nas": checked.needs_nas,
        "steps": network.preprocessing,
        "batch": plan.batch,
        "classes": network.arch.classes,
        "labels_file": LABELS_FILE,
        "fit_words": _FIT_WORDS[network.preprocessing.fit],
        "task": network.arch.task,
        "base": "example_base.py.j2",
        "processed": checked.processing is not None,
    }
    templates = sorted((_TEMPLATES / file_format.name).glob("*.j2"))
    if network.arch.task != "classification":
        templates = [path for path in templates if path.name == "example.py.j2"]
        values |= {"base": "dense_base.py.j2", "boxes_file": _BOXES_FILE, "labels": network.arch.classes}
    if network.arch.task == "detection":
        from nas.model.dense import detection

        values |= {
            "offset_weights": detection.OFFSET_WEIGHTS,
            "score_threshold": detection.SCORE_THRESHOLD,
            "candidates": detection.CANDIDATES,
            "nms_iou": detection.NMS_IOU,
            "levels": len(output_ops(network.arch)) // 2,
        }
    return {path.stem: environment.get_template(f"{file_format.name}/{path.name}").render(values) for path in templates}


def _card(
    plan: ExportPlan, file_format: Format, network: ExportedNetwork, checked: CheckedFile, others: list[str]
) -> str:
    arch, steps = network.arch, network.preprocessing
    size_bytes = sum(path.stat().st_size for path in checked.files)
    contents = {path.name: "the network" if path == checked.files[0] else "its weights" for path in checked.files}
    contents |= {name: _CONTENTS.get(name, _EXAMPLES[arch.task]) for name in others}
    licence = network.weights_from.get("license")
    text = (
        _environment()
        .get_template("model_card.md.j2")
        .render(
            name=plan.name,
            format=file_format.name,
            arch=arch,
            network_name=escape_controls(arch.name),  # of a spec file, which may come from anywhere
            cost=complexity(arch),
            classes_text=f"{arch.classes:,} classes",
            size_text=f"{size_bytes / 1e6:.2f} MB",
            weights=network.weights is not None,
            files=contents,
            steps=steps,
            batch=plan.batch,
            labels_file=LABELS_FILE,
            mean=[round(value, _DIGITS) for value in steps.mean],
            std=[round(value, _DIGITS) for value in steps.std],
            input_shape=_input_shape(plan, file_format, network),
            layout=_layout(plan, file_format, network),
            task=_TASKS[arch.task],
            output_text=_output_text(plan, network, checked),
            processed=checked.processing is not None,
            example_argument="photo.jpg",
            size_steps=_size_steps(network),
            check_text=_check_text(checked),
            accuracy_text=checked.accuracy_text and f"{sentence_case(checked.accuracy_text)}.",
            latency_text=checked.latency_text,
            int8_texts=[f"{sentence_case(text)}." for text in checked.int8_texts],
            rewrite_text=checked.rewrite_text,
            provenance=_provenance(plan, network),
            needs_nas=checked.needs_nas,
            licence_text=f" (timm says {licence!r} of the weights)" if licence else "",
        )
    )
    return text


def _check_text(checked: CheckedFile) -> str:
    text = f"{'Before quantisation, run' if checked.int8_texts else 'Run'} with {checked.difference_text}."
    found = checked.processing_text
    return f"{text} {sentence_case(found)}." if found else text


def _output_text(plan: ExportPlan, network: ExportedNetwork, checked: CheckedFile) -> str:
    """What the outputs are, in words."""
    batch, arch, steps = plan.batch, network.arch, checked.processing
    lines = f"the lines of `{LABELS_FILE}`"
    if arch.task == "classification":
        return f"logits, float32, ({batch}, {arch.classes}); softmax gives probabilities, the classes are {lines}"
    px = network.preprocessing.resolution_px
    if arch.task == "segmentation":
        logits = f"logits, float32, ({batch}, {arch.classes}, height, width), of a coarser grid"
        if steps is not None:
            return f"`mask`, uint8, ({batch}, {px}, {px}): the class of each pixel, {lines} from 0; `output`: {logits}"
        return f"{logits}: resize them (bilinear, half-pixel centres), the highest is the class, {lines}"
    if steps is not None:
        return (
            f"`boxes`, float32, ({batch}, n, 4): left, top, right, bottom as shares of the input's side; `scores`, "
            f"float32, ({batch}, n), falling, 0 where there is no further box; `labels`, int64, ({batch}, n): {lines} "
            f"from 0. At most {steps.max_detections} boxes above {steps.score_threshold:g}, after non-maximum "
            f"suppression by class at an overlap of {steps.nms_iou:g}"
        )
    return (
        f"maps, float32: of class logits for each box of a position, the background first, then {lines}; and of "
        f"offsets from the boxes of `{_BOXES_FILE}`; the example decodes them"
    )


def _boxes_text(network: ExportedNetwork) -> str:
    from nas.model.dense.detection import default_boxes

    rows = default_boxes(network.arch).tolist()
    return "".join(f"{','.join(f'{value:.9g}' for value in row)}\n" for row in rows)


def _size_steps(network: ExportedNetwork) -> str:
    """How an image becomes a square, in words."""
    steps = network.preprocessing
    bars = f" of {list(steps.background)}" if steps.fit == "pad" else ""
    cut = f", of which the middle {steps.resolution_px} px are kept" if steps.crop_pct != 1 else ""
    return f"{_FIT_WORDS[steps.fit]}{bars}, resized to {steps.whole_px} px ({steps.interpolation}, antialiased){cut}"


def _provenance(plan: ExportPlan, network: ExportedNetwork) -> Mapping[str, str]:
    """Where network and weights come from, by name."""
    origin = plan.origin
    facts: dict[str, Any] = {"weights": dict(network.weights_from).get("weights", f"random, seed {plan.seed}")}
    facts |= {
        f"weights: {name}": network.weights_from[name]
        for name in ("network", "file", "sha256")
        if name in network.weights_from
    }
    facts |= {name: origin[name] for name in _PROVENANCE if origin.get(name)}
    if isinstance(facts.get("network_from"), Mapping):  # in full in the spec file
        found = facts.pop("network_from")
        facts |= {f"network: {name}": found[name] for name in _NETWORK_FROM if found.get(name) is not None}
    begun_with = origin.get("begun_with")
    if isinstance(begun_with, Mapping) and begun_with.get("network"):
        facts["begun with weights of"] = begun_with["network"]
    if isinstance(origin.get("accuracy"), int | float) and isinstance(origin.get("standard_error"), int | float):
        facts["accuracy in training"] = percent(origin["accuracy"], origin["standard_error"])
    facts |= {"command": plan.command, "written by": f"nas {__version__}"}
    return {
        name: escape_controls(str(value)).replace("|", "\\|")
        for name, value in facts.items()
        if value not in (None, "")
    }
