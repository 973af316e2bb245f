"""Plots of scaled networks: accuracy over cost, by rule, by coefficients, and by row and column of a table."""
