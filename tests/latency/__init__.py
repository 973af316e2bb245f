"""Tests of nas.latency."""
