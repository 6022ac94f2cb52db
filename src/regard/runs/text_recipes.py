"""Recipes for models of running text: language modelling (GPT) and masked-language modelling (BERT)."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from regard.runs.base_recipe import BaseRecipe, TrainingSection
from regard.runs.sections import Positive, PositiveFloat, Section, Share

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]


def _names(value: object) -> object:
    if not isinstance(value, str) and not (
        value and isinstance(value, list) and all(isinstance(x, str) for x in value)
    ):
        raise ValueError(f"data.text and data.valid_text: expected a file name or a list of them, got {value!r}")
    return value


def _column(value: object) -> object:
    if not isinstance(value, str) and not (type(value) is int and value > 0):
        raise ValueError(f"data.column: expected a name, or a number from 1, got {value!r}")
    return value


Files = Annotated[str | list[str], BeforeValidator(_names)]
Column = Annotated[str | int, BeforeValidator(_column)]


class TextDataRecipe(Section):
    """[data]: files of running text. Plain text, or tables with a column of text; how a file is read follows from its
    name: .jsonl, .parquet, .csv, .tsv, .arrow, a folder that `datasets` saved, else plain text. .gz, .xz and .zst are
    read as they are."""

    folder: str | None = None
    """Folder that the other paths are relative to; the recipe's own folder if not given."""
    text: Files
    """The training text: a file, a list of files, or a pattern such as "part-*.txt"."""
    valid_text: Files | None = None
    """The validation text. If not given, the last part of the training text is held out."""
    document: Literal["file", "line", "paragraph"] = "file"
    """What a document of a plain text file is: the file, each line, or what blank lines part."""
    column: Column = "text"
    """Column of a table that has the text, one document a row: a name, or a number from 1 (.tsv, .csv without a
    header)."""
    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Fraction of the text, at its end, that is held out where no validation text is given: whole documents of lines,
    paragraphs and tables; of files it begins at that character."""
    length: Annotated[int, Field(ge=8)] = 256
    """Tokens of a row: what a model sees at once."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Of the sample that the tokenizer learns from."""
    prepared: str | None = None
    """Folder for the tokenised text, which several runs may share; `prepared` in the run's directory if not given."""


class StreamDataRecipe(TextDataRecipe):
    """[data] of a language model: files of running text, and how rows are made of them."""

    layout: Literal["stream", "packed"] = "stream"
    """stream: all documents one after another, <eos> between them, cut into rows anywhere, elsewhere in each epoch;
    packed: whole documents packed into rows (long ones in pieces), each token seeing its own document only."""


class MaskedDataRecipe(TextDataRecipe):
    """[data] of a masked-language model: files of running text, and how rows are made of them."""

    layout: Literal["stream", "packed", "pairs"] = "stream"
    """stream: all documents one after another, <eos> between them, cut into rows anywhere, elsewhere in each epoch;
    packed: whole documents packed into rows (long ones in pieces), each token seeing its own document only; pairs: two
    segments a row, of which the second is a random one in half of the rows, and the model also learns which
    (next-sentence prediction)."""


class TextTokenizerRecipe(Section):
    """[tokenizer]: how text becomes tokens."""

    kind: Literal["bpe", "unigram", "word", "char"] = "bpe"
    """bpe, unigram: subwords with byte fallback; word: words and punctuation; char: characters."""
    vocabulary: Positive | None = None
    """Most tokens, the special ones included. If not given: 10,000 for subwords, all that the text has otherwise."""
    normalize: list[Literal["nfc", "nfkc", "lower"]] = Field(default=[])
    """What is done to text before it is tokenised, in this order."""
    file: str | None = None
    """A finished tokenizer instead: a `tokenizer.json`, or a SentencePiece model; kind and vocabulary don't count then.
    """
    sample: Positive = 50_000_000
    """Most characters of the training text that the tokenizer learns from, drawn at random if there are more."""


class GPTRecipe(Section):
    """[model] of a language model: a preset, and what differs from it (Radford et al. 2019; Touvron et al. 2023). With
    `training.init_from` the sizes are those of the model there, which may be one of Hugging Face's."""

    name: Literal["gpt"] = "gpt"
    """The model; this one if not given."""
    preset: Literal[
        "gpt-nano",
        "gpt-micro",
        "gpt-mini",
        "gpt2",
        "gpt2-medium",
        "gpt2-large",
        "gpt2-xl",
        "llama-nano",
        "llama-mini",
        "llama-7b",
        "llama-3-8b",
    ] = "gpt-nano"
    """Sizes: gpt-nano (4 layers, 128), gpt-micro (6, 256), gpt-mini (8, 512), those of GPT-2 (124 million to 1.5
    billion weights); llama-…: RMSNorm, rotary positions, gated feed-forward, no biases."""
    max_length: Positive | None = None
    """Most positions; `data.length` if not given."""
    layers: Positive | None = None
    """Layers; this and the following default to the preset's."""
    width: Positive | None = None
    """Width of the residual stream."""
    feedforward: Positive | None = None
    """Width inside the feed-forward networks."""
    heads: Positive | None = None
    """Attention heads."""
    key_heads: Positive | None = None
    """Key/value heads, which divide the heads; as many as heads if not given."""
    head_width: Positive | None = None
    """Width of a head; `width` / `heads` if not given."""
    dropout: Share | None = None
    """On embeddings and on each sub-layer's output."""
    attention_dropout: Share | None = None
    """On attention weights."""
    norm: Literal["layer", "rms"] | None = None
    """LayerNorm or RMSNorm before each sub-layer."""
    norm_epsilon: PositiveFloat | None = None
    """Added to the variance in a norm."""
    positions: Literal["learned", "rotary", "sinusoidal"] | None = None
    """Vectors added to those of tokens, learned or sinusoidal, or queries and keys turned."""
    rotary_base: PositiveFloat | None = None
    """Of the wavelengths of rotary positions."""
    rotary_factor: PositiveFloat | None = None
    """By how much wavelengths are longer; 1 if not given."""
    rotary_original: Positive | None = None
    """Positions of the texts that the model was trained with before: wavelengths that are short for them stay, as in
    Llama 3.1. All are longer if not given."""
    rotary_low: PositiveFloat | None = None
    """With `rotary_original`: wavelengths that come round within it at most so often are longer; 1 if not given."""
    rotary_high: PositiveFloat | None = None
    """With `rotary_original`: those that come round at least so often stay; 4 if not given."""
    activation: Activation | None = None
    """Of the feed-forward networks; gelu_tanh is the approximation of GPT-2."""
    feedforward_kind: Literal["plain", "gated"] | None = None
    """Two matrices, or three with a gate."""
    bias: Literal["all", "queries_keys_values", "none"] | None = None
    """Which layers have biases."""
    shared: bool | None = None
    """Whether the output projection is the embedding table."""

    def settings(self) -> dict[str, Any]:
        """What is put in or replaced in the preset."""
        return self.model_dump(exclude={"name", "preset"}, exclude_none=True)


