"""The words that alignments speak of, and which tokens lie in which word.

Word positions in Pharaoh files (`i-j`, counted from 0) and in alignment pictures are positions in `split_words` of
the sentence, whatever tokenizer the model uses. The rule needs no model and no language:

- White space ends a word and belongs to none.
- Every Han character and every kana is a word of its own, with the combining marks that follow it. Hangul is
  written with spaces, so Korean words are ordinary words.
- Leading and trailing punctuation and symbols are split off: `"Hi!"` is four words, of which `Hi` is one. A
  run of the same mark is one word (`...`, `--`). Inside a word marks stay (`don't`, `3.14`, `10:30`), except the
  punctuation of Chinese and Japanese, which is written without spaces and always stands alone (`好，abc，de`).
- The replacement character U+FFFD, which stands for an unknown token, is a word of its own.

Splitting the words joined by single spaces gives the same words again.
"""

from bisect import bisect_right
from collections.abc import Sequence

from tokenizers import Regex, pre_tokenizers

from regard.errors import ArgumentError

Span = tuple[int, int]
"""Positions `start, end` of characters in a text, end excluded; `start == end` covers nothing."""

# Regular expressions of the Oniguruma library, as `tokenizers` reads them. Each name is the inside of a class.
SPACE = r"\p{White_Space}\x{1c}-\x{1f}"  # what str.strip removes
CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\x{30fc}\x{ff70}"  # the two long-vowel marks have no script of their own
# CJK, full-width and vertical punctuation.
CJK_MARK = (
    r"\x{3001}-\x{3004}\x{3008}-\x{3020}\x{3030}\x{303d}\x{303f}\x{30a0}\x{30fb}\x{fe10}-\x{fe1f}\x{fe30}-\x{fe6f}"
    r"\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff20}\x{ff3b}-\x{ff40}\x{ff5b}-\x{ff65}"
)
_UNKNOWN = r"\x{fffd}"
_INNER = f"[^{SPACE}{CJK}{CJK_MARK}{_UNKNOWN}]"
_EDGE = f"[^{SPACE}{CJK}{CJK_MARK}{_UNKNOWN}\\p{{P}}\\p{{S}}]"

_MARKS = r"[\p{M}\x{309b}\x{309c}\x{ff9e}\x{ff9f}]*"  # combining, and the voicing marks that are not

WORD = f"[{CJK}]{_MARKS}|{_UNKNOWN}|{_EDGE}(?:{_INNER}*{_EDGE})?|([\\p{{P}}\\p{{S}}{CJK_MARK}])\\1*{_MARKS}"
"""One word, as a regular expression for `tokenizers.Regex`."""

_splitter = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)


def split_words(text: str) -> list[Span]:
    """Return the character spans of the words of `text`, in order; they do not overlap and none is empty.

    Every character that is not white space lies in exactly one word. The module's description states the rule.

    Raises:
        ArgumentError: `text` holds a surrogate, so it is not Unicode text.
    """
    try:
        return [span for _, span in _splitter.pre_tokenize_str(text)]
    except (TypeError, UnicodeEncodeError) as error:
        raise not_text(text) from error


def not_text(text: object) -> ArgumentError:
    """The error for something that is not Unicode text: no string, or a string with surrogates in it."""
    if not isinstance(text, str):
        return ArgumentError(f"text: expected a str, got {type(text).__name__}")
    place = next((i for i, character in enumerate(text) if "\ud800" <= character <= "\udfff"), None)
    return ArgumentError(f"text: expected Unicode text, got a surrogate at character {place} of {text[:40]!a}")


def group_by_words(token_spans: Sequence[Span], word_spans: Sequence[Span]) -> list[list[int]]:
    """Return, for each word, the indices of the tokens that share at least one character with it, ascending.

    Args:
        token_spans: one span per token, as `Tokenizer.spans` or `Tokenizer.text_spans` give them; a token with an
            empty span (a special, a space) is in no word, a token that reaches over several words is in each.
        word_spans: the words in order and without overlap, as `split_words` gives them, **of the same text**.
    """
    groups: list[list[int]] = [[] for _ in word_spans]
    ends = [end for _, end in word_spans]
    for index, (start, end) in enumerate(token_spans):
        if start == end:
            continue
        word = bisect_right(ends, start)  # the first word that ends after the token starts
        while word < len(word_spans) and word_spans[word][0] < end:
            groups[word].append(index)
            word += 1
    return groups
