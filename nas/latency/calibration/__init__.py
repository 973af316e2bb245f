"""Fitting a predictor to a device: on this machine, or from measurements made elsewhere."""
