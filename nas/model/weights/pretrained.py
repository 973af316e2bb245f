"""timm's pretrained weights: from a folder, from the hub's cache, from the hub."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import timm
import torch
from huggingface_hub import constants, get_session, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from timm.data import ImageNetInfo, infer_imagenet_subset
from timm.models import get_pretrained_cfg
from torch import Tensor

from nas.core.errors import NasError
from nas.model.timm_import.network import timm_arch
from nas.model.weights.files import WEIGHT_SUFFIXES
from nas.model.weights.read import first_line, read_weights

# Names of the files on the hub, the preferred first.
_HUB_FILES: Final = ("model.safetensors", "pytorch_model.bin")
_CONNECT_S: Final = 5.0  # the hub's client alone would try six times, 23 s in all


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainedWeights:
    """Pretrained weights of one of timm's networks.

    ``name``: timm's, with the tag of the training, such as ``mixnet_s.ft_in1k``. ``state``: in timm's names. ``mean``
    and ``std``: of the training images per channel, for pixels scaled to [0, 1]. ``crop_pct``, ``interpolation``: how
    timm prepares images for validation. ``classes``: their number; ``class_names``: in label order, empty if unknown.
    ``file``: where the weights were read from. ``license``: timm's word for it, or None.
    """

    name: str
    state: Mapping[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    interpolation: str
    classes: int
    class_names: tuple[str, ...]
    file: Path
    license: str | None


def pretrained_state(name: str, folder: Path) -> PretrainedWeights:
    """Return the weights that timm's network ``name`` was published with.

    ``name``: with or without a tag. They are looked for in ``folder`` (``NAME.safetensors`` or ``NAME.pth``, also with
    the tag), then in the caches of the hub and of ``torch.hub``, and then downloaded into the former. Without a
    connection it says so within seconds.

    Raises: NasError for a network without published weights, and in one line for one that cannot be downloaded: where
    to get the file and where to put it.
    """
    arch = timm_arch(name.partition(".")[0], "weights")
    cfg = _published_cfg(name)
    tagged = f"{name}.{cfg.tag}" if cfg.tag and "." not in name else name
    path = _file_in(folder, dict.fromkeys((tagged, name)))
    if path is None:
        if not (cfg.hf_hub_id or cfg.url):
            raise NasError(f"weights: timm has none of {name}; give a file of yours, or choose another network.")
        path = _cached(cfg) or _downloaded(name, cfg, folder)
    state = read_weights(path, arch)
    classes = len(state["classifier.weight"]) if "classifier.weight" in state else 0
    return PretrainedWeights(
        name=tagged,
        state=state,
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        crop_pct=cfg.crop_pct,
        interpolation=cfg.interpolation,
        classes=classes,
        class_names=_class_names(cfg) if classes == cfg.num_classes else (),
        file=path,
        license=cfg.license,
    )


def _published_cfg(name: str) -> Any:
    """Return timm's description of the weights of ``name``. Raises: NasError."""
    try:
        return get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:  # an unknown tag
        network, _, tag = name.partition(".")
        tagged = ", ".join(timm.list_pretrained(f"{network}.*")) or "none"
        raise NasError(f"weights: timm has no weights {tag!r} of {network}; choose from {tagged}.") from None


def _file_in(folder: Path, names: Mapping[str, object]) -> Path | None:
    paths = (folder / f"{name}{suffix}" for name in names for suffix in WEIGHT_SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _class_names(cfg: Any) -> tuple[str, ...]:
    """Return the names of the classes, those of ImageNet as WordNet ids."""
    if cfg.label_names:
        return tuple(cfg.label_names)
    subset = infer_imagenet_subset(cfg.to_dict())
    return tuple(ImageNetInfo(subset).label_names()) if subset else ()


def _cached(cfg: Any) -> Path | None:
    """Return the file in the cache of the hub, or of ``torch.hub``."""
    for place in _hub_places(cfg):
        found = try_to_load_from_cache(**place)
        if isinstance(found, str):
            return Path(found)
    old = Path(torch.hub.get_dir()) / "checkpoints" / Path(cfg.url or "none").name
    return old if old.is_file() else None


def _hub_places(cfg: Any) -> Iterator[dict[str, Any]]:
    """Yield repository, file and revision of the weights on the hub."""
    repository, _, revision = (cfg.hf_hub_id or "").partition("@")
    names = (cfg.hf_hub_filename,) if cfg.hf_hub_filename else _HUB_FILES
    yield from ({"repo_id": repository, "filename": name, "revision": revision or None} for name in names if repository)


def _downloaded(name: str, cfg: Any, folder: Path) -> Path:
    """Download the weights into the hub's cache.

    Raises: NasError that says where to get the file and where to put it.
    """
    places = list(_hub_places(cfg))
    url = hf_hub_url(**places[0]) if places else cfg.url
    reason = "the hub is set to be offline" if constants.HF_HUB_OFFLINE else _unreachable(url)
    for place in places if not reason else ():
        try:
            return Path(hf_hub_download(**place, etag_timeout=_CONNECT_S))
        except LocalEntryNotFoundError as error:
            reason = first_line(error)
        except EntryNotFoundError:
            reason = "the hub has no such file"
        except Exception as error:  # of the hub's client, its transport and the file system
            reason = first_line(error)
    target = folder / f"{name}{Path(url).suffix}"
    raise NasError(
        f"weights of {name} cannot be downloaded ({reason}): save {url} as {str(target)!r}, or give a file of yours "
        "(weights=FILE)."
    )


def _unreachable(url: str) -> str:
    """Return why ``url`` is not reached within seconds; empty if it is.

    In a thread, as looking up a name has no time limit of its own.
    """
    answers: list[str] = []

    def ask() -> None:
        try:
            get_session().head(url, timeout=_CONNECT_S)
            answers.append("")
        except Exception as error:  # of whichever client the hub uses
            answers.append(first_line(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * _CONNECT_S)
    return answers[0] if answers else f"no answer within {2 * _CONNECT_S:.0f} s"
