"""torch.export: the inference graph of a spec as a program that torch alone runs."""
