"""Reading running text as documents: plain text files and tables with a column of text.

| file                                   | documents                                                        |
|----------------------------------------|------------------------------------------------------------------|
| a table, as `open_reader` knows it     | the cells of a column (`.jsonl`, `.parquet`, `.arrow`, `.csv`, … ) |
| any other file                         | plain text: the whole file, each line, or what blank lines part  |

Plain text is UTF-8, compressed or not; `\\r\\n` becomes `\\n`, and a byte-order mark is removed. Documents of nothing
but white space are left out. Text is given in pieces, so that a file needs no more memory than a part of it;
where lines or paragraphs are documents, than a few times the longest of them.
"""

import fnmatch
import glob
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, Literal

from regard.data.compression import SUFFIXES, open_bytes
from regard.data.pairs import PairReader
from regard.data.readers import open_reader
from regard.data.sources import check_start, decode_line
from regard.errors import DataError

Unit = Literal["file", "line", "paragraph"]
"""What a document of a plain text file is."""

Piece = tuple[str, bool]
"""Some running text, and whether its document ends with it."""

PIECE: Final = 1 << 12
"""Characters from which a long document is given in pieces."""

_READ = 1 << 20  # bytes of a file, and characters of a block
_LONGEST = 1 << 18  # characters of a piece that no good place to cut was found for
_NUMBERED, _NAMED = (".tsv", ".tab", ".csv"), (".jsonl", ".ndjson", ".json", ".parquet", ".arrow")
# Where no tokenizer has a token that reaches over, the surest signs first: what ends before a line end, what a word
# ends with before a space.
_SIGNS = (r"(?<=\w)(?=[ \t]*\n)", r"(?<=\S)(?=[ \t]+\n)", r"(?<=\w)(?= )", r"(?<=\S)(?=\n)")
_CUTS = tuple(re.compile(sign) for sign in _SIGNS)


class DocumentReader(ABC):
    """Reads documents from one place, as often as asked, without ever holding them all."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it."""

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """Everything it reads, so that changes can be noticed."""

    @property
    @abstractmethod
    def divisible(self) -> bool:
        """Whether a document may be divided anywhere, because it is only the text of a file."""

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """Yield the text of all documents in order.

        Raises (where it shows):
            DataError: a file is missing or cannot be read as what it should be, holds no text, or has no such column;
                the message names the file, and the line where there is one.
            MissingExtraError: a library that reads this kind of file is not installed.
        """


@dataclass(frozen=True)
class TextFile(DocumentReader):
    """A plain text file, whose documents are the whole, lines, or paragraphs."""

    path: Path
    unit: Unit = "file"

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    @property
    def divisible(self) -> bool:
        """Whether the file is one document."""
        return self.unit == "file"

    def pieces(self) -> Iterator[Piece]:
        """See `DocumentReader.pieces`."""
        return _not_empty(_pieces(text_blocks(self.path), self.unit), self.name)


@dataclass(frozen=True)
class TextColumn(DocumentReader):
    """A column of a table, one document a cell; white space at the ends of a cell is removed."""

    table: PairReader

    @property
    def name(self) -> str:
        """As the table."""
        return self.table.name

    @property
    def files(self) -> tuple[Path, ...]:
        """Those of the table."""
        return self.table.files

    @property
    def divisible(self) -> bool:
        """Rows stay whole."""
        return False

    def pieces(self) -> Iterator[Piece]:
        """See `DocumentReader.pieces`."""
        return _not_empty(self._cells(), self.name)

    def _cells(self) -> Iterator[Piece]:
        for block in self.table.blocks():
            if block.problems:
                raise DataError(block.problems[min(block.problems)])
            for text in block.sources:
                if text:
                    yield from cut(text)


def open_documents(
    folder: Path,
    names: str | Sequence[str],
    unit: Unit = "file",
    column: str | int = "text",
    known: Sequence[Path] = (),
) -> list[DocumentReader]:
    """Choose readers for files of running text; nothing is read yet.

    Args:
        folder: what the names are relative to.
        names: files, or patterns such as `part-*.txt`, whose files are taken in the order of their names. What is
            there under just such a name is that file, not a pattern.
        unit: what a document of a plain text file is: "file", "line" or "paragraph".
        column: where the text is in a table: a name, or a number from 1 (`.tsv`, and `.csv` without a header).
        known: files that were there once, in their order: those of them are meant by a pattern that finds nothing.

    Raises:
        DataError: a pattern that no file has, or a column of the wrong kind.
    """
    paths: list[Path] = []
    for name in [names] if isinstance(names, str) else names:
        paths += _named(folder, name, known)
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise DataError(f"{twice}: is given twice")
    return [_reader(path, unit, column) for path in paths]


