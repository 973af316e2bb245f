"""Latency predictors, which price a spec without building it."""
