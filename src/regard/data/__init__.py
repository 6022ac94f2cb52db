"""Data: sources of text, words, tokenizers, batches, and the example corpus."""

from regard.data.batches import TokenBatches, inference_batches
from regard.data.sources import (
    Pair,
    ParallelText,
    decode_line,
    display_name,
    read_lines,
    read_parallel,
    read_table,
    usable,
)
from regard.data.tokenizer_training import train_tokenizer
from regard.data.tokenizers import Tokenizer
from regard.data.words import group_by_words, split_words

__all__ = [
    "Pair",
    "ParallelText",
    "TokenBatches",
    "Tokenizer",
    "decode_line",
    "display_name",
    "group_by_words",
    "inference_batches",
    "read_lines",
    "read_parallel",
    "read_table",
    "split_words",
    "train_tokenizer",
    "usable",
]
