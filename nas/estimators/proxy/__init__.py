"""Proxy training: short trainings of narrow copies of a network on small images."""
