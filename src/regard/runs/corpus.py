"""From the files of a recipe to token ids: reading, checking, tokenizers, the validation part."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regard.data import ParallelText, TokenBatches, Tokenizer, read_parallel, read_table, train_tokenizer, usable
from regard.errors import ArgumentError, DataError, RecipeError
from regard.runs.directory import Tokenizers
from regard.runs.recipe import DataRecipe, SideRecipe, TokenizerRecipe


@dataclass(frozen=True)
class Encoded:
    """Token ids of both sides of some pairs, and their texts."""

    source: list[list[int]]
    target: list[list[int]]
    source_texts: list[str]
    target_texts: list[str]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def target_tokens(self) -> int:
        """Target tokens, one `<eos>` a sentence included."""
        return sum(len(row) + 1 for row in self.target)


@dataclass(frozen=True)
class Texts:
    """Training and validation pairs as read, and what was left out, in words."""

    train: list[tuple[str, str]]
    valid: list[tuple[str, str]]
    notes: list[str]
    fingerprint: str
    """sha256 over all pairs: whether a resumed run reads the same data."""


def read_texts(data: DataRecipe, seed: int) -> Texts:
    """Read the training and validation parts.

    Without a validation part, up to `held_out` pairs (at most a tenth) are taken out of the training part by a seeded
    draw; equal pairs all go to the same side.

    Raises:
        DataError: a file cannot be used or nothing is left; the message names file and line.
    """
    folder = Path(data.folder or ".")
    notes: list[str] = []
    columns = (data.columns[0] - 1, data.columns[1] - 1)
    train = _pairs(_read(folder, data.source, data.target, data.pairs, columns), "training", notes)
    if data.valid_source is not None or data.valid_pairs is not None:
        text = _read(folder, data.valid_source, data.valid_target, data.valid_pairs, columns)
        valid = _pairs(text, "validation", notes)
    else:
        distinct = sorted(set(train))
        count = min(data.held_out, len(distinct) // 10)
        if count == 0:
            raise DataError(f"{len(distinct)} distinct training pairs are too few to hold out a validation part")
        chosen = np.random.default_rng(seed).choice(len(distinct), count, replace=False)
        held = {distinct[i] for i in chosen}
        valid = [distinct[i] for i in sorted(chosen)]
        train = [pair for pair in train if pair not in held]
        notes.append(f"no validation part given: {count:,} pairs are held out of the training part")
    digest = hashlib.sha256()
    for part in (train, valid):
        for source, target in part:
            digest.update(f"{source}\n{target}\n".encode())
        digest.update(b"\0")
    return Texts(train, valid, notes, digest.hexdigest())


def make_tokenizers(recipe: TokenizerRecipe, train: list[tuple[str, str]]) -> Tokenizers:
    """Train the tokenizers of a recipe on the training part."""
    if recipe.source is not None and recipe.target is not None:
        source = _train(recipe.source, (pair[0] for pair in train))
        return Tokenizers(source, _train(recipe.target, (pair[1] for pair in train)))
    joint = _train(recipe, (text for pair in train for text in pair))
    return Tokenizers(joint, joint)


def encode(pairs: list[tuple[str, str]], tokenizers: Tokenizers) -> Encoded:
    """Token ids of pairs, without special tokens."""
    sources, targets = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return Encoded(tokenizers.source.encode_batch(sources), tokenizers.target.encode_batch(targets), sources, targets)


def drop_long(encoded: Encoded, max_length: int, part: str, notes: list[str]) -> Encoded:
    """Leave out pairs with a side of more than `max_length` tokens, and say so.

    Raises:
        DataError: nothing is left.
    """
    keep = [
        i
        for i, (source, target) in enumerate(zip(encoded.source, encoded.target, strict=True))
        if len(source) <= max_length and len(target) <= max_length
    ]
    if len(keep) == len(encoded):
        return encoded
    if not keep:
        raise DataError(f"every {part} pair is longer than data.max_length = {max_length} tokens")
    notes.append(f"{len(encoded) - len(keep):,} {part} pairs with more than {max_length} tokens on a side are left out")
    sides = (encoded.source, encoded.target)
    texts = (encoded.source_texts, encoded.target_texts)
    ids = [[side[i] for i in keep] for side in sides]
    return Encoded(ids[0], ids[1], *([text[i] for i in keep] for text in texts))


def training_batches(encoded: Encoded, tokens_per_batch: int, seed: int) -> TokenBatches:
    """The training batches; lengths count the `<bos>` or `<eos>` that the task adds."""
    lengths = [np.array([len(row) + 1 for row in side]) for side in (encoded.source, encoded.target)]
    return TokenBatches(lengths[0], lengths[1], tokens_per_batch, seed)


def _read(
    folder: Path, source: str | None, target: str | None, pairs: str | None, columns: tuple[int, int]
) -> ParallelText:
    if pairs is not None:
        return read_table(folder / pairs, columns)
    assert source is not None and target is not None
    return read_parallel(folder / source, folder / target)


def _pairs(text: ParallelText, part: str, notes: list[str]) -> list[tuple[str, str]]:
    kept, dropped = usable(text)
    if dropped:
        notes.append(f"{dropped:,} {part} pairs with an empty side are left out")
    return [(pair.source, pair.target) for pair in kept]


def _train(side: SideRecipe, lines: Iterator[str]) -> Tokenizer:
    try:
        return train_tokenizer(side.kind, lines, side.vocabulary)
    except ArgumentError as error:
        raise RecipeError(f"tokenizer.vocabulary = {side.vocabulary}: {error}") from error
