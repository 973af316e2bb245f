"""nas: architecture search and compound scaling for mobile convolutional networks."""
