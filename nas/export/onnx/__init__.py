"""ONNX: the inference graph of a spec, and static int8 quantisation."""
