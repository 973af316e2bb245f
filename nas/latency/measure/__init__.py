"""Latency measurement: timer, backends, per-kernel profiles, system load."""
