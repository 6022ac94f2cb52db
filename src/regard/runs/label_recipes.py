"""Recipes for what BERT is used for: classification of texts, and tagging of words.

[data]        the labelled training and validation part
[tokenizer]   how text becomes tokens, if no trained model is started from
[model]       sizes of the encoder, likewise
[training]    batches, optimizer, schedule, budget, validation; init_from is the model to fine-tune
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from regard.runs.base_recipe import BaseRecipe, TrainingSection
from regard.runs.sections import Positive, PositiveFloat, Section, Share
from regard.runs.text_recipes import BERTRecipe, TextTokenizerRecipe


def _column(value: object) -> object:
    if value is not None and not isinstance(value, str) and not (type(value) is int and value > 0):
        raise ValueError(f"data.label, data.text and data.second: expected a name, or a number from 1, got {value!r}")
    return value


Column = Annotated[str | int | None, BeforeValidator(_column)]


class LabelDataSection(Section):
    """What [data] of classification and of tagging have in common."""

    folder: str | None = None
    """Folder that the other paths are relative to; the recipe's own folder if not given."""
    train: str
    """The training part: a file."""
    valid: str | None = None
    """The validation part; if not given, some of the training part is held out."""
    labels: list[str] | None = None
    """The names of all classes or tags, in the order that their numbers have in the model; if not given, those of the
    training part, sorted."""
    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Fraction of the training part held out for validation if no validation part is given."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Of what is held out."""
    length: Annotated[int, Field(ge=5)] = 128
    """Most tokens that are read together, special tokens included: a longer text is cut at its end (of a pair always
    the longer one), a longer sentence of words is read in several parts."""

    @model_validator(mode="after")
    def _check_labels(self) -> "LabelDataSection":
        if self.labels is not None and (len(set(self.labels)) < len(self.labels) or len(self.labels) < 2):
            raise ValueError(f"data.labels is {self.labels}: expected two names or more, each once")
        return self


class ClassificationDataRecipe(LabelDataSection):
    """[data]: a table of texts with a label each; how it is read follows from its name: .jsonl, .parquet, .csv, .arrow,
    a folder that `datasets` saved, else tab-separated columns. .gz, .xz and .zst are read as they are."""

    label: Column = None
    """Column of the labels: a number from 1 or a name; if not given, 1 of tab-separated columns, else "label"."""
    text: Column = None
    """Column of the texts; if not given, 2 of tab-separated columns, else "text"."""
    second: Column = None
    """Column of the second texts, where pairs of texts are classified."""
    header: bool = False
    """Whether the first line of a table whose columns are numbers names them; it is left out."""


class TaggingDataRecipe(LabelDataSection):
    """[data]: sentences of words with a tag each, a word a line and an empty line between sentences, as in the CoNLL
    tasks (.conllu: as Universal Dependencies write it)."""

    word: Positive | None = None
    """Column of the words, from 1; the first if not given (.conllu: 2)."""
    tag: Positive | None = None
    """Column of the tags; the last if not given (.conllu: 4)."""


class LabelTrainingRecipe(TrainingSection):
    """[training]: the budget is the first of epochs, steps, tokens (here: labels) and minutes to be reached."""

    sentences_per_batch: Positive = 32
    """Texts of a batch."""
    learning_rate: PositiveFloat = 1e-4
    """The highest rate, at the end of the warm-up; 2e-5 to 5e-5 is usual for a large model that is fine-tuned."""
    schedule: Literal["inverse_sqrt", "cosine", "linear", "constant"] = "linear"
    """How the rate falls after the warm-up."""
    warmup: Annotated[int, Field(ge=0)] = 100
    """Steps over which the rate rises."""
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)] = Field(default=[0.9, 0.999])
    """Decay rates of AdamW's two moments."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay of matrices; embeddings, biases and norms have none."""
    label_smoothing: Share = 0.0
    """Probability spread evenly over the classes in the training target."""
    metric: Literal["loss", "accuracy", "f1"] = "loss"
    """What decides which checkpoint is the best. f1: the mean over classes; of tags that mark entities, that of all
    entities as in CoNLL's evaluation."""


class ClassificationRecipe(BaseRecipe):
    """A recipe for classification of texts, or of pairs of texts."""

    task: Literal["classification"]
    """What is learned."""
    data: ClassificationDataRecipe
    tokenizer: TextTokenizerRecipe = TextTokenizerRecipe()
    model: BERTRecipe = BERTRecipe()
    training: LabelTrainingRecipe = LabelTrainingRecipe()


class TaggingRecipe(BaseRecipe):
    """A recipe for tagging of words."""

    task: Literal["tagging"]
    """What is learned."""
    data: TaggingDataRecipe
    tokenizer: TextTokenizerRecipe = TextTokenizerRecipe()
    model: BERTRecipe = BERTRecipe()
    training: LabelTrainingRecipe = LabelTrainingRecipe()
