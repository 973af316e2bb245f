"""Statistics of trial records, without drawing and without torch."""
