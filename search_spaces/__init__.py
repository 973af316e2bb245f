"""Search spaces: decoders of a genotype into one network.

They import ``nas.arch`` and ``nas.core`` alone.
"""
