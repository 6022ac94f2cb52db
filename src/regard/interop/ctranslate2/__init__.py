"""Models as directories of CTranslate2, an engine that runs Transformers fast on CPUs and GPUs (OpenNMT)."""

from regard.interop.ctranslate2.language import write_generator
from regard.interop.ctranslate2.parts import PRECISIONS
from regard.interop.ctranslate2.translation import write_translator

__all__ = ["PRECISIONS", "write_generator", "write_translator"]
