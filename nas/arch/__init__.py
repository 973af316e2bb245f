"""The language of networks: specs, notation, cost, scaling and the published networks. Loads no torch."""
