"""Tests of nas.study."""
