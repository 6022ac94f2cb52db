"""The second pass over a corpus: encoding it into the files of a token store, in a way that can be interrupted."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from regard.data.pairs import Block, PairReader
from regard.data.survey import Progress, Texts
from regard.data.token_store import SIDES, SideWriter, token_dtype
from regard.data.tokenizers import Tokenizer
from regard.errors import DataError

SAVE_SECONDS: Final = 5.0
"""How often the place that was reached is noted."""


@dataclass
class PartDone:
    """How far one part has come.

    Attributes:
        rows: rows read.
        kept: pairs in the store.
        empty: pairs left out because a side is empty.
        long: pairs left out because a side has too many tokens.
        held_out: pairs left out because they are held out for validation.
    """

    rows: int = 0
    kept: int = 0
    empty: int = 0
    long: int = 0
    held_out: int = 0


@dataclass
class Done:
    """How far the whole has come: its parts, and the tokens of each side."""

    parts: list[PartDone]
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIDES, 0))

    def as_json(self) -> dict[str, Any]:
        """The content for a JSON file."""
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Done":
        """What `as_json` gave."""
        return Done([PartDone(**part) for part in content["parts"]], dict(content["tokens"]))


def encode_corpus(
    folder: Path,
    readers: Sequence[PairReader],
    tokenizers: tuple[Tokenizer, Tokenizer],
    done: Done,
    *,
    max_length: int,
    leave_out: Collection[Texts],
    total: int,
    save: Callable[[Done], None],
    progress: Progress,
    save_seconds: float = SAVE_SECONDS,
) -> None:
    """Encode all parts into the token and offset files in `folder`; `done` is brought up to the end.

    Reading and writing happen while the next pairs are encoded, and encoding uses the threads of `tokenizers`. The
    files come out the same, byte for byte, however often this was ended in between and called again with what was
    saved last.

    Args:
        folder: of the files.
        readers: the parts; they give the same rows at each call.
        tokenizers: of source and target.
        done: what the files surely hold; nothing at first.
        max_length: pairs with more tokens on a side are left out.
        leave_out: pairs that are held out.
        total: rows of all parts, for `progress`.
        save: called with the place that the files have reached, now and then and at the end.
        progress: told "tokenising", rows done and `total`.
        save_seconds: the time between two calls of `save`.

    Raises:
        DataError: a row cannot be used, or a side of the store is shorter than `done` says.
        OSError: the files cannot be written.
    """
    writers = [
        SideWriter(folder, side, token_dtype(tokenizer.vocab_size), sum(p.kept for p in done.parts), done.tokens[side])
        for side, tokenizer in zip(SIDES, tokenizers, strict=True)
    ]
    with closing(writers[0]), closing(writers[1]), ThreadPoolExecutor(1) as pool:
        saved = time.monotonic()
        for part, chunk, rows in _encoded(pool, readers, tokenizers, done, leave_out):
            counts = done.parts[part]
            _write(writers, rows, max_length, counts)
            counts.rows += chunk.rows
            counts.empty += chunk.empty
            counts.held_out += chunk.held_out
            if time.monotonic() - saved >= save_seconds:
                _save(writers, done, save)
                saved = time.monotonic()
            progress("tokenising", sum(p.rows for p in done.parts), total)
        _save(writers, done, save)


@dataclass(frozen=True)
class _Chunk:
    """Some rows of a part: the texts to encode, and how many rows were read, empty and held out."""

    texts: tuple[list[str], list[str]]
    rows: int
    empty: int
    held_out: int


Rows = list[list[int]]


def _encoded(
    pool: ThreadPoolExecutor,
    readers: Sequence[PairReader],
    tokenizers: tuple[Tokenizer, Tokenizer],
    done: Done,
    leave_out: Collection[Texts],
) -> Iterator[tuple[int, _Chunk, tuple[Rows, Rows]]]:
    """Chunks of the parts with their ids; while one is given away, the next is being encoded."""

    def encode(chunk: _Chunk) -> tuple[Rows, Rows]:
        return tokenizers[0].encode_batch(chunk.texts[0]), tokenizers[1].encode_batch(chunk.texts[1])

    waiting: tuple[int, _Chunk, Future[tuple[Rows, Rows]]] | None = None
    for part, reader in enumerate(readers):
        for block in _skip(reader.blocks(), done.parts[part].rows):
            if block.problems:
                raise DataError(block.problems[min(block.problems)])
            chunk = _chunk(block, leave_out)
            begun = pool.submit(encode, chunk)
            if waiting is not None:
                yield waiting[0], waiting[1], waiting[2].result()
            waiting = (part, chunk, begun)
    if waiting is not None:
        yield waiting[0], waiting[1], waiting[2].result()


def _skip(blocks: Iterator[Block], rows: int) -> Iterator[Block]:
    """The blocks without the first `rows` rows."""
    for block in blocks:
        first = min(rows, len(block))
        rows -= first
        if first == 0:
            yield block
        elif first < len(block):
            problems = {index - first: problem for index, problem in block.problems.items() if index >= first}
            yield Block(block.lines[first:], block.sources[first:], block.targets[first:], problems)


def _chunk(block: Block, leave_out: Collection[Texts]) -> _Chunk:
    texts, rows = (block.sources, block.targets), len(block)
    empty = held_out = 0
    if "" in texts[0] or "" in texts[1]:
        texts = _columns([pair for pair in zip(*texts, strict=True) if pair[0] and pair[1]])
        empty = rows - len(texts[0])
    if leave_out:
        kept = [pair for pair in zip(*texts, strict=True) if pair not in leave_out]
        held_out = len(texts[0]) - len(kept)
        texts = _columns(kept) if held_out else texts
    return _Chunk(texts, rows, empty, held_out)


def _columns(pairs: list[Texts]) -> tuple[list[str], list[str]]:
    return [source for source, _ in pairs], [target for _, target in pairs]


def _write(writers: Sequence[SideWriter], rows: tuple[Rows, Rows], max_length: int, counts: PartDone) -> None:
    lengths: list[NDArray[np.int64]] = [np.fromiter(map(len, side), np.int64, len(side)) for side in rows]
    keep = (lengths[0] <= max_length) & (lengths[1] <= max_length)
    kept = int(keep.sum())
    counts.kept += kept
    counts.long += len(keep) - kept
    for writer, side, length in zip(writers, rows, lengths, strict=True):
        if kept < len(keep):
            side, length = [row for row, good in zip(side, keep, strict=True) if good], length[keep]
        writer.append(side, length)


def _save(writers: Sequence[SideWriter], done: Done, save: Callable[[Done], None]) -> None:
    for writer in writers:
        writer.flush()
    done.tokens = {side: writer.tokens for side, writer in zip(SIDES, writers, strict=True)}
    save(done)
