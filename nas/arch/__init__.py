"""Network representation: specs, notation, cost, scaling, published networks.

Imports no torch.
"""
