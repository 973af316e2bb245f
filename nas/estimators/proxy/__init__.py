"""Proxy training: short trainings of narrow copies of a network on small images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.estimators.proxy.evaluator import ProxyEvaluator, TaskData
    from nas.estimators.proxy.reduce import LEAST_NORM_MOMENTUM, Proxy, identical_proxies, last_map_px, proxy_factory
    from nas.estimators.proxy.scorer import ShortTrainingScorer
    from nas.estimators.proxy.settings import ProxySettings
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "evaluator": ["ProxyEvaluator", "TaskData"],
            "reduce": ["LEAST_NORM_MOMENTUM", "Proxy", "identical_proxies", "proxy_factory", "last_map_px"],
            "scorer": ["ShortTrainingScorer"],
            "settings": ["ProxySettings"],
        },
    )

__all__ = [
    "LEAST_NORM_MOMENTUM",
    "last_map_px",
    "Proxy",
    "ProxyEvaluator",
    "ProxySettings",
    "ShortTrainingScorer",
    "TaskData",
    "identical_proxies",
    "proxy_factory",
]
