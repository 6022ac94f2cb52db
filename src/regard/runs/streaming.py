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
from regard.decoding import LengthPenalty, Stopping
from regard.runs.translator import Translation, Translator

CHUNK = 1000  # lines translated together: enough for batches of equal length
PATIENCE = 0.1  # seconds that a line waits for others to be translated with it
READ = 1 << 16  # bytes


@dataclass(frozen=True)
class Search:
    """How translations are looked for; None is the model's own default.

    Attributes:
        beam: width of the beam; 1 is greedy search.
        nbest: how many translations of each sentence, at most the beam.
        penalty: length penalty.
        stopping: when a sentence is done.
        min_length, max_length: of a translation in tokens.
    """

    beam: int | None = None
    nbest: int = 1
    penalty: LengthPenalty | None = None
    stopping: Stopping | None = None
    min_length: int = 0
    max_length: int | None = None


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


def translate_chunks(translator: Translator, chunks: Iterable[Sequence[str]], search: Search) -> Iterator[list[Answer]]:
    """Translate lists of lines; each list is answered before the next is asked for.

    A line with more tokens than the model has positions is answered with a problem and doesn't disturb the others.

    Raises:
        ArgumentError: `search.nbest` is larger than the beam.
    """
    number = 1
    for chunk in chunks:
        problems = [too_long("source", translator.source_length(text), translator.max_tokens) for text in chunk]
        found = iter(
            translator.translate_nbest(
                [text for text, problem in zip(chunk, problems, strict=True) if problem is None],
                nbest=search.nbest,
                beam=search.beam,
                penalty=search.penalty,
                stopping=search.stopping,
                min_length=search.min_length,
                max_length=search.max_length,
            )
        )
        yield [
            Answer(line, text, () if problem else tuple(next(found)), problem)
            for line, (text, problem) in enumerate(zip(chunk, problems, strict=True), start=number)
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
