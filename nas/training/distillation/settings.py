"""Settings of distillation, validated without torch."""

from __future__ import annotations

from dataclasses import dataclass

from nas.arch.spec import ArchSpec
from nas.core.validation import check_number


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationSettings:
    """How a student learns from the outputs of its teacher.

    Hinton et al. 2015, arXiv:1503.02531, section 2. ``temperature`` divides the logits of both before softmax.
    ``share``: weight of the soft targets in the loss, the rest is that of the labels, to which the paper gives "a
    considerably lower weight".

    Raises: NasError naming the field.
    """

    temperature: float = 4.0
    share: float = 0.9

    def __post_init__(self) -> None:
        check_number("distillation.temperature", self.temperature, low=0, high=1000, open_low=True)
        check_number("distillation.share", self.share, low=0, high=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherChoice:
    """The network that a student learns from, as the user named it.

    ``name``: in the command. ``arch``: the network. ``weights``: its weights, in a form that ``source_weights`` reads.
    """

    name: str
    arch: ArchSpec
    weights: str

    @property
    def facts(self) -> dict[str, str]:
        """The choice as plain data."""
        return {"name": self.name, "arch_id": self.arch.arch_id, "weights": self.weights}
