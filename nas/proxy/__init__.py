"""Proxy training: image data in memory, batched augmentation, short honest trainings, reduced networks."""
