"""Distillation: a student learns from the outputs of a trained network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.training.distillation.begin import begin_distillation
    from nas.training.distillation.loss import Distillation, Teacher, soft_target_loss
    from nas.training.distillation.output_cache import CachedTeacher, cache_path
    from nas.training.distillation.settings import DistillationSettings, TeacherChoice
    from nas.training.distillation.teacher import NetworkTeacher, load_teacher
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "begin": ["begin_distillation"],
            "loss": ["Distillation", "Teacher", "soft_target_loss"],
            "output_cache": ["CachedTeacher", "cache_path"],
            "settings": ["DistillationSettings", "TeacherChoice"],
            "teacher": ["NetworkTeacher", "load_teacher"],
        },
    )

__all__ = [
    "CachedTeacher",
    "Distillation",
    "DistillationSettings",
    "NetworkTeacher",
    "Teacher",
    "TeacherChoice",
    "begin_distillation",
    "cache_path",
    "load_teacher",
    "soft_target_loss",
]
