"""What goes along with a map: which layer it is of, and what stands at the positions of its queries and keys."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["self", "causal", "cross"]


@dataclass(frozen=True)
class Role:
    """What an attention of a model is for.

    Attributes:
        kind: "self": of a sequence to itself; "causal": to itself, up to each position; "cross": to another sequence.
        queries, keys: names of the sequences, such as "source", "target", "text".
    """

    kind: Kind
    queries: str
    keys: str


@dataclass(frozen=True)
class Word:
    """A word and the positions of its tokens."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Tokens:
    """What stands at the positions of one sequence.

    Attributes:
        texts: of each position, as it is shown.
        special: of each position, whether it is no part of the text: begin, end, separator, padding.
        ids: of each position in the vocabulary; empty where there are none, as for pixels and sound.
        padding: of each position, whether it is none of the sequence at all; empty where there is no padding.
        words: the words in order, of tokens that aren't special, none of which is in two; empty where they are unknown.
    """

    texts: tuple[str, ...]
    special: tuple[bool, ...]
    ids: tuple[int, ...] = ()
    words: tuple[Word, ...] = ()
    padding: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if not any(self.padding):  # one way to say that there is none
            object.__setattr__(self, "padding", ())


def parted(words: Iterable[Word]) -> tuple[Word, ...]:
    """The same words, those that share a token as one: what such a token was given can't be told apart.

    A tokenizer that makes one token of "tired." has one word where a reader has two.
    """
    found: list[Word] = []
    for word in words:
        if found and set(found[-1].tokens) & set(word.tokens):
            last = found.pop()
            word = Word(last.text + word.text, tuple(sorted({*last.tokens, *word.tokens})))
        found.append(word)
    return tuple(found)
