"""Recipes: everything that determines a training run, as TOML checked key by key.

    [data]        files of the training and validation part
    [tokenizer]   how text becomes tokens
    [model]       which model, and its sizes
    [training]    batches, optimizer, schedule, budget, validation
    [decoding]    how the finished model translates unless told otherwise

Paths in a recipe are relative to the recipe's own folder, or to `data.folder`.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from regard.errors import RecipeError
from regard.runs.model_recipes import MODEL_RECIPES, ModelRecipe, TransformerRecipe, model_name
from regard.runs.sections import Positive, PositiveFloat, Section, Share, explain

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


class TrainingRecipe(Section):
    """[training]: the budget is the first of epochs, steps, tokens and minutes to be reached."""

    epochs: Positive | None = None
    """Passes over the training part."""
    steps: Positive | None = None
    """Steps of the optimizer."""
    tokens: Positive | None = None
    """Target tokens."""
    minutes: PositiveFloat | None = None
    """Wall-clock minutes, measured at the start and turned into steps. Without any budget: 20 epochs."""
    tokens_per_batch: Positive = 4096
    """Most positions of a batch on its longer side, padding included."""
    accumulate: Positive = 1
    """Batches in one step of the optimizer."""
    learning_rate: PositiveFloat = 1e-3
    """The highest rate, at the end of the warm-up."""
    schedule: Literal["inverse_sqrt", "cosine", "linear", "constant"] = "inverse_sqrt"
    """How the rate falls after the warm-up."""
    warmup: Annotated[int, Field(ge=0)] = 1000
    """Steps over which the rate rises."""
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)] = Field(default=[0.9, 0.98])
    """Decay rates of AdamW's two moments."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay of matrices; embeddings, biases and norms have none."""
    label_smoothing: Share = 0.1
    """Probability spread evenly over the vocabulary in the training target."""
    clip: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Largest norm of the gradients; 0: no clipping."""
    init_from: str | None = None
    """Directory of a trained model whose tokenizers and weights to start from."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Of weights, order and dropout."""
    validate_every: Positive | None = None
    """Steps between validations; about twenty validations in all if not given."""
    validation_sentences: Annotated[int, Field(ge=0)] = 200
    """How many validation sentences are translated (greedily) for BLEU at each validation."""
    attention_every: Annotated[int, Field(ge=0)] = 0
    """Steps between measurements of attention health (entropy and sink mass of each head); 0: none."""
    patience: Positive | None = None
    """Stop after so many validations without improvement."""
    metric: Literal["loss", "bleu"] = "loss"
    """What decides which checkpoint is the best."""
    average: Positive = 5
    """The last n validated checkpoints are averaged; the average is taken if it validates better than the best one."""
    save_minutes: PositiveFloat = 5.0
    """Save at least so often."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    threads: Positive | None = None
    """CPU threads; torch's default if not given."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: matrix products in half precision, weights and sums in float32 (mixed precision)."""
    gradient_checkpointing: bool = False
    """Keep only each layer's input for the backward pass and compute the rest again: less memory, more time."""
    snapshots: bool = False
    """Keep the weights of each validation in the run's folder `snapshots`."""
    sharding: Literal["none", "fsdp"] = "none"
    """With several processes: each holds all weights (DDP), or a share of them and of the optimizer (FSDP2)."""

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


class Recipe(Section):
    """A whole recipe."""

    out: str | None = None
    """The directory of the run, relative to where the command is given; runs/NAME for NAME.toml if not given."""
    data: DataRecipe
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    model: ModelRecipe = TransformerRecipe()
    training: TrainingRecipe = TrainingRecipe()
    decoding: DecodingRecipe = DecodingRecipe()


