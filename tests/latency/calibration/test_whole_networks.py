"""Tests of the choice between models of a device of which whole networks are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas.arch.ops.network import network_ops
from nas.latency.calibration.whole_networks import fit_whole_networks
from nas.latency.predictors.held_out import outliers_of
from nas.latency.random_networks import random_specs
from tests.latency.synthetic_device import DEVICE, true_ms

SPECS = random_specs(70, seed=31)
PHONE = replace(DEVICE, processor="phone", precision="float32")


def host_bound_ms(spec: object) -> float:
    """Latency where a host issues kernels, and a processor is always faster than it: it counts kernels."""
    return 0.1 + 0.02 * sum(op.kind != "split" for op in network_ops(spec))  # type: ignore[arg-type]


def test_operations_are_priced_where_that_predicts_better(few_starts: None) -> None:
    fit = fit_whole_networks(PHONE, [(spec, true_ms(spec)) for spec in SPECS[:50]], noise=0.02, measurements=2)
    assert fit.kind == "prices" and fit.error.sources is not None
    ratios = [fit.predict(spec).latency_ms / true_ms(spec) for spec in SPECS[50:]]
    assert np.median(np.abs(np.array(ratios) - 1)) < 0.05
    law = fit_whole_networks(PHONE, [(spec, host_bound_ms(spec)) for spec in SPECS[:40]])
    assert law.kind == "whole"


def test_a_tenth_of_bad_measurements_changes_little(few_starts: None) -> None:
    # The errors that the fit of good ones makes on other networks, and those of a fit to some that took 1.8 times as
    # long: prices by least squares would err by about 8%, a tenth of 80%, on all.
    bad = {spec.name for spec in SPECS[3:50:10]}
    measured = [(spec, true_ms(spec) * (1.8 if spec.name in bad else 1.0)) for spec in SPECS[:50]]
    fit = fit_whole_networks(PHONE, measured)
    ratios = np.array([fit.predict(spec).latency_ms / true_ms(spec) for spec in SPECS[50:]])
    assert np.median(ratios) == pytest.approx(1.0, abs=0.03)
    assert bad <= {check.name for check in outliers_of(fit.checks, deviations=4.0, least=0.3)}
