"""Images: where they come from, decoding, splits, and a summary of what was loaded."""
