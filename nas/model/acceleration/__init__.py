"""Cheaper forms of a timm module's layers, for training and scoring on CPU."""

from __future__ import annotations

from nas.model.acceleration.context import fast_layers

__all__ = ["fast_layers"]