class BERTRecipe(Section):
    """[model] of an encoder: a preset, and what differs from it (Devlin et al. 2019). With `training.init_from` the
    sizes are those of the model there, which may be one of Hugging Face's."""

    name: Literal["bert"] = "bert"
    """The model; this one if not given."""
    preset: Literal["tiny", "mini", "small", "medium", "base", "large"] = "tiny"
    """Sizes: tiny (2 layers, 128), mini (4, 256), small (4, 512), medium (8, 512), base (12, 768), large (24, 1024)."""
    max_length: Positive | None = None
    """Most positions; `data.length` if not given."""
    layers: Positive | None = None
    """Layers; this and the following default to the preset's."""
    width: Positive | None = None
    """Width of the residual stream."""
    feedforward: Positive | None = None
    """Width inside the feed-forward networks."""
    heads: Positive | None = None
    """Attention heads."""
    types: Positive | None = None
    """Kinds of segments: first and second text."""
    dropout: Share | None = None
    """On embeddings and on each sub-layer's output."""
    attention_dropout: Share | None = None
    """On attention weights."""
    activation: Activation | None = None
    """Of the feed-forward networks."""
    norm_epsilon: PositiveFloat | None = None
    """Added to the variance in LayerNorm."""

    def settings(self) -> dict[str, Any]:
        """What is put in or replaced in the preset."""
        return self.model_dump(exclude={"name", "preset"}, exclude_none=True)


class TextTrainingSection(TrainingSection):
    """[training]: the budget is the first of epochs, steps, tokens and minutes to be reached."""

    sequences_per_batch: Positive = 32
    """Rows of a batch."""
    schedule: Literal["inverse_sqrt", "cosine", "linear", "constant"] = "cosine"
    """How the rate falls after the warm-up."""
    warmup: Annotated[int, Field(ge=0)] = 100
    """Steps over which the rate rises."""
    validation_tokens: Positive = 500_000
    """Most tokens of the validation part that a validation looks at: the first ones."""


class GenerationRecipe(Section):
    """[generation]: defaults of `regard generate`."""

    max_tokens: Positive = 200
    """Most tokens that are said."""
    temperature: PositiveFloat = 0.8
    """Below 1 probable tokens become more probable, above 1 less."""
    top_k: Positive | None = None
    """Only the k most probable tokens can be said."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Only the most probable tokens that together have this probability can be said."""


class MaskingRecipe(Section):
    """[masking]: which tokens are hidden, and how (Devlin et al. 2019)."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Of the tokens of a row, the part that the model must say."""
    masked: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Of these, the part in whose place the mask stands."""
    random: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Of these, the part in whose place a random token stands; the rest stays as it is."""

    @model_validator(mode="after")
    def _check_shares(self) -> "MaskingRecipe":
        if self.masked + self.random > 1:
            raise ValueError(f"masking.masked + masking.random = {self.masked + self.random:g}: expected 1 or less")
        return self


class LanguageModellingRecipe(BaseRecipe):
    """A recipe for a language model."""

    task: Literal["language_modelling"] = "language_modelling"
    """What is learned: to say the next token of a text."""
    data: StreamDataRecipe
    tokenizer: TextTokenizerRecipe = TextTokenizerRecipe()
    model: GPTRecipe = GPTRecipe()
    training: TextTrainingSection = TextTrainingSection()
    generation: GenerationRecipe = GenerationRecipe()

    def prepared_folder(self) -> str | None:
        """See `BaseRecipe.prepared_folder`."""
        return self.data.prepared


class MaskedModellingRecipe(BaseRecipe):
    """A recipe for a masked-language model."""

    task: Literal["masked_language_modelling"] = "masked_language_modelling"
    """What is learned: to say tokens of a text that are hidden."""
    data: MaskedDataRecipe
    tokenizer: TextTokenizerRecipe = TextTokenizerRecipe()
    model: BERTRecipe = BERTRecipe()
    masking: MaskingRecipe = MaskingRecipe()
    training: TextTrainingSection = TextTrainingSection()

    def prepared_folder(self) -> str | None:
        """See `BaseRecipe.prepared_folder`."""
        return self.data.prepared
