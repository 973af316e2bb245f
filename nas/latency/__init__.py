"""Latency of networks: device, measurement, predictors.

Predictors price a spec without building the network.
"""
