"""Small tokenizers of others, trained here: one of each kind that people have."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

ENGLISH = [
    "Two dogs play in the park on Tuesday, the fourth of March.",
    "The dogs don't play; they sleep... at half past six!",
    "It costs $3,005.20 (three thousand and five), call 555-0199.",
    "The parks and the dogs: playing, played, sleeping, slept.",
    "Ein Hund läuft über die Straße, hehehe aaaa -- und schläft.",
] * 4
ALPHABET = pre_tokenizers.ByteLevel.alphabet()


def byte_level(*, prefix: bool, special: list[str]) -> tokenizers.Tokenizer:
    """As GPT-2 or RoBERTa."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=special, initial_alphabet=ALPHABET, show_progress=False
    )
    inner.train_from_iterator(ENGLISH, trainer)
    return inner


def llama3() -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(
        ENGLISH, trainers.BpeTrainer(vocab_size=330, initial_alphabet=ALPHABET, show_progress=False)
    )
    inner.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|python_tag|>"])
    inner.add_tokens(["<tool>"])
    inner.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", inner.token_to_id("<|begin_of_text|>"))]
    )
    return inner


def wordpiece() -> tokenizers.Tokenizer:
    """As BERT."""
    inner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    inner.train_from_iterator(ENGLISH, trainer)
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    inner.enable_truncation(4)
    inner.enable_padding(length=9)
    return inner


def unigram() -> tokenizers.Tokenizer:
    """As T5 or XLM-R."""
    inner = tokenizers.Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    inner.train_from_iterator(ENGLISH, trainer)
    return inner


def gpt2() -> tokenizers.Tokenizer:
    return byte_level(prefix=False, special=["<|endoftext|>"])


def roberta() -> tokenizers.Tokenizer:
    return byte_level(prefix=True, special=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])


MAKERS = {"gpt2": gpt2, "roberta": roberta, "llama3": llama3, "wordpiece": wordpiece, "unigram": unigram}


@cache
def library(name: str) -> tokenizers.Tokenizer:
    return MAKERS[name]()


@cache
def sentencepiece_model(**options: Any) -> bytes:
    """A SentencePiece model; it is the same for the same options."""
    model = io.BytesIO()
    settings = {"vocab_size": 130, "minloglevel": 2, "hard_vocab_limit": False} | options
    if settings.get("byte_fallback"):
        settings["vocab_size"] += 256
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(ENGLISH), model_writer=model, **settings)
    return model.getvalue()


def write(folder: Path, name: str) -> Path:
    path = folder / f"{name}.json"
    library(name).save(str(path))
    return path
