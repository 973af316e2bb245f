"""Readers of the layouts of boxes and masks, and which one a folder has."""
