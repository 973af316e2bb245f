"""Performance estimation strategies: accuracy estimates without full training."""
