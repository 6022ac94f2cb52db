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
from regard.errors import DataError
from regard.runs.jobs import Line, Settings, too_long, unsaid
from regard.runs.translator import Translation, Translator

__all__ = [
    "CHUNK",
    "Answer",
    "Line",
    "Settings",
    "check_input",
    "read_chunks",
    "too_long",
    "translate_chunks",
    "with_wishes",
]

CHUNK = 1000  # lines translated together: enough for batches of equal length
PATIENCE = 0.1  # seconds that a line waits for others to be translated with it
READ = 1 << 16  # bytes


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


def check_input(path: Path | str) -> None:
    """Refuse, before any work, a file to read that is missing, or a standard input (`-`) that is closed.

    Raises:
        DataError: the message names the file.
    """
    if str(path) == "-":
        if sys.stdin is None:
            raise DataError("standard input is closed; give it text, or the name of a file instead")
    elif not Path(path).exists():
        raise DataError(f"{path}: no such file")
    elif Path(path).is_dir():
        raise DataError(f"{path}: is a folder, expected a file")


def read_chunks(path: Path | str, size: int = CHUNK, patience: float = PATIENCE) -> Iterator[list[str]]:
    """Yield the lines of a file, or of standard input where `path` is `-`, in lists of at most `size`.

    From a file the lists are full. From a pipe or a terminal, which may pause, no line waits longer than `patience`
    seconds for others once it is there, so a line typed gets its answer at once.

    Raises:
        DataError: as for `regard.data.read_lines`; standard input is closed.
    """
    check_input(path)
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
    said, at all or under the rules) is answered with a problem and doesn't disturb the others.

    Raises:
        ArgumentError: lines have phrases, and the search of `settings` doesn't know them; its lengths contradict each
            other, or the model.
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
        found = iter(translator.attempt(fit, settings))
        yield [
            _answer(place, line, next(found) if problem is None else [], problem)
            for place, (line, problem) in enumerate(zip(chunk, problems, strict=True), start=number)
        ]
        number += len(chunk)


def _answer(number: int, line: Line, found: Sequence[Translation], problem: str | None) -> Answer:
    return Answer(number, line.text, tuple(found), problem if found or problem else unsaid())


def _pausing_input() -> int | None:
    """The file descriptor of standard input where it may pause: a pipe, a terminal or a socket, not a file."""
    try:
        descriptor = sys.stdin.buffer.fileno()
    except io.UnsupportedOperation:  # replaced by an object in memory
        return None
    return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor


def _patient_chunks(descriptor: int, name: str, size: int, patience: float) -> Iterator[list[str]]:
    # By `select`, not by a thread: a thread that is blocked in standard input makes the interpreter abort at its end.
    rest: list[bytes] = []  # pieces of the line that has not ended: joined once, however long it is
    number, due = 0, 0.0
    lines: list[str] = []
    data = b"\n"
    while data:
        remaining = max(0.0, due - time.monotonic()) if lines else None
        if not select.select([descriptor], [], [], remaining)[0]:
            yield lines
            lines = []
            continue
        data = os.read(descriptor, READ)
        *complete, last = data.split(b"\n")
        if complete:
            complete[0] = b"".join((*rest, complete[0]))
            rest = []
        if last:
            rest.append(last)
        if not data and rest:
            complete = [b"".join(rest)]  # the last line counts without an end, too
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
