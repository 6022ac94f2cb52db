"""Labelled text: texts, or pairs of texts, with a label each; sentences of words with a tag each. Held in memory.

Texts are rows of a table: whatever `regard.data.readers` reads. Tagged sentences are CoNLL's: a word a line with its
columns, and an empty line between sentences.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from regard.data.compression import SUFFIXES
from regard.data.pairs import Row
from regard.data.readers import open_reader
from regard.data.sources import display_name, read_lines
from regard.errors import ArgumentError, DataError

Column = int | str
"""A column of a table: a number from 1, or a name."""

_TABULAR: Final = (".jsonl", ".ndjson", ".parquet", ".arrow", ".csv")
_DOCUMENT: Final = "-DOCSTART-"  # what CoNLL-2003 writes in front of a document


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with their labels, in order.

    Attributes:
        name: what messages call where they are from.
        lines: the line (or row) of each, from 1.
        texts: one text each, or two, without white space at their ends.
        labels: a label each.
        empty: how many rows were left out because a text is empty.
    """

    name: str
    lines: tuple[int, ...]
    texts: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]
    empty: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, index: int) -> str:
        """Where text `index` is from, for messages."""
        return f"{self.name}, line {self.lines[index]}"

    def subset(self, indices: Sequence[int]) -> "LabelledTexts":
        """Some of them."""
        return LabelledTexts(
            self.name,
            tuple(self.lines[i] for i in indices),
            tuple(self.texts[i] for i in indices),
            tuple(self.labels[i] for i in indices),
        )


@dataclass(frozen=True)
class TaggedSentences:
    """Sentences of words with their tags, in order.

    Attributes:
        name: what messages call where they are from.
        lines: for each sentence the line of each word, from 1.
        words: the words of each.
        tags: their tags.
    """

    name: str
    lines: tuple[tuple[int, ...], ...]
    words: tuple[tuple[str, ...], ...]
    tags: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.words)

    def where(self, sentence: int, word: int) -> str:
        """Where a word is from, for messages."""
        return f"{self.name}, line {self.lines[sentence][word]}"

    def subset(self, indices: Sequence[int]) -> "TaggedSentences":
        """Some of them."""
        return TaggedSentences(
            self.name,
            tuple(self.lines[i] for i in indices),
            tuple(self.words[i] for i in indices),
            tuple(self.tags[i] for i in indices),
        )


def read_labelled(
    path: Path,
    label: Column | None = None,
    text: Column | None = None,
    second: Column | None = None,
    header: bool = False,
) -> LabelledTexts:
    """Read a table of texts with labels: tab-separated, .csv, .jsonl, .parquet, .arrow, a folder of `datasets`.

    Rows with an empty text are left out. Labels may be whole numbers, where a file tells numbers from text.

    Args:
        path: its name says how it is read; see `regard.data.readers`.
        label: the column of the labels; if not given 1 of tab-separated columns, else "label".
        text: the column of the texts; if not given 2, or "text".
        second: the column of the second texts, for pairs.
        header: whether the first line of a table whose columns are numbers names them, and is left out.

    Raises:
        ArgumentError: columns are given partly by number, partly by name.
        DataError: the file cannot be read, has no such column, a row cannot be used or has no label, or no row is left;
            the message names file and line.
        MissingExtraError: a library that reads this kind of file is not installed.
    """
    usual = default_columns(path)
    label = label if label is not None else usual[0]
    text = text if text is not None else usual[1]
    columns = [label, text] if second is None else [label, text, second]
    if len({type(column) for column in columns}) > 1:
        raise ArgumentError(f"columns: got {columns}, expected numbers from 1 or names, not both")
    readers = [_rows(path, label, column) for column in columns[1:]]
    lines, texts, labels, empty = [], [], [], 0
    for number, row in enumerate(zip(*readers, strict=True)):
        if header and number == 0 and isinstance(label, int):
            continue
        if problem := next((one.problem for one in row if one.problem is not None), None):
            raise DataError(problem)
        name, parts = row[0].source, tuple(one.target for one in row)
        if not all(parts):
            empty += 1
            continue
        if not name or "\t" in name or "\n" in name:
            wrong = "has no label" if not name else f"has the label {name!r}, with a tab or a line end in it"
            raise DataError(f"{path}, line {row[0].line}: {wrong} (column {label!r}); the text: {parts[0][:60]!r}")
        lines.append(row[0].line)
        texts.append(parts)
        labels.append(name)
    if not labels:
        raise DataError(f"{path}: there is no text with a label in it" + (f" ({empty:,} are empty)" if empty else ""))
    return LabelledTexts(str(path), tuple(lines), tuple(texts), tuple(labels), empty)


