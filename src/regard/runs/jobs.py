"""What is asked of one translation, checked and in tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

from regard.decoding.constraints import needed_length
from regard.errors import ArgumentError
from regard.runs.steering import Prefix, Steering

EXTRA_LENGTH = 10

T = TypeVar("T")


@dataclass(frozen=True)
class Lengths:
    """How long texts may be, in tokens.

    Attributes:
        positions: the most that the model has positions for.
        ratio: of the longest translation to its source, to which ten are added, where `longest` is None.
        shortest: the fewest of a translation.
        longest: the most of a translation, or None.
    """

    positions: int
    ratio: float
    shortest: int
    longest: int | None


@dataclass(frozen=True)
class Job:
    """One text to translate, in tokens.

    Attributes:
        source: its tokens; an empty text needs no translation, whatever else is asked.
        prefix: what the translation begins with.
        phrases: what it contains: of each phrase its spellings.
        limit: the most tokens of the translation.
        key: of its random draws.
    """

    source: tuple[int, ...]
    prefix: Prefix
    phrases: tuple[list[list[int]], ...]
    limit: int
    key: int


def make_job(
    source: Sequence[int],
    prefix: str,
    phrases: Sequence[str],
    *,
    lengths: Lengths,
    steering: Steering,
    key: int,
    number: int | None = None,
) -> Job:
    """Check one text, and what is asked of its translation.

    Args:
        source: the tokens of the text.
        prefix, phrases: what its translation begins with, and contains.
        lengths: how long texts may be.
        steering: makes tokens of prefix and phrases.
        key: of the random draws.
        number: of the text, for messages; None where there is only one.

    Raises:
        ArgumentError: the source is too long, there is no room for prefix and phrases, or one of them can't be said.
    """

    def name(what: str) -> str:
        return f"the {what}" if number is None else f"{what} {number}"

    if len(source) > lengths.positions:
        raise ArgumentError(
            f"{name('source')} has {len(source)} tokens; the model has positions for {lengths.positions}"
        )
    if not source:
        return Job((), Prefix(), (), 0, key)
    begins = _under(name("prefix"), steering.prefix, prefix)
    spellings = tuple(_under(f"{name('source')}, phrase {phrase!r}", steering.phrase, phrase) for phrase in phrases)
    least = len(begins.tokens)
    if spellings:
        least = max(least + needed_length(spellings), lengths.shortest) + 1  # and `<eos>`
    longest = int(lengths.ratio * len(source)) + EXTRA_LENGTH if lengths.longest is None else lengths.longest
    if lengths.longest is None and least:
        longest = max(longest, least + EXTRA_LENGTH)
    limit = min(longest, lengths.positions)
    if least > limit:
        asked = "prefix" if not spellings else "prefix and phrases" if begins.tokens else "phrases"
        raise ArgumentError(
            f"{name('source')}: with its {asked}, a translation has {least} tokens or more; at most {limit} are allowed"
        )
    return Job(tuple(source), begins, spellings, limit, key)


def sentence_key(seed: int, text: str) -> int:
    """The key of a text's random draws: the same text and seed have the same key, in any file and at any place."""
    content = f"{seed}\n{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def _under(name: str, make: Callable[[str], T], text: str) -> T:
    try:
        return make(text)
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from None
