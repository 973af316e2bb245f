"""Tests of the language of networks, against published figures, closed formulas and timm."""
