"""Text that a translation must begin with or contain, as tokens of its tokenizer."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from regard.data import Tokenizer, split_words
from regard.data.tokenizers import SPACE_MARK
from regard.errors import ArgumentError


@dataclass(frozen=True)
class Prefix:
    """A prefix of text as tokens; see `regard.decoding.ForcedPrefix`.

    Attributes:
        tokens: of the prefix, none for an empty one.
        endings: for each token the range of ranks of the tokens that say all that is left of the prefix, and more.
    """

    tokens: tuple[int, ...] = ()
    endings: tuple[tuple[int, int], ...] = ()


class Steering:
    """Makes tokens of prefixes and phrases.

    Args:
        tokenizer: of the target.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def prefix(self, text: str) -> Prefix:
        """The tokens of a prefix.

        A translation under it begins with the prefix as the tokenizer writes it (`decode(encode(text))`, which for
        subwords is the text without white space at its ends). The prefix may end within a word and within what would
        be one token: from any of its tokens on, a hypothesis may say one longer token instead that begins with all
        that is left. If white space follows the prefix, its last word is complete, and another one comes.

        Raises:
            ArgumentError: a part of it is not in the vocabulary (tokenizers of words and of characters).
        """
        tokens = self.tokenizer.encode(text)
        if self.tokenizer.unk_id in tokens:
            start, end = self.tokenizer.text_spans(text)[tokens.index(self.tokenizer.unk_id)]
            raise ArgumentError(f"{text[start:end]!r} is not in the target's vocabulary: no translation can say it")
        surfaces = [self.tokenizer.surfaces[token] for token in tokens]
        endings = [self._beginning_with(b"".join(surfaces[place:])) for place in range(len(tokens))]
        space = self._beginning_with(b" ")
        if tokens and text != text.rstrip() and space[0] < space[1] and not surfaces[-1].endswith(b" "):
            endings = [(0, 0)] * len(tokens) + [space]
            tokens = [*tokens, self._ranked[space[0]]]
        return Prefix(tuple(tokens), tuple(endings))

    def phrase(self, text: str) -> list[list[int]]:
        """The spellings of a phrase that a translation must contain.

        It begins where a word can begin: after a space or, for characters that are written without one (Chinese,
        punctuation), anywhere. Nothing is said about its end: `Hund` is met by `Hunde`, too.

        Raises:
            ArgumentError: the phrase is empty, or a part of it is not in the vocabulary.
        """
        whole = self.tokenizer.encode(text)
        if not whole:
            raise ArgumentError("a phrase is empty")
        if self.tokenizer.unk_id in whole:
            start, end = self.tokenizer.text_spans(text)[whole.index(self.tokenizer.unk_id)]
            raise ArgumentError(f"{text[start:end]!r} is not in the target's vocabulary: no translation can say it")
        spellings = [whole]
        follows = split_words(f"a{text.strip()}")[0] == (0, 1)  # a letter, without a space between
        if self.tokenizer.kind in ("bpe", "unigram") and follows:
            mark = self.tokenizer.encode(SPACE_MARK)  # after it, a text goes on without a space
            spellings.append(self.tokenizer.encode(SPACE_MARK + text.strip())[len(mark) :])
        if self.tokenizer.kind == "given":  # its tokens at the beginning of a text may differ from those further on
            first = self.tokenizer.encode("a")
            for anchored in (f"a {text.strip()}", f"a{text.strip()}") if follows else (f"a {text.strip()}",):
                tokens = self.tokenizer.encode(anchored)
                if tokens[: len(first)] == first and len(tokens) > len(first):
                    spellings.append(tokens[len(first) :])
        return [list(one) for one in dict.fromkeys(map(tuple, spellings))]

    @cached_property
    def ranks(self) -> Tensor:
        """int64 (V,) each token's place among all, in the order of the bytes that they add to a text."""
        ranks = torch.empty(len(self._ranked), dtype=torch.int64)
        ranks[torch.tensor(self._ranked)] = torch.arange(len(self._ranked))
        return ranks

    @cached_property
    def _ranked(self) -> list[int]:
        surfaces = self.tokenizer.surfaces
        return sorted(range(len(surfaces)), key=surfaces.__getitem__)

    @cached_property
    def _surfaces(self) -> list[bytes]:
        return [self.tokenizer.surfaces[token] for token in self._ranked]

    def _beginning_with(self, start: bytes) -> tuple[int, int]:
        """The ranks of the tokens that begin with these bytes: a range, since they are sorted by their bytes."""

        def cut(surface: bytes) -> bytes:
            return surface[: len(start)]

        return bisect_left(self._surfaces, start, key=cut), bisect_right(self._surfaces, start, key=cut)
