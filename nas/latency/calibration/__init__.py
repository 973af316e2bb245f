"""Predictor calibration: measured here, or from external measurements."""
