"""Tests of ``nas.arch`` against published figures, closed formulas and timm."""
