"""From the files of a recipe to token ids of running text: a tokenizer, a training and a validation part."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.data.documents import open_documents
from regard.data.given_tokenizers import read_tokenizer
from regard.data.text_store import PARTS, Part, TextTokens
from regard.data.text_store_making import TextSource
from regard.data.tokenizer_training import train_tokenizer
from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, DataError, RecipeError
from regard.runs.claim import DATA
from regard.runs.directory import JOINT, read_json
from regard.runs.text_prepared import (
    PreparedText,
    TextRequest,
    open_prepared_text,
    prepare_text,
    prepared_files,
    store_fingerprint,
)
from regard.runs.text_recipes import TextDataRecipe, TextTokenizerRecipe
from regard.runs.work.contract import Place


@dataclass(frozen=True)
class TextCorpus:
    """The data of a run.

    Attributes:
        tokenizer: of the text.
        tokens: both parts, on disk.
        notes: what should be known about them, in words.
        facts: sizes and a fingerprint, which a resumed run must meet again.
    """

    tokenizer: Tokenizer
    tokens: TextTokens
    notes: tuple[str, ...]
    facts: dict[str, Any]


def open_text_corpus(
    data: TextDataRecipe, tokenizer: TextTokenizerRecipe, wanted: Tokenizer | None, place: Place
) -> TextCorpus:
    """Read and tokenise the text of a recipe into `place.folder`, or find it there.

    Args:
        data: the text.
        tokenizer: given, or how one is trained.
        wanted: the tokenizer of another model, which is taken instead.
        place: the run; processes but the main one find the text prepared.

    Raises:
        DataError: the text cannot be used, and why; or the run has begun with another.
        RecipeError: the tokenizer doesn't fit, or the folder holds something else.
        CheckpointError: a tokenizer is missing or damaged.
    """
    if not place.main:
        return _corpus(open_prepared_text(place.folder))
    root = Path(data.folder or ".")
    given = [data.text, *([] if data.valid_text is None else [data.valid_text])]
    known_files = prepared_files(place.folder)
    train, *others = (open_documents(root, names, data.document, data.column, known_files) for names in given)
    valid = [reader for readers in others for reader in readers]
    both = {path for reader in train for path in reader.files} & {path for reader in valid for path in reader.files}
    if both:
        raise DataError(f"{min(both)}: is given as data.text and as data.valid_text")
    known = _known_tokenizer(tokenizer, wanted, place.out, root)
    settings: dict[str, Any] = {
        "document": data.document,
        "column": data.column,
        "held_out": None if valid else data.held_out,
        "training_files": sum(len(reader.files) for reader in train),
    }
    request = TextRequest(
        source=TextSource(train, valid, data.held_out),
        settings=settings,
        known=known,
        train=lambda sample: _trained(tokenizer, sample),
        sample=tokenizer.sample,
        seed=data.seed,
        training={} if known is not None else tokenizer.model_dump() | {"seed": data.seed},
        shared=data.prepared is not None,
        begun=place.begun,
        own=begun_with(place.out),
    )
    return _corpus(prepare_text(place.folder, request, place.say, place.progress))


def part_name(data: TextDataRecipe, part: Part) -> str:
    """What messages call a part of the text."""
    if part == "train":
        return f"the training text (data.text = {data.text!r})"
    if data.valid_text is None:
        return f"the validation text (data.held_out = {data.held_out})"
    return f"the validation text (data.valid_text = {data.valid_text!r})"


def begun_with(out: Path) -> str | None:
    """The fingerprint of the text that a run began with; None if it hasn't begun.

    Raises:
        CheckpointError: what is known of it cannot be read.
    """
    return str(read_json(out / DATA).get("sha256")) if (out / DATA).exists() else None


def _corpus(prepared: PreparedText) -> TextCorpus:
    tokens, tokenizer = prepared.tokens, prepared.tokenizer
    train, valid = (tokens.counts[part] for part in PARTS)
    notes = list(tokenizer.notes)
    if valid.unknown:
        notes.append(
            f"{valid.unknown:,} of {valid.tokens:,} validation tokens are unknown (<unk>), so losses are not those of "
            "the whole text"
        )
    if tokens.manifest["settings"]["held_out"] is not None:
        notes.append(
            f"no validation text is given: the last {valid.characters:,} of {train.characters + valid.characters:,} "
            "characters are held out"
        )
    facts = {
        "train_documents": train.documents,
        "train_tokens": train.tokens,
        "valid_documents": valid.documents,
        "valid_tokens": valid.tokens,
        "valid_bytes": valid.bytes,
        "sha256": store_fingerprint(tokens.manifest),
    }
    return TextCorpus(tokenizer, tokens, tuple(notes), facts)


def _known_tokenizer(recipe: TextTokenizerRecipe, wanted: Tokenizer | None, out: Path, root: Path) -> Tokenizer | None:
    """The run's own if it has begun, else the one wanted, else the one given; None if one must be trained."""
    if (out / JOINT).exists():
        return Tokenizer.load(out / JOINT)
    if wanted is not None:
        return wanted
    return None if recipe.file is None else read_tokenizer(root / recipe.file, recipe.normalize)


def _trained(recipe: TextTokenizerRecipe, sample: Sequence[str]) -> Tokenizer:
    try:
        return train_tokenizer(recipe.kind, sample, recipe.vocabulary, recipe.normalize, strip=False)
    except ArgumentError as error:
        named = "normalize" if str(error).startswith("normalize") else "vocabulary"
        raise RecipeError(f"tokenizer.{named} = {getattr(recipe, named)}: {error}") from error