def default_columns(path: Path) -> tuple[Column, Column]:
    """The columns of labels and of texts of a table, where none are given."""
    return ("label", "text") if _by_name(path) else (1, 2)


def _rows(path: Path, label: Column, text: Column) -> Iterator[Row]:
    columns = [label, text]
    return open_reader(path.parent, pairs=path.name, columns=columns, whole_numbers=True).rows()  # type: ignore[arg-type]


def _by_name(path: Path) -> bool:
    """Whether the columns of a table usually have names."""
    return path.is_dir() or Path(_plain(path.name)).suffix.lower() in _TABULAR


def _plain(name: str) -> str:
    """The name of a file without that of its compression."""
    return next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)


def read_tagged(path: Path | str, word: int | None = None, tag: int | None = None) -> TaggedSentences:
    """Read sentences of words and tags, a word a line, as in the CoNLL tasks.

    Columns stand between tabs, where a line has one, else between white space. Empty lines end sentences. Lines of
    CoNLL-2003 that begin a document are left out. A file called .conllu is read as Universal Dependencies write it:
    comments, empty words and the forms of multi-word tokens are left out.

    Args:
        path: the file, or `-`; `.gz`, `.xz` and `.zst` are decompressed.
        word: the column of the words, from 1; if not given, the first (.conllu: 2).
        tag: the column of the tags; if not given, the last (.conllu: 4, the universal part of speech).

    Raises:
        ArgumentError: a column is not a number from 1.
        DataError: the file cannot be read, a word has no tag, lines have different numbers of columns, or there is no
            sentence; the message names file and line.
    """
    if any(column is not None and column < 1 for column in (word, tag)):
        raise ArgumentError(f"columns: got word {word}, tag {tag}, expected numbers from 1")
    universal = _plain(str(path)).endswith(".conllu")
    word, tag = word or (2 if universal else 1), tag or (4 if universal else None)
    name = display_name(path)
    sentences: list[list[tuple[int, str, str]]] = [[]]
    width: tuple[int, int] | None = None  # columns, and the line that had them
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            if sentences[-1]:
                sentences.append([])
            continue
        cells = [cell.strip() for cell in line.strip("\r\n").split("\t")] if "\t" in line else line.split()
        if line.startswith(_DOCUMENT) or (universal and (line.startswith("#") or not cells[0].isdecimal())):
            continue
        width = width or (len(cells), number)
        if len(cells) != width[0]:
            raise DataError(
                f"{name}, line {number}: has {len(cells)} columns, line {width[1]} has {width[0]}: {line[:60]!r}"
            )
        least = max(word, tag or word + 1, 2)
        if len(cells) < least:
            raise DataError(
                f"{name}, line {number}: expected a word and its tag, at least {least} columns, got {len(cells)}: "
                f"{line[:60]!r}"
            )
        cell, mark = cells[word - 1], cells[tag - 1 if tag else -1]
        if not cell or not mark:
            raise DataError(f"{name}, line {number}: {'the word' if not cell else 'the tag'} is empty: {line[:60]!r}")
        sentences[-1].append((number, cell, mark))
    kept = [sentence for sentence in sentences if sentence]
    if not kept:
        raise DataError(f"{name}: there is no sentence in it")
    return TaggedSentences(
        name,
        tuple(tuple(one[0] for one in sentence) for sentence in kept),
        tuple(tuple(one[1] for one in sentence) for sentence in kept),
        tuple(tuple(one[2] for one in sentence) for sentence in kept),
    )
