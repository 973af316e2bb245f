"""ExecuTorch: the inference graph of a spec for XNNPACK, and its runtime."""
