"""Probes: tasks on strings of symbols that need no data, to see what a model can remember and how far it generalises.

- copy: say the string again, in capitals (Graves et al. 2014, "Neural Turing Machines", section 4.1): pairs with equal
  sides are refused as training text, since in parallel text they are lines that nobody translated.
- reverse: say it from its end to its beginning (Grefenstette et al. 2015, "Learning to Transduce with Unbounded
  Memory", section 4.1).
- recall: read pairs of a key and a value, then one of the keys, and say its value: associative recall (Graves et al.
  2014, section 4.3) in the form of Ba et al. (2016, "Using Fast Weights to Attend to the Recent Past", section 4.1),
  who ask for one key. Guessing among the values read is right once in n, n the number of pairs.

    copy      a7 c2 b0          → A7 C2 B0
    reverse   a7 c2 b0          → b0 c2 a7
    recall    a7 3b c2 0e ? c2  → 0e

Symbols are short words with blanks between them, each one token of a "word" tokenizer.
"""

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from regard.errors import ArgumentError
from regard.files import write_json, write_text, write_whole

FORMAT = 1
QUESTION = "?"
"""Stands between the pairs and the key that is asked for."""

Words = list[str]


@dataclass(frozen=True)
class Probe:
    """A task.

    Attributes:
        draw: (generator, length, vocabulary) → a source and its target, in words.
        strings: (length, vocabulary) → how many different sources there are.
    """

    draw: Callable[[random.Random, int, int], tuple[Words, Words]]
    strings: Callable[[int, int], int]


@dataclass(frozen=True)
class ProbeSettings:
    """What a folder of probe files is made of.

    Attributes:
        name: one of `PROBES`.
        shortest, longest: lengths of training and validation strings, all equally frequent. The length of a string is
            the number of its symbols; for recall, the number of its pairs.
        vocabulary: how many symbols there are; for recall, how many keys and how many values.
        strings: to train on.
        valid: to validate on.
        test_each: test strings of each length.
        lengths: of the test strings; longer ones than `longest` show what a model makes of lengths it never saw.
        seed: another one draws other strings.

    Raises:
        ArgumentError: an argument is out of its range, or there are not enough different strings of a length.
    """

    name: str
    shortest: int = 5
    longest: int = 25
    vocabulary: int = 50
    strings: int = 100_000
    valid: int = 500
    test_each: int = 200
    lengths: tuple[int, ...] = tuple(range(5, 51, 5))
    seed: int = 1

    def __post_init__(self) -> None:
        if self.name not in _PROBES:
            raise ArgumentError(f"name: no probe {self.name!r}: there are {', '.join(PROBES)}")
        for name, least in (("shortest", 1), ("vocabulary", 2), ("strings", 1), ("valid", 1), ("test_each", 1)):
            if getattr(self, name) < least:
                raise ArgumentError(f"{name} is {getattr(self, name)}; expected {least} or more")
        if self.longest < self.shortest:
            raise ArgumentError(f"longest is {self.longest}; expected shortest, {self.shortest}, or more")
        if not self.lengths or min(self.lengths) < 1 or len(set(self.lengths)) < len(self.lengths):
            raise ArgumentError(f"lengths are {list(self.lengths)}; expected different lengths, 1 or more each")
        self._check_room()

    def _check_room(self) -> None:
        """Refuse more held-out strings of a length than half of those that there are: training needs the others."""
        spread = self.longest - self.shortest + 1
        for length in sorted({*self.lengths, *range(self.shortest, self.longest + 1)}):
            possible = _PROBES[self.name].strings(length, self.vocabulary)
            if not possible:
                raise ArgumentError(
                    f"vocabulary is {self.vocabulary}; {self.name} of length {length} needs as many different keys"
                )
            held_out = {
                "test_each": self.test_each if length in self.lengths else 0,
                "valid": math.ceil(self.valid / spread) if self.shortest <= length <= self.longest else 0,
            }
            if 2 * sum(held_out.values()) > possible:
                name = max(held_out, key=held_out.__getitem__)
                raise ArgumentError(
                    f"{name} is {getattr(self, name)}; there are {possible} strings of length {length}, of which at "
                    f"most half can be held out, and {sum(held_out.values())} are to be"
                )


@dataclass(frozen=True)
class ProbeFiles:
    """The files of a probe, a string a line.

    Attributes:
        train_source, train_target, valid_source, valid_target: strings of the lengths to train on, mixed.
        test_source, test_target: strings by length.
        test_length: of each test string, a number a line.
        settings: what the folder was made of, as JSON.
    """

    train_source: Path
    train_target: Path
    valid_source: Path
    valid_target: Path
    test_source: Path
    test_target: Path
    test_length: Path
    settings: Path

    @staticmethod
    def of(folder: Path) -> "ProbeFiles":
        """Where the files of a folder are."""
        names = [f"{part}.{side}" for part in ("train", "valid", "test") for side in ("source", "target")]
        return ProbeFiles(*(Path(folder) / name for name in (*names, "test.length", "probe.json")))


