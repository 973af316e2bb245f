"""Tests of nas.compound."""
