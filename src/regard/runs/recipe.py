"""Recipes of translation: everything that determines a training run, as TOML checked key by key.

    [data]        files of the training and validation part
    [tokenizer]   how text becomes tokens
    [model]       which model, and its sizes
    [training]    batches, optimizer, schedule, budget, validation
    [decoding]    how the finished model translates unless told otherwise

Paths in a recipe are relative to the recipe's own folder, or to `data.folder`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from regard.errors import RecipeError
from regard.runs.base_recipe import BaseRecipe, TrainingSection
from regard.runs.model_recipes import ModelRecipe, TransformerRecipe
from regard.runs.recipe_files import apply_setting, checked, read_content, refuse_comparison
from regard.runs.sections import Positive, PositiveFloat, Section, Share

Columns = Annotated[list[Positive], Field(min_length=2, max_length=2)]
ColumnNames = Annotated[list[str], Field(min_length=2, max_length=2)]


class PartRecipe(Section):
    """One of several parts of the training data."""

    source: str | None = None
    """Source sentences, one a line."""
    target: str | None = None
    """Target sentences, line by line with the source."""
    pairs: str | None = None
    """Instead of source and target: a table of pairs, as `data.pairs`."""
    columns: Columns | ColumnNames | None = None
    """Columns of source and target in a table: numbers from 1, or names; `data.columns` if not given."""
    weight: PositiveFloat = 1.0
    """How often an epoch shows each pair: 2 is twice, 0.25 every fourth pair, others in the next epochs."""

    @model_validator(mode="after")
    def _check_files(self) -> "PartRecipe":
        if (self.pairs is None) == (self.source is None) or (self.source is None) != (self.target is None):
            raise ValueError("each data.train part needs either source and target, or pairs")
        return self


class DataRecipe(Section):
    """[data]: source and target files, or one table, or several parts with weights; how a table is read follows from
    its name: .jsonl, .parquet, .csv, .arrow, a folder that `datasets` saved, else tab-separated columns. .gz, .xz and
    .zst are read as they are."""

    folder: str | None = None
    """Folder that the other paths are relative to; the recipe's own folder if not given."""
    source: str | None = None
    """Source sentences, one a line."""
    target: str | None = None
    """Target sentences, line by line with the source."""
    pairs: str | None = None
    """Instead of source and target: a table of pairs."""
    columns: Columns | ColumnNames = Field(default=[1, 2])
    """Columns of source and target in a table: numbers from 1 (tab-separated text, and .csv without a header), or names
    ("translation.en" for a nested one)."""
    train: list[PartRecipe] | None = None
    """Instead of source, target and pairs: several parts, each a table [[data.train]] of its own."""
    valid_source: str | None = None
    """Validation sources."""
    valid_target: str | None = None
    """Validation targets."""
    valid_pairs: str | None = None
    """The validation part as a table. Without a validation part, some training pairs are held out."""
    valid_columns: Columns | ColumnNames | None = None
    """Columns of the validation table; `data.columns` if not given."""
    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.02
    """Fraction of the training pairs held out for validation if no validation part is given."""
    held_out_pairs: Positive = 2000
    """Most pairs held out."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Of the pairs held out, and of the sample that tokenizers learn from."""
    max_length: Positive = 200
    """Longest sentence in tokens; a longer training pair is left out."""
    prepared: str | None = None
    """Folder for the tokenised text, which several runs may share; `prepared` in the run's directory if not given."""

    @model_validator(mode="after")
    def _check_files(self) -> "DataRecipe":
        given = [self.train is not None, self.pairs is not None, self.source is not None]
        if sum(given) != 1 or (self.source is None) != (self.target is None) or self.train == []:
            raise ValueError("give either data.source and data.target, or data.pairs, or data.train")
        if (self.valid_source is None) != (self.valid_target is None) or (self.valid_pairs and self.valid_source):
            raise ValueError(
                "give either data.valid_source and data.valid_target, or data.valid_pairs, or none of them"
            )
        return self

    def parts(self) -> list[PartRecipe]:
        """The training parts, one or several, each with its columns."""
        if self.train is not None:
            return [part.model_copy(update={"columns": part.columns or self.columns}) for part in self.train]
        return [PartRecipe(source=self.source, target=self.target, pairs=self.pairs, columns=self.columns)]