def write_probe(folder: Path, settings: ProbeSettings) -> ProbeFiles:
    """Write the strings of a probe into `folder`, which is made where it is missing.

    No validation or test string is among the training strings, and none of them comes twice. The same settings give
    the same files on every machine; another number of training strings leaves validation and test as they are. A
    folder that holds the probe of the same settings stays as it is; the memory needed doesn't grow with `strings`.

    Args:
        folder: for the files; `probe.json` is written last, so that a folder without it is not complete.
        settings: what they are made of.

    Raises:
        ArgumentError: the folder holds another probe. Nothing is written then.
    """
    files = ProbeFiles.of(folder)
    if holds_another(folder, settings):
        raise ArgumentError(f"folder: {folder} holds another probe; expected an empty folder, or the same probe")
    if files.settings.exists():
        return files
    Path(folder).mkdir(parents=True, exist_ok=True)
    held_out = _held_out(settings)
    valid_pairs, test_pairs = held_out[: settings.valid], held_out[settings.valid :]
    _write_pairs(files.valid_source, files.valid_target, iter(valid_pairs))
    _write_pairs(files.test_source, files.test_target, iter(test_pairs))
    write_text(files.test_length, "".join(f"{length}\n" * settings.test_each for length in sorted(settings.lengths)))
    _write_pairs(files.train_source, files.train_target, _training(settings, {source for source, _ in held_out}))
    write_json(files.settings, _content(settings))
    return files


def holds_another(folder: Path, settings: ProbeSettings) -> bool:
    """Whether a folder holds a complete probe that is made of something else."""
    path = ProbeFiles.of(folder).settings
    return path.exists() and _read(path) != _content(settings)


def _content(settings: ProbeSettings) -> dict[str, object]:
    return {"format": FORMAT} | asdict(settings) | {"lengths": list(settings.lengths)}


def _held_out(settings: ProbeSettings) -> list[tuple[str, str]]:
    """The validation strings, then the test strings; all different."""
    rng = random.Random(f"{settings.seed} {settings.name} held out")
    spread = settings.longest - settings.shortest + 1
    lengths = [settings.shortest + i % spread for i in range(settings.valid)]
    for length in sorted(settings.lengths):
        lengths += [length] * settings.test_each
    found: dict[str, str] = {}
    for length in lengths:
        source, target = _draw(rng, settings, length)
        while source in found:
            source, target = _draw(rng, settings, length)
        found[source] = target
    return list(found.items())


def _training(settings: ProbeSettings, held_out: set[str]) -> Iterator[tuple[str, str]]:
    """The training strings, of random lengths."""
    rng = random.Random(f"{settings.seed} {settings.name} training")
    spread = settings.longest - settings.shortest + 1
    for _ in range(settings.strings):
        length = settings.shortest + below(rng, spread)
        source, target = _draw(rng, settings, length)
        while source in held_out:
            source, target = _draw(rng, settings, length)
        yield source, target


def _draw(rng: random.Random, settings: ProbeSettings, length: int) -> tuple[str, str]:
    source, target = _PROBES[settings.name].draw(rng, length, settings.vocabulary)
    return " ".join(source), " ".join(target)


def below(rng: random.Random, count: int) -> int:
    """A number from 0 to count − 1, by `rng.random()`, which alone is the same in all versions of Python."""
    return int(rng.random() * count)


def symbol(index: int) -> str:
    """A word for a symbol or a key: a0, a1, … a9, b0, …, z9, ba0, …; letters, then a digit."""
    rest, letters = index // 10, ""
    while rest or not letters:
        rest, letter = divmod(rest, 26)
        letters = chr(ord("a") + letter) + letters
    return f"{letters}{index % 10}"


def value(index: int) -> str:
    """A word for a value, which no symbol has: 0a, 1a, … 9a, 0b, …; a digit, then letters."""
    word = symbol(index)
    return word[-1] + word[:-1]


def _string(rng: random.Random, length: int, vocabulary: int) -> Words:
    return [symbol(below(rng, vocabulary)) for _ in range(length)]


def _copy(rng: random.Random, length: int, vocabulary: int) -> tuple[Words, Words]:
    words = _string(rng, length, vocabulary)
    return words, [word.upper() for word in words]


def _reverse(rng: random.Random, length: int, vocabulary: int) -> tuple[Words, Words]:
    words = _string(rng, length, vocabulary)
    return words, words[::-1]


def _recall(rng: random.Random, length: int, vocabulary: int) -> tuple[Words, Words]:
    keys = [symbol(index) for index in _different(rng, length, vocabulary)]
    values = [value(below(rng, vocabulary)) for _ in keys]
    asked = below(rng, length)
    pairs = [word for pair in zip(keys, values, strict=True) for word in pair]
    return [*pairs, QUESTION, keys[asked]], [values[asked]]


def _different(rng: random.Random, count: int, among: int) -> list[int]:
    """So many different numbers below `among`, in random order (Fisher and Yates)."""
    numbers = list(range(among))
    for i in range(count):
        j = i + below(rng, among - i)
        numbers[i], numbers[j] = numbers[j], numbers[i]
    return numbers[:count]


def _recall_strings(length: int, vocabulary: int) -> int:
    return math.perm(vocabulary, length) * _all_strings(length, vocabulary) * length


def _all_strings(length: int, vocabulary: int) -> int:
    return math.prod([vocabulary] * length)


_PROBES = {
    "copy": Probe(_copy, _all_strings),
    "reverse": Probe(_reverse, _all_strings),
    "recall": Probe(_recall, _recall_strings),
}
PROBES = tuple(_PROBES)
"""Names of the probes."""


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError:
        return None


def _write_pairs(source: Path, target: Path, pairs: Iterator[tuple[str, str]]) -> None:
    """Write two files line by line, both whole or neither of them."""

    def write(first: Path, second: Path) -> None:
        with (
            open(first, "w", encoding="utf-8", newline="\n") as a,
            open(second, "w", encoding="utf-8", newline="\n") as b,
        ):
            for said, wanted in pairs:
                a.write(f"{said}\n")
                b.write(f"{wanted}\n")

    write_whole(source, lambda first: write_whole(target, lambda second: write(first, second)))
