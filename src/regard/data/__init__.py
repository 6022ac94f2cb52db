"""Data: sources of text, words, tokenizers, batches, and the example corpus."""

from regard.data.batches import TokenBatches, inference_batches
from regard.data.given_tokenizers import read_tokenizer
from regard.data.pairs import Block, PairReader, Row, pairs_of
from regard.data.readers import open_reader
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
from regard.data.subword_dropout import BPEDropout
from regard.data.token_store import ParallelTokens
from regard.data.tokenizer_training import train_tokenizer
from regard.data.tokenizers import Tokenizer
from regard.data.weights import PartWeights
from regard.data.words import group_by_words, split_words

__all__ = [
    "BPEDropout",
    "Block",
    "Pair",
    "PairReader",
    "ParallelText",
    "ParallelTokens",
    "PartWeights",
    "Row",
    "TokenBatches",
    "Tokenizer",
    "decode_line",
    "display_name",
    "group_by_words",
    "inference_batches",
    "open_reader",
    "pairs_of",
    "read_lines",
    "read_parallel",
    "read_table",
    "read_tokenizer",
    "split_words",
    "train_tokenizer",
    "usable",
]
