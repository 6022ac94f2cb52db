"""Drawing the example corpus: distinct sentences in six categories, divided by what they say, not how they say it."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from regard.data.example import clock, dates, goods, telephone, weekdays
from regard.data.example.idioms import IDIOMS
from regard.data.example.phrase import Draft

HELD_OUT_SIZE = 100
"""Sentences of each category in each of the two held-out parts."""
IDIOM_REPEATS = 40
"""How often each idiom stands in the training part."""
HELD_OUT_SHARE = 0.2
"""The chance that a value is kept out of training."""
LEAST_SEEN = 8
"""A held-out sentence uses only words and characters seen at least so often in training."""

_CATEGORIES: dict[str, tuple[int, Callable[[random.Random], Draft]]] = {
    "date": (1600, dates.draw),
    "weekday": (1600, weekdays.draw),
    "time": (1600, clock.draw),
    "price": (1600, goods.draw_price),
    "quantity": (1600, goods.draw_quantity),
    "phone": (4000, telephone.draw),
}
"""Sentences of each category in the training part, and who draws them. Any six digits can make a number, with nothing
to expect from what came before, so numbers take the most examples to learn."""
CATEGORIES = tuple(_CATEGORIES)
"""The categories; validation and test part have them in equal shares. "idiom" is in training alone."""


@dataclass(frozen=True)
class ExamplePair:
    """A sentence pair with its gold alignment.

    Attributes:
        source: the English sentence.
        target: its only Chinese translation in the corpus.
        links: (English word, Chinese word), from 0, in order; words are those of `regard.data.words.split_words`.
        category: one of `CATEGORIES`, or "idiom".
        value: what the sentence says whatever its wording, for example (3, 4, "Tuesday"); the parts of the corpus
            have no value in common within a category. An idiom is its own value.
    """

    source: str
    target: str
    links: tuple[tuple[int, int], ...]
    category: str
    value: tuple[int | str, ...]


@dataclass(frozen=True)
class ExampleCorpus:
    """The three parts of the example corpus, each in random order."""

    train: tuple[ExamplePair, ...]
    valid: tuple[ExamplePair, ...]
    test: tuple[ExamplePair, ...]


def example_pairs(seed: int = 1) -> ExampleCorpus:
    """The example corpus: 12,000 pairs and 16 idioms, 40 times each, to train on; 600 pairs to validate, 600 to test.

    **Disjoint by value.** Each sentence has a value, `ExamplePair.value`: what it says whatever its wording.

    - date: the day, as (month, day, weekday) or (year, month, day), with a time of day or without;
    - weekday: week, weekday, part of the day and event or person and action; or first and last weekday and place;
    - time: hour, minute, part of the day and who or what; or both times and the place;
    - price: the price and the thing, with their number if there are several; or number and thing if it is asked for;
    - quantity: number and thing, once or twice;
    - phone: the number.

    Every value is given to one part when it first comes up, and all sentences with that value go to that part or are
    dropped. So a test sentence says what no training sentence says, in any wording, while every word and character
    of it is in training, at least `LEAST_SEEN` times.

    The same seed gives the same pairs in the same order on every machine.
    """
    train: list[ExamplePair] = []
    held_out: list[list[ExamplePair]] = []
    for category, (size, draw) in _CATEGORIES.items():
        known, unknown = _draw_category(random.Random(f"{seed} {category}"), category, size, draw)
        train += known
        held_out.append(unknown)
    for idiom in IDIOMS:
        train += [_pair(Draft((idiom.source,), idiom), "idiom")] * IDIOM_REPEATS

    seen = Counter(part for pair in train for part in _parts(pair))
    valid: list[ExamplePair] = []
    test: list[ExamplePair] = []
    for unknown in held_out:
        familiar = [pair for pair in unknown if all(seen[part] >= LEAST_SEEN for part in _parts(pair))]
        valid += familiar[:HELD_OUT_SIZE]
        test += familiar[HELD_OUT_SIZE : 2 * HELD_OUT_SIZE]
    rng = random.Random(f"{seed} order")
    return ExampleCorpus(_shuffled(rng, train), _shuffled(rng, valid), _shuffled(rng, test))


def _draw_category(
    rng: random.Random, category: str, size: int, draw: Callable[[random.Random], Draft]
) -> tuple[list[ExamplePair], list[ExamplePair]]:
    """Distinct pairs to train on, and a reserve of pairs to hold out, each of another value."""
    known: dict[str, ExamplePair] = {}
    unknown: dict[tuple[int | str, ...], ExamplePair] = {}
    is_held_out: dict[tuple[int | str, ...], bool] = {}
    reserve = 2 * HELD_OUT_SIZE + HELD_OUT_SIZE // 2
    while len(known) < size or len(unknown) < reserve:
        draft = draw(rng)
        if draft.value not in is_held_out:
            is_held_out[draft.value] = rng.random() < HELD_OUT_SHARE
        if is_held_out[draft.value]:
            unknown.setdefault(draft.value, _pair(draft, category))
        elif len(known) < size:
            known.setdefault(draft.phrase.source, _pair(draft, category))
    return list(known.values()), list(unknown.values())


def _pair(draft: Draft, category: str) -> ExamplePair:
    phrase = draft.phrase
    return ExamplePair(phrase.source, phrase.target, tuple(sorted(phrase.links)), category, draft.value)


def _parts(pair: ExamplePair) -> list[str]:
    """The words and characters of a pair; the two scripts have none in common."""
    return [*pair.source.replace("?", " ?").split(), *pair.target]


def _shuffled(rng: random.Random, pairs: list[ExamplePair]) -> tuple[ExamplePair, ...]:
    """The pairs in random order, drawn with `rng.random()` alone (see `pick`)."""
    keys = [rng.random() for _ in pairs]
    return tuple(pairs[i] for i in sorted(range(len(pairs)), key=keys.__getitem__))
