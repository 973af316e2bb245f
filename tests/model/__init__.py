"""Tests of nas.model."""
