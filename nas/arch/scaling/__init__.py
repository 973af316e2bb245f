"""Depth, width and resolution scaling of a network.

The rules that choose the factors, rounding, families and cost targets.
"""
