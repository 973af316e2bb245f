"""Estimators of accuracy that tests/benchmarks/estimators.py compares, by name.

A new one is a class with ``scores`` and, where something is done once for all networks, ``prepare``; ``KINDS`` gives it
its name.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Final

from nas.cli.hydra_config import choices, compose_config
from nas.core.errors import NasError, unknown_choice
from nas.data.images import ImageData, load_images
from nas.data.sources import DataSettings
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.estimators.proxy.settings import ProxySettings
from nas.estimators.supernet.scorer import SCORE, SupernetScorer
from nas.estimators.supernet.settings import SupernetSettings
from nas.estimators.zero_cost.scorer import ZeroCostScorer
from nas.estimators.zero_cost.settings import SCORE_NAMES
from nas.training.results import EpochResult, TrainingError
from tests.benchmarks.estimator_tables import Candidate, Sample

_DATA_FIELDS: Final = tuple(DataSettings.__dataclass_fields__)


_load_images: Final = lru_cache(maxsize=4)(load_images)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One estimator with one seed, and what it may use.

    ``name`` and ``options`` are those of ``NAME:key=value,key=value``. ``folder`` is for what it writes while it
    prepares, such as checkpoints.
    """

    name: str
    options: Mapping[str, str]
    sample: Sample
    seed: int
    folder: Path


class Estimator(ABC):
    """An estimator of accuracy.

    ``signals``: names of its scores, larger is better in each. ``seeded``: whether the seed matters. ``cpu_s``:
    CPU-seconds of its preparation, after ``prepare``.
    """

    signals: ClassVar[tuple[str, ...]]
    seeded: ClassVar[bool] = True
    cpu_s: float = 0.0

    def __init__(self, request: Request) -> None:
        self.request = request

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that the scores depend on, besides name, seed and table."""
        return {}

    def prepare(self) -> None:  # noqa: B027
        """Do what is done once for all networks, such as training a supernet; sets ``cpu_s``."""

    @abstractmethod
    def scores(self, candidate: Candidate) -> Mapping[str, float]:
        """Score a network by signal; what the table says of its accuracy is not for use."""

    def cpu_s_of(self, candidate: Candidate) -> float:
        """CPU-seconds that scoring ``candidate`` cost somebody else, by the table."""
        return 0.0


class Count(Estimator):
    """MACs, parameters or depth, counted on the spec; ``counts`` is all three."""

    signals = ("macs", "params", "depth")
    seeded = False

    def scores(self, candidate: Candidate) -> Mapping[str, float]:
        names = self.signals if self.request.name == "counts" else (self.request.name,)
        return {name: float(candidate.counts[name]) for name in names}


class TabulatedEpochs(Estimator):
    """Accuracy after ``epochs`` of the tabulated training: its beginning, not a training of its own.

    With ``last`` it is the mean over so many last epochs of this beginning.
    """

    signals = ("accuracy",)
    seeded = False

    @property
    def _epochs(self) -> int:
        return int(self.request.options.get("epochs", 2))

    def scores(self, candidate: Candidate) -> Mapping[str, float]:
        epochs = self._epochs
        if not 1 <= epochs <= len(candidate.curve):
            raise NasError(f"epochs {epochs}: the table has {len(candidate.curve)} epochs of each network.")
        last = int(self.request.options.get("last", 1))
        if not 1 <= last <= epochs:
            raise NasError(f"last {last}: must be 1 to {epochs}, the epochs that are used.")
        return {"accuracy": round(fmean(candidate.curve[epochs - last : epochs]), 6)}  # equal ones are equal

    def cpu_s_of(self, candidate: Candidate) -> float:
        return sum(candidate.curve_cpu_s[: self._epochs])


class ProxyEstimator(Estimator):
    """An estimator of proxies, with settings of ``conf/proxy`` and the images beside the table.

    ``careful`` with the options ``epochs=8,subset=null`` is ``proxy=careful proxy.epochs=8 data.subset=null``.
    """

    @property
    def preset(self) -> str:
        """Name of the settings in ``conf/proxy``."""
        return "default"

    words: ClassVar[tuple[str, ...]] = ()

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Settings of a search by group, as composed from ``words``, preset and options."""
        words = ["space=mixnet", f"proxy={self.preset}", "data=imagefolder", f"data.root={self.request.sample.images}"]
        words += self.words
        for key, value in self.request.options.items():
            is_data = key in _DATA_FIELDS and key != "resolution_px"
            group = "estimator" if key.startswith("supernet.") else "data" if is_data else "proxy"
            words.append(f"{group}.{key}={value}")
        return compose_config("search", words)

    @property
    def settings(self) -> tuple[ProxySettings, DataSettings]:
        """Settings of proxies and images."""
        return ProxySettings(**self.config["proxy"]), DataSettings(**self.config["data"])

    @property
    def identity(self) -> Mapping[str, Any]:
        proxy, data = self.settings
        return {"proxy": proxy.identity(), "data": data.identity() | {"root": Path(data.root or "").name}}

    @cached_property
    def images(self) -> ImageData:
        """Images at the proxies' resolution."""
        proxy, data = self.settings
        return _load_images(replace(data, resolution_px=proxy.resolution_px))

    def prepare(self) -> None:
        _ = self.images  # reading them is no part of a network's cost


