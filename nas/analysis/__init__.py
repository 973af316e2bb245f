"""Statistics of trial records; draws nothing and loads no torch."""
