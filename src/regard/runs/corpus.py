"""From the files of a recipe to token ids: tokenizers, the training part on disk, the validation part in memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.batches import TokenBatches
from regard.data.checks.alignment import find_shifts, levels
from regard.data.given_tokenizers import read_tokenizer
from regard.data.pairs import PairReader, pairs_of
from regard.data.readers import open_reader
from regard.data.survey import HoldOut, Progress, Texts
from regard.data.token_store import ParallelTokens, file_sha256
from regard.data.tokenizer_training import train_tokenizer
from regard.data.tokenizers import Tokenizer
from regard.data.weights import PartWeights
from regard.errors import ArgumentError, DataError, RecipeError
from regard.runs.directory import Tokenizers
from regard.runs.prepared import Prepared, Request, content_sha256, open_prepared, prepare
from regard.runs.recipe import DataRecipe, Recipe, SideRecipe, TokenizerRecipe

SHIFT_BLOCK = 1 << 19  # pairs whose lengths are compared at once
MOST_SHIFTED = 0.1  # part of the pairs that may be out of step


@dataclass(frozen=True)
class Encoded:
    """Token ids of both sides of some pairs, without special tokens, and their texts."""

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
class Corpus:
    """The data of a run.

    Attributes:
        tokenizers: of both languages.
        train: the training part, on disk.
        valid: the validation part.
        notes: what was left out and why, in words.
        facts: sizes and a fingerprint, which a resumed run must meet again.
    """

    tokenizers: Tokenizers
    train: ParallelTokens
    valid: Encoded
    notes: tuple[str, ...]
    facts: dict[str, Any]


def prepare_corpus(
    recipe: Recipe,
    folder: Path,
    known: Tokenizers | None,
    say: Callable[[str], None],
    progress: Progress,
    begun: bool = False,
) -> Corpus:
    """Read, check and tokenise the data of a recipe.

    The training part is tokenised into `folder` once; when it is there already, complete or in part, it is used. See
    `regard.data.token_store` and `regard.runs.prepared`.

    Args:
        recipe: `data`, `tokenizer` and `training.seed` count.
        folder: where the tokenised training part goes; other runs may use it at the same time.
        known: tokenizers to use; None: those given as files, else ones trained on a sample of the training part.
        say: told in words what is being done.
        progress: told what is counted ("reading", "tokenising"), how many pairs, and of how many or None.
        begun: whether a run has been trained on what is in the folder; then it is not replaced.

    Raises:
        DataError: the data cannot be used, and why: files, lines, the same text on both sides, nothing left, too few
            to hold some out; or the prepared folder is damaged.
        RecipeError: columns or tokenizers don't fit, or `folder` holds something else.
    """
    data, root = recipe.data, Path(recipe.data.folder or ".")
    parts = data.parts()
    readers = training_readers(data)
    valid_reader = validation_reader(data)
    valid_notes: list[str] = []
    # before the work of preparing: a file that is missing should be known at once
    valid_texts = None if valid_reader is None else _valid_pairs(valid_reader, valid_notes)
    hold_out = HoldOut(data.held_out, data.held_out_pairs, data.seed) if valid_reader is None else None
    known = known or given_tokenizers(recipe.tokenizer, root)
    request = Request(
        readers=readers,
        columns=[part.columns if part.pairs is not None else None for part in parts],
        max_length=data.max_length,
        hold_out=hold_out,
        known=known,
        train=lambda sample: train_tokenizers(recipe.tokenizer, sample, root),
        sample=recipe.tokenizer.sample,
        seed=data.seed,
        training={} if known is not None else _training_facts(recipe, root),
        shared=data.prepared is not None,
        begun=begun,
    )
    prepared = prepare(folder, request, say, progress)
    return _corpus(recipe, prepared, valid_texts, valid_notes)


def join_corpus(recipe: Recipe, folder: Path) -> Corpus:
    """The corpus that `prepare_corpus` has made in another process of the same run; nothing is written.

    Raises:
        DataError: it is not there.
    """
    reader = validation_reader(recipe.data)
    return _corpus(recipe, open_prepared(folder), None if reader is None else _valid_pairs(reader, []), [])


def _corpus(recipe: Recipe, prepared: Prepared, valid_texts: list[Texts] | None, valid_notes: list[str]) -> Corpus:
    data = recipe.data
    notes = list(dict.fromkeys([*prepared.tokenizers.source.notes, *prepared.tokenizers.target.notes]))
    notes += _training_notes(prepared, data)
    notes += _shifted(prepared.tokens, [part["name"] for part in prepared.manifest["parts"]])
    notes += valid_notes
    pairs = prepared.held_out if valid_texts is None else valid_texts
    valid = _encode(pairs, prepared.tokenizers, data.max_length, notes)
    facts = {
        "train_pairs": len(prepared.tokens),
        "valid_pairs": len(valid),
        "target_tokens": prepared.tokens.target_tokens,
        "sha256": content_sha256(prepared, list(zip(valid.source_texts, valid.target_texts, strict=True))),
    }
    return Corpus(prepared.tokenizers, prepared.tokens, valid, tuple(notes), facts)


def training_batches(
    tokens: ParallelTokens, tokens_per_batch: int, seed: int, weights: Sequence[float] = ()
) -> TokenBatches:
    """The training batches; lengths count the `<bos>` or `<eos>` that the task adds.

    Args:
        tokens: the training part.
        tokens_per_batch: see `TokenBatches`.
        seed: of the order.
        weights: one for each part of the corpus; none: 1 for all.

    Raises:
        ArgumentError, DataError: as `TokenBatches` does.
    """
    parts = PartWeights(tokens.part_sizes, tuple(weights), seed) if weights else None
    return TokenBatches(tokens.source.lengths(1), tokens.target.lengths(1), tokens_per_batch, seed, parts)


def given_tokenizers(recipe: TokenizerRecipe, folder: Path) -> Tokenizers | None:
    """The tokenizers that a recipe gives as files, relative to `folder`; None if one must be trained."""
    if recipe.source is not None and recipe.target is not None:
        if recipe.source.file is None or recipe.target.file is None:
            return None
        return Tokenizers(_given(recipe.source, folder), _given(recipe.target, folder))
    if recipe.file is None:
        return None
    joint = _given(recipe, folder)
    return Tokenizers(joint, joint)


def train_tokenizers(recipe: TokenizerRecipe, sample: list[Texts], folder: Path) -> Tokenizers:
    """Train the tokenizers of a recipe on pairs; a side given as a file, relative to `folder`, is read.

    Raises:
        RecipeError: a vocabulary size that is too small.
    """
    if recipe.source is not None and recipe.target is not None:
        source = _make(recipe.source, (pair[0] for pair in sample), folder, "tokenizer.source")
        return Tokenizers(source, _make(recipe.target, (pair[1] for pair in sample), folder, "tokenizer.target"))
    joint = _make(recipe, (text for pair in sample for text in pair), folder, "tokenizer")
    return Tokenizers(joint, joint)


def _make(side: SideRecipe, lines: Iterator[str], folder: Path, key: str) -> Tokenizer:
    if side.file is not None:
        return _given(side, folder)
    try:
        return train_tokenizer(side.kind, lines, side.vocabulary, side.normalize)
    except ArgumentError as error:
        named = "normalize" if str(error).startswith("normalize") else "vocabulary"
        raise RecipeError(f"{key}.{named} = {getattr(side, named)}: {error}") from error


def _given(side: SideRecipe, folder: Path) -> Tokenizer:
    assert side.file is not None
    return read_tokenizer(folder / side.file, side.normalize)


def training_readers(data: DataRecipe) -> list[PairReader]:
    """A reader for each training part.

    Raises:
        DataError, RecipeError: as for `open_reader`.
    """
    folder = Path(data.folder or ".")
    return [
        open_reader(
            folder,
            source=part.source,
            target=part.target,
            pairs=part.pairs,
            columns=part.columns or data.columns,
        )
        for part in data.parts()
    ]


def _training_facts(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Everything that tokenizers trained by a recipe depend on, besides the text."""
    tokenizer = recipe.tokenizer
    files = [side.file for side in (tokenizer, tokenizer.source, tokenizer.target) if side is not None and side.file]
    try:
        digests = [file_sha256(folder / file) for file in files]
    except OSError as error:
        raise RecipeError(f"tokenizer.file: {error.filename}: {error.strerror}") from error
    return tokenizer.model_dump(exclude={"dropout"}) | {"seed": recipe.data.seed, "files": digests}


