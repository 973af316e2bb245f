"""Search spaces: modules that decode a genotype into one network.

They import ``nas.arch`` and ``nas.core`` alone.
"""
