"""ONNX, whole, in Python."""
