"""Which kernels a runtime runs for a network: fusion, layouts, padding."""
