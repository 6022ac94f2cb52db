"""Making a store of tokenised text: counting, a sample for the tokenizer, encoding; in blocks, never the whole."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from regard.data.documents import PIECE, DocumentReader, Piece, grouped
from regard.data.reservoir import Reservoir
from regard.data.text_store import PARTS, Part, PartCounts, TextWriter, text_manifest
from regard.data.token_store import token_dtype
from regard.data.tokenizers import Tokenizer
from regard.errors import DataError

Progress = Callable[[str, int, "int | None"], None]
"""Told what is being done, how many characters are done, and of how many, if that is known."""


@dataclass(frozen=True)
class TextSource:
    """Documents for training, and those for validation or how they are held out.

    Attributes:
        train: readers of the text, in order.
        valid: readers of the validation part; none: the last part of the text is held out.
        held_out: how much of the text, in characters. That part begins inside of a document if all are divisible,
            otherwise with the next one.
    """

    train: Sequence[DocumentReader]
    valid: Sequence[DocumentReader]
    held_out: float

    @property
    def readers(self) -> list[DocumentReader]:
        """All readers."""
        return [*self.train, *self.valid]

    def pieces(self, kept: int | None) -> Iterator[tuple[Part, Iterable[Piece]]]:
        """The pieces of each part, to be read one part after the other; `kept` is what `characters_kept` said."""
        if kept is None:
            yield "train", chain.from_iterable(reader.pieces() for reader in self.train)
            yield "valid", chain.from_iterable(reader.pieces() for reader in self.valid)
            return
        rest = chain.from_iterable(reader.pieces() for reader in self.train)
        over: list[Piece] = []
        yield "train", _until(rest, kept, all(reader.divisible for reader in self.train), over)
        yield "valid", chain(over, rest)


@dataclass(frozen=True)
class TextSize:
    """Characters of a text, and of its training part where the rest is held out."""

    characters: int
    kept: int | None


def measure(source: TextSource, progress: Progress) -> TextSize:
    """Read everything once, and say where the held-out part begins.

    Args:
        source: the text.
        progress: told "reading".

    Raises:
        DataError: as the readers do; or nothing is left for training.
    """
    sizes = [0, 0]
    for index, readers in enumerate((source.train, source.valid)):
        for reader in readers:
            for block in grouped(reader.pieces()):
                sizes[index] += sum(len(text) for text, _ in block)
                progress("reading", sum(sizes), None)
    size = TextSize(sum(sizes), None if source.valid else int(sizes[0] * (1 - source.held_out)))
    if size.kept == 0:
        raise DataError(_nothing_left("train", source, size))
    return size


def sample_text(source: TextSource, size: TextSize, characters: int, seed: int) -> list[str]:
    """Text of the training part for training a tokenizer: all of it, or about so many characters drawn at random.

    Args:
        source: the text.
        size: its size.
        characters: the most that are wanted.
        seed: of the draw.
    """
    groups = Reservoir[list[str]](max(1, characters // PIECE), seed)
    part, pieces = next(source.pieces(size.kept))
    assert part == "train"
    for block in grouped(pieces, PIECE):
        groups.extend([[text for text, _ in block]])
    return [text for group in groups.items for text in group]


def make_text_store(
    folder: Path, source: TextSource, size: TextSize, tokenizer: Tokenizer, progress: Progress
) -> dict[str, Any]:
    """Encode both parts into files in `folder`, and return their manifest.

    Reading and writing happen while the next text is encoded, and encoding uses the threads of `tokenizers`.

    Args:
        folder: is there, and empty.
        source: the text.
        size: its size.
        tokenizer: of the text.
        progress: told "tokenising", characters done, and of how many.

    Raises:
        DataError: as the readers do; a part has no text; or the text has another size than it had.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    encode = _Encoder(tokenizer)
    counts: dict[Part, PartCounts] = {}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        done = 0
        for part, pieces in source.pieces(size.kept):
            writer = stack.enter_context(closing(TextWriter(folder, part, dtype, tokenizer.unk_id)))
            counts[part] = writer.counts
            for block, ids in _ahead(pool, encode, grouped(pieces)):
                writer.append(ids, [last for _, last in block])
                writer.counts.characters += sum(len(text) for text, _ in block)
                writer.counts.bytes += sum(len(text.encode()) for text, _ in block)
                done = sum(count.characters for count in counts.values())
                progress("tokenising", done, size.characters)
    if done != size.characters:
        raise DataError(f"{source.train[0].name}: the text changed while it was being prepared; start again")
    for part in PARTS:
        if not counts[part].documents:
            raise DataError(_nothing_left(part, source, size))
    return text_manifest(folder, dtype, counts)


class _Encoder:
    """Ids of pieces one after another, and <eos> at the end of each document."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._inside = tokenizer, False
        # A tokenizer of others may put a space in front of any text, so a piece that goes on is encoded behind
        # something that ends before a line end.
        self._anchor = "a" if tokenizer.kind == "given" else ""
        self._before = tokenizer.encode_text(self._anchor)

    def __call__(self, block: Sequence[Piece]) -> list[list[int]]:
        going_on = [self._inside, *(not last for _, last in block[:-1])]
        self._inside = not block[-1][1]
        texts = [self._anchor + text if inside else text for (text, _), inside in zip(block, going_on, strict=True)]
        rows = self._tokenizer.encode_texts(texts)
        for index, (text, last) in enumerate(block):
            if going_on[index] and self._anchor:
                begin = len(self._before)
                whole = rows[index]
                fits = whole[:begin] == self._before
                rows[index] = whole[begin:] if fits else self._tokenizer.encode_text(text)
            if last:
                rows[index].append(self._tokenizer.eos_id)
        return rows


Encoded = tuple[list[Piece], list[list[int]]]


def _ahead(pool: ThreadPoolExecutor, encode: _Encoder, blocks: Iterator[list[Piece]]) -> Iterator[Encoded]:
    """Blocks with their ids; while one is given away, the next is being encoded."""
    waiting: tuple[list[Piece], Future[list[list[int]]]] | None = None
    for block in blocks:
        begun = pool.submit(encode, block)
        if waiting is not None:
            yield waiting[0], waiting[1].result()
        waiting = (block, begun)
    if waiting is not None:
        yield waiting[0], waiting[1].result()


def _until(pieces: Iterator[Piece], kept: int, inside: bool, over: list[Piece]) -> Iterator[Piece]:
    """The first `kept` characters, or the documents that begin in them; what was read beyond goes into `over`."""
    read, open_document = 0, False
    for text, last in pieces:
        left = kept - read
        read += len(text)
        if left <= 0 and (inside or not open_document):
            over.append((text, last))
            return
        if inside and len(text) >= left:
            yield text[:left], True  # a document ends here, and another begins
            if text[left:] or not last:
                over.append((text[left:], last))
            return
        yield text, last
        open_document = not last


def _nothing_left(part: Part, source: TextSource, size: TextSize) -> str:
    name = ", ".join(reader.name for reader in source.train)
    if size.kept is None:
        return f"{name}: there is no text in it"
    return (
        f"{name}: data.held_out = {source.held_out} of {size.characters:,} characters leaves no document for the "
        f"{'training' if part == 'train' else 'validation'} part; give data.valid_text, or another data.held_out"
    )
