"""Plots of scaled networks.

Accuracy is shown over cost, by rule, by coefficients, and by row and column of a table.
"""
