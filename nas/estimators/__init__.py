"""Performance estimation: what a network's accuracy is estimated by without training it in full."""
