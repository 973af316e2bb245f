"""Scaling a network: depth, width and resolution, the rules that choose them, families and cost targets."""
