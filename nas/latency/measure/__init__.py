"""Timing networks on this machine: the timer, backends, per-kernel profiles, system load."""