def validation_reader(data: DataRecipe) -> PairReader | None:
    """A reader for the validation part; None if there is none.

    Raises:
        DataError, RecipeError: as for `open_reader`.
    """
    if data.valid_source is None and data.valid_pairs is None:
        return None
    return open_reader(
        Path(data.folder or "."),
        source=data.valid_source,
        target=data.valid_target,
        pairs=data.valid_pairs,
        columns=data.valid_columns or data.columns,
    )


def _valid_pairs(reader: PairReader, notes: list[str]) -> list[Texts]:
    """The validation part as read, without pairs that have an empty side."""
    pairs = [(pair.source, pair.target) for pair in pairs_of(reader)]
    kept = [pair for pair in pairs if pair[0] and pair[1]]
    if not kept:
        raise DataError(f"{reader.name}: no pair has text on both sides ({len(pairs):,} read)")
    equal = sum(map(eq, *zip(*kept, strict=True)))
    if 2 * equal > len(kept):
        raise DataError(
            f"{reader.name}: {equal:,} of {len(kept):,} pairs have the same text on both sides; is the same file, or "
            "the same column, given twice?"
        )
    if len(kept) < len(pairs):
        notes.append(f"{len(pairs) - len(kept):,} validation pairs with an empty side are left out")
    return kept


def _encode(pairs: Sequence[Texts], tokenizers: Tokenizers, max_length: int, notes: list[str]) -> Encoded:
    """The validation part as token ids, without what is too long."""
    sources = tokenizers.source.encode_batch([pair[0] for pair in pairs])
    targets = tokenizers.target.encode_batch([pair[1] for pair in pairs])
    keep = [
        index
        for index, (source, target) in enumerate(zip(sources, targets, strict=True))
        if len(source) <= max_length and len(target) <= max_length
    ]
    if not keep:
        raise DataError(f"every validation pair is longer than data.max_length = {max_length} tokens")
    if len(keep) < len(pairs):
        notes.append(_too_long(len(pairs) - len(keep), "validation", max_length))
    return Encoded(
        [sources[index] for index in keep],
        [targets[index] for index in keep],
        [pairs[index][0] for index in keep],
        [pairs[index][1] for index in keep],
    )


