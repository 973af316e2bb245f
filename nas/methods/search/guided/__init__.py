"""The guided sampler: learns from features of networks, proposes feasible ones."""

from nas.methods.search.guided.observations import Observations, Observed, prior_results, results_of
from nas.methods.search.guided.pool import Pool, make_pool
from nas.methods.search.guided.sampler import GuidedMemory, GuidedSampler, NoCandidateLeft

__all__ = [
    "GuidedMemory",
    "GuidedSampler",
    "NoCandidateLeft",
    "Observations",
    "Observed",
    "Pool",
    "make_pool",
    "prior_results",
    "results_of",
]
