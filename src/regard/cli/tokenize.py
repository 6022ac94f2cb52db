"""`regard tokenize` and `regard detokenize`: lines to tokens, as a model reads them, and back."""

import sys
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from regard.cli.options import (
    JsonLinesOption,
    OutOption,
    QuietOption,
    check_folder,
    json_line,
    one_line,
    progress,
    write_lines,
)
from regard.data import Tokenizer, display_name
from regard.data.given_tokenizers import read_tokenizer
from regard.data.pieces import PieceNames
from regard.errors import ArgumentError, CheckpointError, DataError
from regard.runs.directory import Tokenizers
from regard.runs.streaming import check_input, read_chunks


class Side(StrEnum):
    """Which of a model's tokenizers."""

    source = "source"
    target = "target"


TokenizerArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="Directory made by `regard train`, or a tokenizer's file (a SentencePiece model, too).",
        show_default=False,
    ),
]
SideOption = Annotated[
    Side | None,
    typer.Option(help="Which tokenizer of a model that has two; else source to tokenize, target to detokenize."),
]
Convert = Callable[[int, list[str]], Iterable[str]]
"""From lines, and the number of the first, to the lines to write."""


def tokenize(
    model: TokenizerArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Text, a sentence a line (.gz too); - is standard input.")
    ] = Path("-"),
    side: SideOption = None,
    ids: Annotated[bool, typer.Option("--ids", help="Write the numbers of the tokens instead of their names.")] = False,
    as_json: JsonLinesOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Split text into a model's tokens: line n of the output has those of line n of the input, a space between.

        regard tokenize runs/en-de < in.txt

        regard tokenize runs/en-de/tokenizer.json in.txt --ids --out in.ids

    ▁ stands for a space, <0xE4> for a byte of a character that the vocabulary lacks, <unk> for what it can't say. White
    space at both ends of a line is no part of it. `regard detokenize` is the way back.

    --json: an object a line: line (from 1), text, tokens, ids, and spans, the first character of text that each token
    stands for and the one after its last.
    """
    if ids and as_json:
        raise ArgumentError("--ids and --json: the ids are written already; leave out --ids")
    tokenizer = _open(model, side, Side.source, file, out)

    def names(first: int, lines: list[str]) -> Iterator[str]:
        return (" ".join(tokenizer.pieces(row)) + "\n" for row in tokenizer.encode_batch(lines))

    def numbers(first: int, lines: list[str]) -> Iterator[str]:
        return (" ".join(map(str, row)) + "\n" for row in tokenizer.encode_batch(lines))

    def everything(first: int, lines: list[str]) -> Iterator[str]:
        for number, (text, row) in enumerate(zip(lines, tokenizer.encode_batch(lines), strict=True), start=first):
            content = {"line": number, "text": text, "tokens": tokenizer.pieces(row), "ids": row}
            yield json_line(content | {"spans": tokenizer.text_spans(text)})

    _convert(file, out, quiet, "tokenized", everything if as_json else numbers if ids else names)


def detokenize(
    model: TokenizerArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Tokens, a sentence a line (.gz too); - is standard input.")
    ] = Path("-"),
    side: SideOption = None,
    ids: Annotated[bool, typer.Option("--ids", help="Read the numbers of tokens instead of their names.")] = False,
    as_json: JsonLinesOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Join a model's tokens into text: line n of the output is the text of line n of the input.

        regard tokenize runs/en-de --side target < in.de | regard detokenize runs/en-de

    Tokens have a space between, as `regard tokenize` writes them; <pad>, <bos> and <eos> say nothing, <unk> becomes �.
    Text of byte-pair tokens comes back as it was.

    --json: an object a line: line (from 1), text, tokens, ids.
    """
    tokenizer = _open(model, side, Side.target, file, out)
    known = PieceNames(tokenizer)
    name = display_name(file)

    def read(number: int, line: str) -> list[int]:
        parts = [part for part in line.split(" ") if part]
        try:
            return [_id(part, tokenizer.vocab_size) for part in parts] if ids else known.ids(parts)
        except ArgumentError as error:
            hint = "" if ids or not all(map(str.isdecimal, parts)) else "; are these numbers? Then add --ids"
            raise DataError(f"{name}, line {number}: {error}{hint}") from error

    def texts(first: int, lines: list[str]) -> Iterator[str]:
        return (one_line(tokenizer.decode(read(*line))) + "\n" for line in enumerate(lines, start=first))

    def everything(first: int, lines: list[str]) -> Iterator[str]:
        for number, line in enumerate(lines, start=first):
            row = read(number, line)
            content = {"line": number, "text": tokenizer.decode(row), "tokens": tokenizer.pieces(row), "ids": row}
            yield json_line(content)

    _convert(file, out, quiet, "detokenized", everything if as_json else texts)


def _open(model: Path, side: Side | None, usual: Side, file: Path, out: Path | None) -> Tokenizer:
    """The tokenizer, once it is sure that there is something to read and a place to write."""
    check_folder("--out", out, dash=True)
    check_input(file)
    if not model.is_dir():
        if side is not None:
            raise ArgumentError(f"--side {side.value}: {model} is one tokenizer; leave out --side")
        return read_tokenizer(model)
    found = Tokenizers.load(model)
    if found is None:
        raise CheckpointError(f"{model}: has no tokenizer; expected a directory made by `regard train`")
    return found.source if (side or usual) is Side.source else found.target


def _id(text: str, size: int) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ArgumentError(f"{text!r} is not a number")
    if len(text) > 9 or int(text) >= size:
        raise ArgumentError(f"no id {text} in the vocabulary, which has ids from 0 to {size - 1}")
    return int(text)


def _convert(file: Path, out: Path | None, quiet: bool, what: str, convert: Convert) -> None:
    """Write what becomes of each line, while more come in."""
    busy = (str(file) == "-" and sys.stdin.isatty()) or (out is None and sys.stdout.isatty())

    def produce(write: Callable[[str], None]) -> None:
        done = 0
        with progress(quiet or busy) as show:
            for lines in read_chunks(file):
                write("".join(convert(done + 1, lines)))
                done += len(lines)
                show(what, done, None)

    write_lines(out, produce)
