"""Trials on a Ray cluster. The only room that imports Ray."""
