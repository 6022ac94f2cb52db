"""Training tokenizers: counting characters and words, learning byte-pair merges."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Final

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from regard.data.tokenizers import BYTES, SPACE_MARK, SPECIALS, Kind, Tokenizer
from regard.data.words import CJK, CJK_MARK, SPACE, WORD
from regard.errors import ArgumentError, DataError

DEFAULT_BPE_SIZE: Final = 10_000
"""The vocabulary size of a `bpe` tokenizer when none is given."""

MIN_FREQUENCY: Final = 2
"""A piece or word seen less often is not learned (a word then becomes `<unk>`, whose vector so is trained)."""

LONGEST_PIECE: Final = 16
"""Characters of the longest `bpe` piece; without spaces, whole sentences could become one (as in SentencePiece)."""

COVERAGE: Final = 0.9999
"""The part of the running characters that a `bpe` alphabet holds; the rarest others become bytes."""

# Where byte-pair merges stop, each part with the space before it: Chinese and Japanese, a single digit, other
# letters, punctuation. White space other than the space stands alone.
_PARTS = rf"▁?[{CJK}][{CJK}\p{{M}}]*|▁?\p{{N}}|▁?[\p{{L}}\p{{M}}&&[^{CJK}]]+|▁?[^▁{SPACE}{CJK}\p{{N}}\p{{L}}\p{{M}}]+"
# The place where a text gets its first space: not before Chinese and Japanese, where 你 is the same piece at the start
# of a sentence and inside it.
_START = rf"\A(?=[^{CJK}{CJK_MARK}])"
_CHARACTER = r"[\s\S]"
_NO_LIMIT = 2**31 - 1


def train_tokenizer(kind: Kind, lines: Iterable[str], vocab_size: int | None = None) -> Tokenizer:
    """Learn a tokenizer from `lines`; the same lines give the same tokenizer, byte for byte.

    - `bpe`: byte-pair encoding (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword
      Units") over pieces that mark a word's start with ▁ and never mix letters, digits and punctuation; digits
      are single; all 256 bytes are in the vocabulary. Characters seen once, or among the rarest 0.01 % of the
      running text, are written as bytes.
    - `word`: the words of `split_words` that are seen at least twice, the most frequent first.
    - `char`: all characters, the most frequent first.

    Args:
        kind: "bpe", "word" or "char".
        lines: the training text, one or both sides of a parallel text.
        vocab_size: the most ids there may be, specials included. None is 10 000 for `bpe`, no limit otherwise. A
            small text can give fewer: read `Tokenizer.vocab_size`.

    Raises:
        ArgumentError: the kind is unknown, or `vocab_size` is too small; the message says the least that works.
        DataError: there is no text, or (for `word`) no word is seen twice.
    """
    text = [stripped for line in lines if (stripped := line.strip())]
    if not text:
        raise DataError(f"there is no text to train a {kind} tokenizer on: every line is empty")
    match kind:
        case "bpe":
            return _train_bpe(text, DEFAULT_BPE_SIZE if vocab_size is None else vocab_size)
        case "word":
            split = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
            return _train_table(kind, text, vocab_size, split, MIN_FREQUENCY)
        case "char":
            split = pre_tokenizers.Split(Regex(_CHARACTER), "isolated")
            return _train_table(kind, text, vocab_size, split, 1)
    raise ArgumentError(f"kind: got {kind!r}, expected 'bpe', 'word' or 'char'")


def _train_table(
    kind: Kind, text: list[str], vocab_size: int | None, split: pre_tokenizers.PreTokenizer, min_frequency: int
) -> Tokenizer:
    """A tokenizer that looks up whole units, words or characters."""
    least = len(SPECIALS) + 1
    if vocab_size is not None and vocab_size < least:
        raise ArgumentError(f"vocab_size: got {vocab_size}; a {kind} tokenizer needs at least {least}")
    inner = tokenizers.Tokenizer(models.WordLevel(unk_token="<unk>"))
    inner.pre_tokenizer = split
    inner.decoder = decoders.Fuse() if kind == "char" else None
    trainer = trainers.WordLevelTrainer(
        vocab_size=_NO_LIMIT if vocab_size is None else vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIALS),
        show_progress=False,
    )
    inner.train_from_iterator(text, trainer)
    tokenizer = _finish(inner)
    if tokenizer.vocab_size == len(SPECIALS):
        raise DataError(f"the text is too small for a {kind} tokenizer: no word is seen twice")
    return tokenizer


def _train_bpe(text: list[str], vocab_size: int) -> Tokenizer:
    alphabet, rare = _alphabet(text)
    least = len(SPECIALS) + len(BYTES) + len(alphabet)
    if vocab_size < least:
        raise ArgumentError(
            f"vocab_size: got {vocab_size}; a bpe tokenizer of this text needs at least {least}: "
            f"{len(SPECIALS)} specials, {len(BYTES)} bytes and {len(alphabet)} characters"
        )
    inner = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    inner.normalizer = normalizers.Replace(Regex(_START), " ")
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement=SPACE_MARK, prepend_scheme="never", split=True),
            pre_tokenizers.Split(Regex(_PARTS), "isolated"),
        ]
    )
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE_MARK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[*SPECIALS, *BYTES],
        # Together these two keep exactly the alphabet: the library's own choice among equally rare characters
        # changes from run to run.
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        max_token_length=LONGEST_PIECE + 1,  # the library's bound is exclusive
        show_progress=False,
    )
    # Merges must not reach over a character that is not in the alphabet, and the library only leaves it out: a line
    # end in its place ends the part.
    ends = str.maketrans(dict.fromkeys(rare, "\n"))
    inner.train_from_iterator((line.translate(ends) for line in text), trainer)
    return _finish(inner)


def _alphabet(text: list[str]) -> tuple[list[str], list[str]]:
    """The characters that are learned, and those that become bytes, each in the order of their code points."""
    counts: Counter[str] = Counter()
    for line in text:
        counts.update(line)
    # A space is written ▁, so ▁ itself is always bytes; a line end is where merges stop.
    marks = [character for character in (SPACE_MARK, "\n") if counts.pop(character, 0)]
    counts.pop(" ", None)
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    uncovered = (1 - COVERAGE) * counts.total()
    while ranked and (counts[ranked[-1]] < MIN_FREQUENCY or counts[ranked[-1]] <= uncovered):
        uncovered -= counts[ranked[-1]]
        marks.append(ranked.pop())
    return sorted([SPACE_MARK, *ranked]), sorted(marks)


def _finish(inner: tokenizers.Tokenizer) -> Tokenizer:
    """The trained tokenizer without its added tokens, which the library would find in the text."""
    frame = json.loads(inner.to_str())
    frame["added_tokens"] = []
    return Tokenizer(json.dumps(frame, ensure_ascii=False) + "\n")
