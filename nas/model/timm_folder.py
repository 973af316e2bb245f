"""Folders that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` opens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import timm
import yaml
from timm.models import save_for_hf
from torch import Tensor, nn

from nas.arch.files import dump_spec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.model.timm_import.network import timm_arch

TIMM_CONFIG: Final = "config.json"
_ENTRY_POINT: Final = "nas_arch"


def write_timm_folder(
    arch: ArchSpec,
    state: Mapping[str, Tensor],
    folder: Path,
    *,
    data_config: Mapping[str, Any],
    class_names: list[str] | None = None,
) -> nn.Module:
    """Write timm's config and the weights of ``arch`` into ``folder``.

    Returns the model. ``state``: its state dict. ``data_config``: timm's ``input_size``, ``mean``, ``std``,
    ``crop_pct`` and ``interpolation``. ``class_names``: in label order. A network that timm builds by its name needs
    timm alone; any other one ``import nas`` before it, as the config holds its spec.
    """
    name = timm_name(arch)
    model: nn.Module
    if name is None:
        spec = yaml.safe_load(dump_spec(arch))
        model = timm.create_model(_ENTRY_POINT, spec=spec)
    else:
        model = timm.create_model(name, num_classes=arch.classes, in_chans=arch.in_channels)
    model.load_state_dict(state)
    labels = {"label_names": list(class_names)} if class_names else {}
    save_for_hf(model, str(folder), model_config=labels, safe_serialization=True, data_config=dict(data_config))
    return model


def timm_name(arch: ArchSpec) -> str | None:
    """Name by which timm builds the network of ``arch``, whatever its classes.

    None if there is none.
    """
    if not timm.is_model(arch.name):
        return None
    try:
        published = timm_arch(arch.name)
    except NasError:
        return None
    same_sizes = replace(
        published, classes=arch.classes, in_channels=arch.in_channels, resolution_px=arch.resolution_px
    )
    return arch.name if same_sizes.arch_id == arch.arch_id else None
