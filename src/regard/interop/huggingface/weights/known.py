"""The families of Hugging Face models whose weights are read and written."""

from typing import Final

from regard.interop.huggingface.weights import bert, encoder_decoders, gpt2, llama
from regard.interop.huggingface.weights.family import Family

FAMILIES: Final[dict[str, Family]] = {
    family.model_type: family for family in (gpt2.FAMILY, *llama.FAMILIES, bert.FAMILY, *encoder_decoders.FAMILIES)
}
"""By `model_type` of config.json."""
