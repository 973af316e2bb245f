"""Operations of a network by block: shapes, kernels, parameters, MACs."""
