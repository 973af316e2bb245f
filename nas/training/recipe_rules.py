"""Which settings of a recipe apply to a task; loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from nas.core.errors import NasError, quoted
from nas.training.recipe import RecipeSettings

# Settings of images with one label each, which those with boxes or masks do not have.
_LABELLED: Final = (
    "mixup", "cutmix", "stream", "auto_augment", "random_erasing", "erase_mode", "crop_pct", "interpolation", "dropout",
)  # fmt: skip
_NOT_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "classification": ("zoom_out",),
    "detection": (*_LABELLED, "class_weights"),
    "segmentation": (*_LABELLED, "zoom_out"),
}


def check_task_recipe(recipe: RecipeSettings, task: str) -> None:
    """Check that what ``recipe`` sets applies to ``task``.

    Raises: NasError naming the first setting that would have no effect. A value of 0 and a default have none anyway.
    """
    defaults: dict[str, Any] = {field.name: field.default for field in fields(RecipeSettings)}
    for name in _NOT_OF.get(task, ()):
        value = getattr(recipe, name)
        if value and value != defaults[name]:
            shown = "null" if defaults[name] is None else defaults[name]
            raise NasError(
                f"recipe.{name} {quoted(value)}: does not apply to task={task}; leave it out, or set "
                f"recipe.{name}={shown}."
            )
    if task != "classification" and recipe.crop_scale is not None and recipe.shift not in (0, defaults["shift"]):
        raise NasError(
            f"recipe.shift {quoted(recipe.shift)}: has no effect beside recipe.crop_scale {recipe.crop_scale}, as "
            "crops move images; leave it out, or set recipe.crop_scale=null."
        )
