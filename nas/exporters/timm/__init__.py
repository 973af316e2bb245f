"""timm: folders of a network's own weights, which timm.create_model opens."""
