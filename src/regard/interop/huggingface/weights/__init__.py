"""Weights of Hugging Face models both ways: directories of transformers as models of this package, and back.

Each family is a table of names (`encoder_decoders`, `gpt2`, `llama`, `bert`), of what is understood of its config.json,
and of what it computes; transformers itself is needed neither for reading nor for writing.
"""

from regard.interop.huggingface.weights.reading import Converted, read_weights
from regard.interop.huggingface.weights.writing import write_weights

__all__ = ["Converted", "read_weights", "write_weights"]
