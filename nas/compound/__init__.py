"""Compound scaling as a study: a grid of coefficients or a comparison of rules, trained, told apart and reported."""
