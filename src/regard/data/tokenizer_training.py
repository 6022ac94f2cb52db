"""Training tokenizers: counting characters and words, learning byte-pair merges or a unigram model."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from regard.data.normalization import Normalizer, Rule, join_normalizer, rules_of
from regard.data.tokenizers import BYTES, SPACE_MARK, SPECIALS, Kind, Tokenizer
from regard.data.unigram_training import learn_unigram
from regard.data.words import CJK, CJK_MARK, SPACE, WORD
from regard.errors import ArgumentError, DataError

DEFAULT_SUBWORD_SIZE: Final = 10_000
"""The vocabulary size of a `bpe` or `unigram` tokenizer when none is given."""

MIN_FREQUENCY: Final = 2
"""A piece or word seen less often is not learned (a word then becomes `<unk>`, whose vector so is trained)."""

LONGEST_PIECE: Final = 16
"""Characters of the longest subword; without spaces, whole sentences could become one (as in SentencePiece)."""

COVERAGE: Final = 0.9999
"""The part of the running characters that an alphabet of subwords holds; the rarest others become bytes."""

_SCORE_DIGITS = 3  # of a unigram score: the last ones depend on how a processor computes logarithms

# Where subwords end, each part with the space before it: Chinese and Japanese, a single digit, other
# letters, punctuation. White space other than the space stands alone.
_PARTS = rf"▁?[{CJK}][{CJK}\p{{M}}]*|▁?\p{{N}}|▁?[\p{{L}}\p{{M}}&&[^{CJK}]]+|▁?[^▁{SPACE}{CJK}\p{{N}}\p{{L}}\p{{M}}]+"
# The place where a text gets its first space: not before Chinese and Japanese, where 你 is the same piece at the start
# of a sentence and inside it.
_START = rf"\A(?=[^{CJK}{CJK_MARK}])"
_CHARACTER = r"[\s\S]"
_NO_LIMIT = 2**31 - 1


def train_tokenizer(
    kind: Kind,
    lines: Iterable[str],
    vocab_size: int | None = None,
    normalize: Sequence[Rule] = (),
    *,
    strip: bool = True,
) -> Tokenizer:
    """Learn a tokenizer from `lines`; the same lines give the same tokenizer, byte for byte.

    - `bpe`: byte-pair encoding (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword
      Units") over pieces that mark a word's start with ▁ and never mix letters, digits and punctuation; digits
      are single; all 256 bytes are in the vocabulary. Characters seen once, or among the rarest 0.01 % of the
      running text, are written as bytes.
    - `unigram`: a unigram model of pieces (Kudo 2018, "Subword Regularization: Improving Neural Network Translation
      Models with Multiple Subword Candidates"), of which a text gets the most probable ones; otherwise as `bpe`.
    - `word`: the words of `split_words` that are seen at least twice, the most frequent first.
    - `char`: all characters, the most frequent first.

    Args:
        kind: "bpe", "unigram", "word" or "char".
        lines: the training text, one or both sides of a parallel text.
        vocab_size: the most ids there may be, specials included. None is 10 000 for `bpe` and `unigram`, no limit
            otherwise. A small text can give fewer: read `Tokenizer.vocab_size`.
        normalize: what is done to every text first, in this order: "nfc", "nfkc", "lower".
        strip: whether white space at the ends of each text is no part of it, as for sentences (`Tokenizer.encode`);
            False for running text (`Tokenizer.encode_text`), of which the parts given are as long as is convenient.

    Raises:
        ArgumentError: the kind or a rule is unknown, or `vocab_size` is too small; the message says the least that
            works.
        DataError: there is no text, or (for `word`) no word is seen twice.
    """
    if kind not in ("bpe", "unigram", "word", "char"):
        raise ArgumentError(f"kind: got {kind!r}, expected 'bpe', 'unigram', 'word' or 'char'")
    rules = rules_of(normalize)
    normalizer = Normalizer(rules)
    text = [normalizer(line.strip() if strip else line) for line in lines if line.strip()]
    if not text:
        raise DataError(f"there is no text to train a {kind} tokenizer on: every line is empty")
    match kind:
        case "bpe":
            return _finish(_train_bpe(text, vocab_size, strip), rules)
        case "unigram":
            return _finish(_train_unigram(text, vocab_size, strip), rules)
        case "word":
            split = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
            tokenizer = _finish(_train_table(kind, text, vocab_size, split, MIN_FREQUENCY), rules)
            if tokenizer.vocab_size == len(SPECIALS):
                raise DataError("the text is too small for a word tokenizer: no word is seen twice")
            return tokenizer
        case _:
            split = pre_tokenizers.Split(Regex(_CHARACTER), "isolated")
            return _finish(_train_table(kind, text, vocab_size, split, 1), rules)


def _train_table(
    kind: Kind, text: list[str], vocab_size: int | None, split: pre_tokenizers.PreTokenizer, min_frequency: int
) -> dict[str, Any]:
    """The file of a tokenizer that looks up whole units, words or characters."""
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
    return _frame(inner)


def _train_bpe(text: list[str], vocab_size: int | None, sentences: bool) -> dict[str, Any]:
    """The file of a byte-pair tokenizer; each of `sentences` begins with a space, running text doesn't."""
    alphabet, rare, size = _subword_sizes("bpe", text, vocab_size)
    inner = _subwords(models.BPE(unk_token="<unk>", byte_fallback=True))
    first_space = inner.normalizer
    if not sentences:
        inner.normalizer = None
    trainer = trainers.BpeTrainer(
        vocab_size=size,
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
    inner.normalizer = first_space
    return _frame(inner)


def _train_unigram(text: list[str], vocab_size: int | None, sentences: bool) -> dict[str, Any]:
    """The file of a unigram tokenizer; as `_train_bpe`."""
    alphabet, rare, size = _subword_sizes("unigram", text, vocab_size)
    inner = _subwords(models.Unigram())
    ends = str.maketrans(dict.fromkeys(rare, "\n"))  # as above
    split = pre_tokenizers.Sequence([inner.pre_tokenizer, pre_tokenizers.Split("\n", "removed")])
    words: Counter[str] = Counter()
    for line in text:
        ready = line.translate(ends)
        ready = inner.normalizer.normalize_str(ready) if sentences else ready
        words.update(word for word, _ in split.pre_tokenize_str(ready))
    first = [*SPECIALS, *BYTES]
    pieces = learn_unigram(words, alphabet, size - len(first), LONGEST_PIECE, MIN_FREQUENCY)
    ranked = sorted((-round(score, _SCORE_DIGITS), piece) for piece, score in pieces)
    frame = _frame(inner)
    frame["model"] = {
        "type": "Unigram",
        "unk_id": SPECIALS.index("<unk>"),
        "vocab": [*([name, 0.0] for name in first), *([piece, -score] for score, piece in ranked)],
        "byte_fallback": True,
    }
    return frame


def _subword_sizes(kind: Kind, text: list[str], vocab_size: int | None) -> tuple[list[str], list[str], int]:
    """The characters that are learned, those that become bytes, and the vocabulary's size."""
    alphabet, rare = _alphabet(text)
    size = DEFAULT_SUBWORD_SIZE if vocab_size is None else vocab_size
    least = len(SPECIALS) + len(BYTES) + len(alphabet)
    if size < least:
        raise ArgumentError(
            f"vocab_size: got {vocab_size}; a {kind} tokenizer of this text needs at least {least}: "
            f"{len(SPECIALS)} specials, {len(BYTES)} bytes and {len(alphabet)} characters"
        )
    return alphabet, rare, size


def _subwords(model: models.Model) -> tokenizers.Tokenizer:
    """A tokenizer of subwords, not trained."""
    inner = tokenizers.Tokenizer(model)
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
    return inner


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


def _frame(inner: tokenizers.Tokenizer) -> dict[str, Any]:
    """The file of a tokenizer without its added tokens, which the library would find in the text."""
    frame: dict[str, Any] = json.loads(inner.to_str())
    frame["added_tokens"] = []
    return frame


def _finish(frame: dict[str, Any], rules: list[dict[str, Any]]) -> Tokenizer:
    """The tokenizer of a file, with rules of normalisation."""
    if rules:
        frame["normalizer"] = join_normalizer(rules, frame["normalizer"])
    return Tokenizer(json.dumps(frame, ensure_ascii=False) + "\n")
