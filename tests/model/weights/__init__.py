"""Tests of nas.model.weights."""
