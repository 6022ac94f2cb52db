"""Models as ONNX graphs that say one token at a time, for ONNX Runtime and other engines."""

from regard.interop.onnx.language import write_generator
from regard.interop.onnx.translation import write_translator

__all__ = ["write_generator", "write_translator"]