class SideRecipe(Section):
    """The tokenizer of one side."""

    kind: Literal["bpe", "unigram", "word", "char"] = "bpe"
    """bpe, unigram: subwords with byte fallback; word: words and punctuation; char: characters."""
    vocabulary: Positive | None = None
    """Most tokens, the special ones included. If not given: 10,000 for subwords, all that the data have otherwise."""
    normalize: list[Literal["nfc", "nfkc", "lower"]] = Field(default=[])
    """What is done to text before it is tokenised, in this order; translations come out normalised too."""
    file: str | None = None
    """A finished tokenizer instead: a `tokenizer.json`, or a SentencePiece model; kind and vocabulary don't count then.
    """


class TokenizerRecipe(SideRecipe):
    """[tokenizer]: one for both languages, or one each."""

    source: SideRecipe | None = None
    """The source's own tokenizer, as { kind = "…", vocabulary = … }."""
    target: SideRecipe | None = None
    """Give both for separate tokenizers; then kind, vocabulary, normalize and file above are not used."""
    sample: Positive = 500_000
    """Most training pairs that tokenizers learn from, drawn at random if there are more."""
    dropout: Share = 0.0
    """BPE dropout in training: the probability that a merge is left out, anew in each epoch. Sentences, so batches, get
    longer than `training.tokens_per_batch` says: at 0.1 about a quarter for short words of a small vocabulary."""

    @model_validator(mode="after")
    def _check_sides(self) -> "TokenizerRecipe":
        if (self.source is None) != (self.target is None):
            raise ValueError("give both tokenizer.source and tokenizer.target, or neither for a joint tokenizer")
        sides = [self] if self.source is None or self.target is None else [self.source, self.target]
        if self.dropout and any(side.file is None and side.kind != "bpe" for side in sides):
            raise ValueError(f'tokenizer.dropout = {self.dropout} needs a tokenizer of kind = "bpe"')
        return self


class TrainingRecipe(TrainingSection):
    """[training]: the budget is the first of epochs, steps, tokens and minutes to be reached."""

    tokens_per_batch: Positive = 4096
    """Most positions of a batch on its longer side, padding included."""
    label_smoothing: Share = 0.1
    """Probability spread evenly over the vocabulary in the training target."""
    validation_sentences: Annotated[int, Field(ge=0)] = 200
    """How many validation sentences are translated (greedily) for BLEU at each validation."""
    metric: Literal["loss", "bleu"] = "loss"
    """What decides which checkpoint is the best."""

    @model_validator(mode="after")
    def _check_metric(self) -> "TrainingRecipe":
        if self.metric == "bleu" and self.validation_sentences == 0:
            raise ValueError('training.metric = "bleu" needs training.validation_sentences above 0')
        return self


class DecodingRecipe(Section):
    """[decoding]: defaults of `regard translate`."""

    beam: Positive = 5
    """Width of the beam; 1 is greedy search."""
    penalty: Literal["none", "gnmt", "average"] = "average"
    """Length penalty: none; GNMT's (Wu et al. 2016); the average log-probability, length to the power alpha."""
    alpha: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Strength of the penalty."""
    max_ratio: PositiveFloat = 2.0
    """Longest translation: so many times the source's tokens, plus ten."""


class Recipe(BaseRecipe):
    """A recipe for translation."""

    task: Literal["translation"] = "translation"
    """What is learned; this if not given."""
    data: DataRecipe
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    model: ModelRecipe = TransformerRecipe()
    training: TrainingRecipe = TrainingRecipe()
    decoding: DecodingRecipe = DecodingRecipe()

    def prepared_folder(self) -> str | None:
        """See `BaseRecipe.prepared_folder`."""
        return self.data.prepared


def read_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a TOML recipe of translation and apply `section.key=value` settings to it.

    Raises:
        RecipeError: the file is missing or not TOML, or a key is unknown or has a wrong value; the message names the
            key, what came and what was expected.
    """
    return make_recipe(read_content(path, settings), origin=str(path))


def make_recipe(content: dict[str, Any], settings: Sequence[str] = (), origin: str = "recipe") -> Recipe:
    """Check a recipe of translation given as nested tables.

    Raises:
        RecipeError: as for `read_recipe`.
    """
    for setting in settings:
        apply_setting(content, setting)
    refuse_comparison(content, origin)
    if content.get("task", "translation") != "translation":
        raise RecipeError(f"{origin}: task is {content['task']!r}: expected a recipe of translation")
    return checked(Recipe, content, origin)
