"""Tests of nas.proxy."""