def read_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a TOML recipe and apply `section.key=value` settings to it.

    Raises:
        RecipeError: the file is missing or not TOML, or a key is unknown or has a wrong value; the message names the
            key, what came and what was expected.
    """
    content = read_content(path, settings)
    if "compare" in content:
        raise RecipeError(f"{path}: its table [compare] is for several models: regard compare {path}")
    return make_recipe(content, origin=str(path))


def read_content(path: Path, settings: Sequence[str] = ()) -> dict[str, Any]:
    """A TOML recipe with `section.key=value` settings as nested tables, unchecked but for its paths: made absolute.

    Raises:
        RecipeError: the file is missing or not TOML, or a setting has no place.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    for setting in settings:
        apply_setting(content, setting)
    # absolute, because the recipe is kept with the run and must lead to the same files from there
    data, root = content.setdefault("data", {}), path.parent
    if isinstance(data, dict) and isinstance(data.get("folder", ""), str):
        data["folder"] = str((root / data.get("folder", "")).absolute())
    tokenizer = content.get("tokenizer", {})
    sides = [tokenizer, *(tokenizer.get(side) for side in ("source", "target"))] if isinstance(tokenizer, dict) else []
    for table, key in [(data, "prepared"), (content.get("training"), "init_from"), *((side, "file") for side in sides)]:
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = str((root / table[key]).absolute())
    return content


def make_recipe(content: dict[str, Any], settings: Sequence[str] = (), origin: str = "recipe") -> Recipe:
    """Check a recipe given as nested tables.

    Raises:
        RecipeError: as for `read_recipe`.
    """
    for setting in settings:
        apply_setting(content, setting)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{origin}: " + "; ".join(_explain(one, content) for one in error.errors())) from None


def apply_setting(content: dict[str, Any], setting: str) -> None:
    """Put `section.key=value` into nested tables; the value is TOML, or a bare string.

    Raises:
        RecipeError: there is no `=`, or a key on the way is not a table.
    """
    name, equals, text = setting.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not equals or not all(keys):
        raise RecipeError(f"--set {setting}: expected section.key=value, for example training.minutes=20")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = content
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {setting}: {key} is not a section")
    table[keys[-1]] = value


def recipe_toml(recipe: Recipe) -> str:
    """The recipe with every default written out, as TOML; keys without a value are left out."""
    return tomli_w.dumps(recipe.model_dump(exclude_none=True))


def differences(old: Recipe, new: Recipe, free: set[str]) -> list[str]:
    """Keys whose values differ, as `section.key: old → new`; those in `free` don't count."""
    a, b = _flat(old.model_dump()), _flat(new.model_dump())
    if old.model.name != new.model.name:  # its other keys say nothing about the same model
        a, b = ({key: x[key] for key in x if key == "model.name" or not key.startswith("model.")} for x in (a, b))
    return [f"{key}: {a[key]!r} → {b[key]!r}" for key in a if key not in free and a[key] != b[key]]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and prefix == "":
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _explain(error: ErrorDetails, content: dict[str, Any]) -> str:
    """One pydantic error in words that name the key, what came and what was expected."""
    place = [part for part in error["loc"] if isinstance(part, str)]
    if place[:1] == ["model"] and len(place) > 1 and place[1] in MODEL_RECIPES:
        del place[1]  # pydantic names the kind of model it chose
    key = ".".join(place)
    if place == ["model"] and error["type"] == "model_type":
        return f"model is {error['input']!r}: expected a table [model]"
    if error["type"] == "union_tag_invalid":
        return f"model.name is {model_name(error['input'])!r}: there are {', '.join(MODEL_RECIPES)}"
    if any(part in ("columns", "valid_columns") for part in place):
        named = ".".join(place[: 1 + next(i for i, part in enumerate(place) if part.endswith("columns"))])
        return f"{named}: expected two numbers from 1, or two names"
    words = explain(error, key, _known_keys(place[:-1], content))
    of_model = place[:1] == ["model"] and error["type"] == "extra_forbidden"
    return f"{words} (model.name is {model_name(content.get('model'))!r})" if of_model else words


def _known_keys(place: Sequence[str], content: dict[str, Any]) -> list[str]:
    section: type[BaseModel] = Recipe
    sections: dict[str, type[BaseModel]] = {
        "data": DataRecipe,
        "tokenizer": TokenizerRecipe,
        "model": MODEL_RECIPES.get(model_name(content.get("model")), TransformerRecipe),
        "training": TrainingRecipe,
        "decoding": DecodingRecipe,
    }
    if place:
        nested = PartRecipe if place[0] == "data" else SideRecipe
        section = nested if len(place) > 1 else sections[place[0]]
    return list(section.model_fields)
