"""Tests of nas.engine."""
