"""Tests that look at results with a real browser."""
