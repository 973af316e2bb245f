"""Compound scaling: a grid of coefficients, a comparison of rules, or a table of multipliers, trained and ranked."""
