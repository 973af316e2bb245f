"""Context of an adaptation: what its report needs besides the trials.

It is made with the images in memory, or from the study's folder alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from nas.arch.spec import ArchSpec
from nas.methods.netadapt.config import NetAdaptPlan
from nas.methods.netadapt.proposals import PriceNetworks, network_pricer, with_changes
from nas.methods.netadapt.state import step_trial, steps_taken
from nas.methods.netadapt.step_files import StepFiles
from nas.study.context import StudyContext, load_context_parts
from nas.study.manifest import StudyManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class NetAdaptContext(StudyContext):
    """Context of an adaptation's report.

    ``seed``: the network to begin with, of the classes and channels of the images.
    """

    plan: NetAdaptPlan
    seed: ArchSpec

    @property
    def files(self) -> StepFiles:
        """Networks and weights of the steps."""
        return StepFiles(folder=self.plan.folder)

    @property
    def price(self) -> PriceNetworks:
        """Function that counts networks and predicts their latency."""
        return network_pricer(self.predictor)

    @property
    def target(self) -> float:
        """What the measure is to become."""
        return self.plan.target.value(self.cost(self.seed))

    def cost(self, arch: ArchSpec) -> float:
        """The measure that is to shrink, of ``arch``."""
        (candidate,) = self.price([arch])
        return candidate.measures[self.plan.target.measure]

    def is_over(self, study: optuna.Study) -> bool:
        """Whether the network of the last step meets the target."""
        steps = len(steps_taken(study))
        return steps > 0 and self.cost(self.files.arch(steps - 1)) <= self.target

    def network_of(self, trial: FrozenTrial) -> ArchSpec:
        """The network of ``trial``. Raises: NasError if the files of its step are lost."""
        place = step_trial(trial)
        arch = self.files.arch(place.step - 1) if place.step else self.seed
        return with_changes(arch, place.changes, self.plan.netadapt, self.plan.least_px)


def netadapt_context(plan: NetAdaptPlan, manifest: StudyManifest) -> NetAdaptContext:
    """Context of a started study, from the files in its folder.

    The seed network of ``plan`` is the one stored there, with the classes and channels of the images. Raises: NasError.
    """
    return NetAdaptContext(plan=plan, seed=plan.seed, **load_context_parts(plan, manifest)._asdict())
