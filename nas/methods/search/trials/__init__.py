"""Trials of a search before they are trained: initial ones, screening, index."""
