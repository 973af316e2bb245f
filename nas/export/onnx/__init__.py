"""ONNX: the graph of a spec or module, and static int8 quantisation."""
