"""A network drawn block by block."""
