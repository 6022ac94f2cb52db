"""Models as ONNX graphs that say one token at a time, for ONNX Runtime and other engines."""