class ProxyTraining(ProxyEstimator):
    """Proxy training, with the settings of ``conf/proxy/careful.yaml`` for ``proxy_careful``.

    ``mean_accuracy`` and ``mean_loss`` are means over the later half of the epochs, ``train_loss`` is summed over all
    of them (Ru et al., Speedy Performance Estimation, arXiv:2006.04492). A training that diverges is worst.
    """

    signals = ("accuracy", "loss", "mean_accuracy", "mean_loss", "train_loss")

    @property
    def preset(self) -> str:
        return self.request.name.removeprefix("proxy_")

    @cached_property
    def _evaluator(self) -> ProxyEvaluator:
        return ProxyEvaluator(
            data=self.images,
            settings=self.settings[0],
            largest_kernel=self.request.sample.space.largest_kernel,
            seed=self.request.seed,
        )

    def scores(self, candidate: Candidate) -> Mapping[str, float]:
        epochs: list[EpochResult] = []
        try:
            self._evaluator.evaluate(candidate.arch, on_epoch=epochs.append)
        except TrainingError:
            return dict.fromkeys(self.signals, -math.inf)
        later = epochs[len(epochs) // 2 :]
        return {
            "accuracy": epochs[-1].accuracy,
            "loss": -epochs[-1].val_loss,
            "mean_accuracy": fmean(one.accuracy for one in later),
            "mean_loss": -fmean(one.val_loss for one in later),
            "train_loss": -sum(one.train_loss for one in epochs),
        }


class EarlierDefault(ProxyTraining):
    """Proxy training with the settings of ``conf/proxy/default.yaml`` until 2026-11-29."""

    words = (
        "data.proxy_resolution_px=12", "proxy.min_map_px=auto", "proxy.epochs=2", "proxy.batch_size=16",
        "proxy.lr=0.01",
    )  # fmt: skip

    @property
    def preset(self) -> str:
        return "default"


class ZeroCost(ProxyEstimator):
    """Zero-cost scores of the untrained proxies of ``proxy=default``; ``zero_cost`` is all of them."""

    signals = SCORE_NAMES

    @cached_property
    def _scorer(self) -> ZeroCostScorer:
        name = self.request.name
        return ZeroCostScorer(
            data=self.images,
            settings=self.settings[0],
            largest_kernel=self.request.sample.space.largest_kernel,
            seed=self.request.seed,
            names=self.signals if name == "zero_cost" else (name,),
        )

    def scores(self, candidate: Candidate) -> Mapping[str, float]:
        return self._scorer.scores(candidate.arch)


class Supernet(ProxyEstimator):
    """Inherited weights of a supernet, trained anew for each seed.

    Options that begin with ``supernet.`` are settings of its training, others those of its proxies. The score is the
    mean over its members.
    """

    signals = (SCORE,)
    words = ("estimator=supernet",)

    @property
    def _supernet(self) -> SupernetSettings:
        return SupernetSettings(**self.config["estimator"]["supernet"])

    @property
    def identity(self) -> Mapping[str, Any]:
        own = dict(self._supernet.identity(self.settings[0]))
        settings = self._supernet
        own |= {"members": settings.members, "statistics_images": settings.statistics_images}
        return {**super().identity, "supernet": own}

    @cached_property
    def _scorers(self) -> list[SupernetScorer]:
        sample = self.request.sample
        return [
            SupernetScorer(
                data=self.images,
                proxy=self.settings[0],
                settings=self._supernet,
                space=sample.space,
                largest_kernel=sample.space.largest_kernel,
                seed=self.request.seed,
                folder=self.request.folder / f"supernet-{member}",
                member=member,
            )
            for member in range(self._supernet.members)
        ]

    def prepare(self) -> None:
        super().prepare()
        start = time.process_time()
        for scorer in self._scorers:
            scorer.prepare()
        self.cpu_s = time.process_time() - start

    def scores(self, candidate: Candidate) -> Mapping[str, float]:
        return {SCORE: fmean(value for scorer in self._scorers for value in scorer.scores(candidate.arch).values())}


KINDS: Final[Mapping[str, type[Estimator]]] = {
    "macs": Count,
    "params": Count,
    "depth": Count,
    "counts": Count,
    "epochs": TabulatedEpochs,
    **{f"proxy_{name}": ProxyTraining for name in choices("proxy")},
    **dict.fromkeys(("zero_cost", *SCORE_NAMES), ZeroCost),
    "proxy_2epochs": EarlierDefault,
    "supernet": Supernet,
}


def parse_estimator(text: str, sample: Sample, seed: int, folder: Path) -> Estimator:
    """Create the estimator of ``NAME`` or ``NAME:key=value,key=value``.

    Raises: NasError for an unknown name or an option without a value.
    """
    name, _, rest = text.partition(":")
    if name not in KINDS:
        raise unknown_choice("estimator", name, KINDS)
    options = dict(one.partition("=")[::2] for one in rest.split(",") if one)
    empty = next((key for key, value in options.items() if not value), None)
    if empty is not None:
        raise NasError(f"{text}: {empty} has no value; write {empty}=VALUE.")
    return KINDS[name](Request(name=name, options=options, sample=sample, seed=seed, folder=folder))
