"""The operations of a network, block by block: shapes, kernels, parameters and MACs."""
