"""What is asked of translations: as it is given, then checked and in tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

from regard.decoding import Rule, Search
from regard.decoding.constraints import needed_length
from regard.errors import ArgumentError
from regard.runs.steering import Prefix, Steering

EXTRA_LENGTH = 10

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How translations are looked for; see `Translator.translate`.

    Attributes:
        search: None is beam search with the model's own defaults, and one translation of each sentence.
        rules: what may be said.
        min_length, max_length: of a translation in tokens.
        seed: of sampling.
    """

    search: Search | None = None
    rules: tuple[Rule, ...] = ()
    min_length: int = 0
    max_length: int | None = None
    seed: int = 1


@dataclass(frozen=True)
class Line:
    """One line to translate.

    Attributes:
        text: the source.
        prefix: what its translation begins with.
        phrases: what its translation contains.
    """

    text: str
    prefix: str = ""
    phrases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lengths:
    """How long texts may be, in tokens.

    Attributes:
        positions: the most that the model has positions for.
        ratio: of the longest translation to its source, to which ten are added, where `longest` is None.
        shortest: the fewest of a translation.
        longest: the most of a translation, or None.

    Raises:
        ArgumentError: they contradict each other.
    """

    positions: int
    ratio: float
    shortest: int
    longest: int | None

    def __post_init__(self) -> None:
        if self.shortest < 0:
            raise ArgumentError(f"min_length is {self.shortest}; expected 0 or more")
        if self.longest is not None and self.longest < max(1, self.shortest):
            raise ArgumentError(
                f"max_length is {self.longest}; expected at least 1 and at least min_length, {self.shortest}"
            )
        for name, length in (("max_length", self.longest), ("min_length", self.shortest)):
            if length is not None and length > self.positions:
                raise ArgumentError(f"{name} is {length}; the model has positions for {self.positions} tokens")


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


def make_lines(
    texts: Sequence[str], prefixes: Sequence[str] | None, constraints: Sequence[Sequence[str]] | None
) -> list[Line]:
    """Texts with what their translations begin with and contain; None: nothing is asked.

    Raises:
        ArgumentError: there are not as many of one as of the others, or a text stands where a list is expected.
    """
    check_list("texts", texts)
    for name, given in (("prefixes", prefixes), ("constraints", constraints)):
        if given is not None:
            check_list(name, given)
            if len(given) != len(texts):
                raise ArgumentError(f"{name} are for {len(given)} texts; expected one for each of {len(texts)}")
    begins = [""] * len(texts) if prefixes is None else prefixes
    contains = [()] * len(texts) if constraints is None else constraints
    for number, phrases in enumerate(contains):
        check_list(f"constraints of source {number}", phrases)
    return [Line(text, prefix, tuple(phrases)) for text, prefix, phrases in zip(texts, begins, contains, strict=True)]


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

    if problem := too_long("source", len(source), lengths.positions, number):
        raise ArgumentError(problem)
    if not source:
        return Job((), Prefix(), (), 0, key)
    begins = _under(_named("prefix", number), steering.prefix, prefix)
    text = _named("source", number)
    spellings = tuple(_under(f"{text}, phrase {phrase!r}", steering.phrase, phrase) for phrase in phrases)
    least = len(begins.tokens)
    if spellings:
        least = max(least + needed_length(spellings), lengths.shortest) + 1  # and `<eos>`
    longest = int(lengths.ratio * len(source)) + EXTRA_LENGTH if lengths.longest is None else lengths.longest
    if lengths.longest is None and (least or lengths.shortest):
        longest = max(longest, max(least, lengths.shortest) + EXTRA_LENGTH)
    limit = min(longest, lengths.positions)
    if least > limit:
        asked = "prefix" if not spellings else "prefix and phrases" if begins.tokens else "phrases"
        raise ArgumentError(
            f"{text}: with its {asked}, a translation has {least} tokens or more; at most {limit} are allowed"
        )
    return Job(tuple(source), begins, spellings, limit, key)


def sentence_key(seed: int, text: str) -> int:
    """The key of a text's random draws: the same text and seed have the same key, in any file and at any place."""
    content = f"{seed}\n{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def too_long(side: str, tokens: int, most: int, number: int | None = None) -> str | None:
    """What is wrong with a text of so many tokens, or None; `number` is the text's, None where there is only one."""
    return f"{_named(side, number)} has {tokens} tokens; the model has positions for {most}" if tokens > most else None


def unsaid(number: int | None = None) -> str:
    """What is wrong where the search found nothing that contains the phrases of a text."""
    return (
        f"{_named('source', number)}: its phrases cannot be said under the rules given: "
        "no translation that contains them was found"
    )


def check_list(name: str, given: Sequence[object]) -> None:
    """Refuse a text where texts are expected: it would be taken for the list of its letters.

    Raises:
        ArgumentError: with the name of the argument.
    """
    if isinstance(given, str):
        raise ArgumentError(f"{name}: {given!r} is one text; expected a list")


def _named(what: str, number: int | None) -> str:
    return f"the {what}" if number is None else f"{what} {number}"


def _under(name: str, make: Callable[[str], T], text: str) -> T:
    try:
        return make(text)
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from None
