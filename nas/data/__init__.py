"""Images: sources, decoding, train/validation splits, and a summary of the data."""