def text_blocks(path: Path) -> Iterator[str]:
    """Yield the text of a file, about a MiB at a time, cut after a line end wherever there is one.

    Raises:
        DataError: the file cannot be read, or is not UTF-8 (the message names the line).
    """
    name, number, rest, begun = str(path), 1, b"", False
    with open_bytes(path) as file:
        while data := file.read(_READ):
            data, begun = data if begun else check_start(data, name), True
            data = rest + data
            cut_at = data.rfind(b"\n") + 1
            if cut_at == 0 and len(data) > 4 * _READ:  # a line without end: anywhere between two characters
                cut_at = len(data) - 1  # a "\r" at the end, before what may be "\n", stays with what follows
                for _ in range(3):  # bytes of a character after its first; a fourth is found out when it is decoded
                    cut_at -= data[cut_at] & 0xC0 == 0x80
            rest = data[cut_at:]
            if cut_at:
                yield _decoded(data[:cut_at], name, number)
                number += data.count(b"\n", 0, cut_at)
        if rest:
            yield _decoded(rest, name, number)


def cut(text: str, last: bool = True) -> Iterator[Piece]:
    """Cut a long text into pieces at places that no token reaches over, where there are such.

    Args:
        text: of a document, or of a part of one.
        last: whether the document ends with it.
    """
    start = 0
    while len(text) - start > PIECE:
        place = _place(text, start)
        if place is None:
            break
        yield text[start:place], False
        start = place
    yield text[start:], last


def grouped(pieces: Iterable[Piece], size: int = _READ) -> Iterator[list[Piece]]:
    """Put pieces together to blocks of about `size` characters."""
    block: list[Piece] = []
    characters = 0
    for piece in pieces:
        block.append(piece)
        characters += len(piece[0])
        if characters >= size:
            yield block
            block, characters = [], 0
    if block:
        yield block


def split_documents(text: str, unit: Unit) -> list[str]:
    """The documents of a text, as they are read from a file that has it; none if there is nothing but white space."""
    documents, parts = list[str](), list[str]()
    for piece, last in _pieces(iter([text]), unit):
        parts.append(piece)
        if last:
            documents.append("".join(parts))
            parts = []
    return [document for document in documents if document.strip()]


def _named(folder: Path, name: str, known: Sequence[Path]) -> list[Path]:
    """The files of a name or a pattern."""
    path = folder / name
    if not any(character in name for character in "*?[") or path.exists():
        return [path]
    names = glob.glob(name, root_dir=folder, recursive=True, include_hidden=True)
    if found := sorted(folder / one for one in names):
        return found
    pattern = str(Path(glob.escape(str(folder))) / name).replace("**/", "*")
    if found := [one for one in known if fnmatch.fnmatchcase(str(one), pattern)]:
        return found
    raise DataError(f"{path}: no file has such a name")


def _reader(path: Path, unit: Unit, column: str | int) -> DocumentReader:
    name = path.name
    plain = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
    kind = Path(plain).suffix.lower()
    if not path.is_dir() and kind not in _NAMED and kind not in _NUMBERED:
        return TextFile(path, unit)
    if isinstance(column, int) and (path.is_dir() or kind in _NAMED):
        raise DataError(f"{path}: columns of such a file have names, got {column}")
    return TextColumn(open_reader(path.parent, pairs=name, columns=[column, column]))  # type: ignore[arg-type]


def _place(text: str, start: int) -> int | None:
    """Where to cut next: beyond `PIECE` characters; None where the rest should stay together."""
    first = start + PIECE
    for end in (first + 4 * PIECE, start + _LONGEST):  # near, if there is one near
        for sign in _CUTS:
            if found := sign.search(text, first, min(end, len(text))):
                return found.start()
    return start + _LONGEST if start + _LONGEST < len(text) else None


def _decoded(data: bytes, name: str, number: int) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        lines = data.count(b"\n", 0, error.start)
        start = data.rfind(b"\n", 0, error.start) + 1
        # the message of all readers; the first line has no byte-order mark any more
        decode_line(data[start:].split(b"\n", 1)[0], name, number + lines)
        raise AssertionError("unreachable") from error
    return text.replace("\r\n", "\n") if "\r" in text else text


def _pieces(texts: Iterator[str], unit: Unit) -> Iterator[Piece]:
    """The documents of a text that comes in blocks."""
    return _whole(texts) if unit == "file" else _parted(texts, unit == "paragraph")


def _whole(texts: Iterator[str]) -> Iterator[Piece]:
    """One document."""
    rest = ""
    for text in texts:
        *pieces, (rest, _) = cut(rest + text)
        yield from pieces
    yield rest, True


def _parted(texts: Iterator[str], paragraphs: bool) -> Iterator[Piece]:
    """Lines, or paragraphs: lines joined by line ends, up to a blank one."""
    rest, paragraph = "", list[str]()
    for text in chain(texts, ["\n\n"]):  # so that the last one ends
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            if not paragraphs:
                yield from cut(line) if line.strip() else ()
            elif line.strip():
                paragraph.append(line)
            elif paragraph:
                yield from cut("\n".join(paragraph))
                paragraph = []


def _not_empty(pieces: Iterator[Piece], name: str) -> Iterator[Piece]:
    """The same pieces.

    Raises:
        DataError: there is nothing but white space in them.
    """
    blank: list[Piece] = []
    for piece in pieces:
        blank.append(piece)
        if piece[0].strip():
            yield from blank
            yield from pieces
            return
    raise DataError(f"{name}: there is no text in it")
