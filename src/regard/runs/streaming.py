"""Text that comes in as lines and goes out as translations, in order, however much of it there is."""

import io
import os
import select
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from regard.data import decode_line, display_name, read_lines
from regard.decoding import Rule, Search
from regard.errors import DataError
from regard.runs.translator import Translation, Translator

CHUNK = 1000  # lines translated together: enough for batches of equal length
PATIENCE = 0.1  # seconds that a line waits for others to be translated with it
READ = 1 << 16  # bytes


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
class Answer:
    """What came of one line.

    Attributes:
        line: its number, from 1.
        source: the line.
        translations: best first; of an empty line one, with an empty text; none where there is a problem.
        problem: why the line could not be translated, or None.
    """

    line: int
    source: str
    translations: tuple[Translation, ...]
    problem: str | None = None


def read_chunks(path: Path | str, size: int = CHUNK, patience: float = PATIENCE) -> Iterator[list[str]]:
    """Yield the lines of a file, or of standard input where `path` is `-`, in lists of at most `size`.

    From a file the lists are full. From a pipe or a terminal, which may pause, no line waits longer than `patience`
    seconds for others once it is there, so a line typed gets its answer at once.

    Raises:
        DataError: as for `regard.data.read_lines`.
    """
    waiting = _pausing_input() if str(path) == "-" else None
    if waiting is not None:
        yield from _patient_chunks(waiting, display_name(path), size, patience)
        return
    lines = read_lines(path)
    while chunk := list(islice(lines, size)):
        yield chunk


def with_wishes(
    chunks: Iterable[Sequence[str]], prefixes: Path | None = None, phrases: Path | None = None
) -> Iterator[list[Line]]:
    """Lists of lines, with what two files ask for: one line for each line of text.

    Args:
        chunks: lists of lines of text.
        prefixes: a file of prefixes; spaces at the end of one say that its last word is complete.
        phrases: a file of phrases, separated by tabs.

    Raises:
        DataError: as for `regard.data.read_lines`; a file has fewer lines than the text or, when the text is at its
            end, more.
    """
    files = [(path, read_lines(path)) for path in (prefixes, phrases) if path is not None]
    count = 0
    for chunk in chunks:
        taken = [list(islice(lines, len(chunk))) for _, lines in files]
        for (path, _), lines in zip(files, taken, strict=True):
            if len(lines) < len(chunk):
                raise DataError(f"{path}: has {count + len(lines)} lines; expected one for each line of the text")
        begins = taken[0] if prefixes is not None else [""] * len(chunk)
        contains = taken[-1] if phrases is not None else [""] * len(chunk)
        count += len(chunk)
        yield [
            Line(text, prefix, tuple(phrase for phrase in several.split("\t") if phrase.strip()))
            for text, prefix, several in zip(chunk, begins, contains, strict=True)
        ]
    for path, rest in files:
        if next(rest, None) is not None:
            raise DataError(f"{path}: has more than {count} lines; expected one for each line of the text")


def translate_chunks(
    translator: Translator, chunks: Iterable[Sequence[Line]], settings: Settings
) -> Iterator[list[Answer]]:
    """Translate lists of lines; each list is answered before the next is asked for.

    A line that can't be translated (more tokens than the model has positions, a prefix or a phrase that can't be
    said) is answered with a problem and doesn't disturb the others.

    Raises:
        ArgumentError: lines have phrases, and the search of `settings` doesn't know them.
    """
    number = 1
    for chunk in chunks:
        problems = [
            translator.problem(
                line.text,
                line.prefix,
                line.phrases,
                min_length=settings.min_length,
                max_length=settings.max_length,
            )
            for line in chunk
        ]
        fit = [line for line, problem in zip(chunk, problems, strict=True) if problem is None]
        found = iter(
            translator.translate_nbest(
                [line.text for line in fit],
                nbest=1 if settings.search is None else None,
                search=settings.search,
                rules=settings.rules,
                prefixes=[line.prefix for line in fit],
                constraints=[line.phrases for line in fit],
                seed=settings.seed,
                min_length=settings.min_length,
                max_length=settings.max_length,
            )
        )
        yield [
            Answer(place, line.text, () if problem else tuple(next(found)), problem)
            for place, (line, problem) in enumerate(zip(chunk, problems, strict=True), start=number)
        ]
        number += len(chunk)


def too_long(side: str, tokens: int, most: int) -> str | None:
    """What is wrong with a text of so many tokens, or None."""
    return f"the {side} has {tokens} tokens; the model has positions for {most}" if tokens > most else None


def _pausing_input() -> int | None:
    """The file descriptor of standard input where it may pause: a pipe, a terminal or a socket, not a file."""
    try:
        descriptor = sys.stdin.buffer.fileno()
    except io.UnsupportedOperation:  # replaced by an object in memory
        return None
    return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor


def _patient_chunks(descriptor: int, name: str, size: int, patience: float) -> Iterator[list[str]]:
    # By `select`, not by a thread: a thread that is blocked in standard input makes the interpreter abort at its end.
    rest, number, due = b"", 0, 0.0
    lines: list[str] = []
    data = b"\n"
    while data:
        remaining = max(0.0, due - time.monotonic()) if lines else None
        if not select.select([descriptor], [], [], remaining)[0]:
            yield lines
            lines = []
            continue
        data = os.read(descriptor, READ)
        *complete, rest = (rest + data).split(b"\n")
        if not data and rest:
            complete = [rest]  # the last line counts without an end, too
        if complete and not lines:
            due = time.monotonic() + patience
        for raw in complete:
            number += 1
            lines.append(decode_line(raw, name, number))
        while len(lines) >= size:
            yield lines[:size]
            lines = lines[size:]
            due = time.monotonic() + patience
    if lines:
        yield lines