def _training_notes(prepared: Prepared, data: DataRecipe) -> list[str]:
    """What was left out of the training part."""
    notes, parts = [], prepared.manifest["parts"]
    for part in parts:
        where = f" of {part['name']}" if len(parts) > 1 else ""
        if part["empty"]:
            notes.append(f"{part['empty']:,} training pairs{where} with an empty side are left out")
        if part["long"]:
            notes.append(_too_long(part["long"], f"training{where}", data.max_length))
    if prepared.held_out:
        left_out, rows = (sum(part[key] for part in parts) for key in ("held_out", "rows"))
        again = f" ({left_out:,} with their repetitions)" if left_out > len(prepared.held_out) else ""
        notes.append(
            f"no validation part is given: {len(prepared.held_out):,} of {rows:,} training pairs are held out for "
            f"it{again}"
        )
    return notes


def _shifted(tokens: ParallelTokens, names: Sequence[str]) -> list[str]:
    """Where sides have slipped out of step, in words; judged by lengths alone (`regard.data.checks.alignment`).

    Raises:
        DataError: over a good part of the pairs: a model would learn that sentences have nothing to do with each other.
    """
    notes: list[str] = []
    lengths = [side.lengths() for side in (tokens.source, tokens.target)]
    starts = np.cumsum([0, *tokens.part_sizes])
    for name, first, size in zip(names, starts, tokens.part_sizes, strict=False):
        slipped = 0
        for start in range(int(first), int(first) + size, SHIFT_BLOCK):
            rows = slice(start, min(start + SHIFT_BLOCK, int(first) + size))
            for shift in find_shifts(*(levels(side[rows].astype(np.int64)) for side in lengths)):
                slipped += shift.last - shift.first + 1
                there = f"from about pair {start - int(first) + shift.first + 1:,} on, by {abs(shift.by)}"
                notes.append(f"{name}: the sides seem to slip out of step {there}: regard check-data tells more")
        if slipped > MOST_SHIFTED * size:
            raise DataError(f"{notes[-1]}; {slipped:,} of {size:,} pairs are concerned")
    return notes


def _too_long(count: int, part: str, max_length: int) -> str:
    return f"{count:,} {part} pairs with more than {max_length} tokens on a side are left out"
