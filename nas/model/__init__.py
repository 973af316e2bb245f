"""From a spec to a timm module, and from a module to files that need timm alone. The room of timm's private names."""
