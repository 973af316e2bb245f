"""From timm's modules back to a spec."""
