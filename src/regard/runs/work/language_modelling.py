"""Language modelling as work for a training run: running text, a GPT, perplexity, and what it goes on to say."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, DataError, RecipeError
from regard.models.gpt import GPT, GPTConfig, build_gpt
from regard.runs.directory import write_model
from regard.runs.text_batches import PackedText, StreamText, TextRows, packed_in_order, stream_in_order
from regard.runs.text_corpus import TextCorpus, open_text_corpus, part_name
from regard.runs.text_origin import TextOrigin, read_text_origin
from regard.runs.text_reading import TextReading
from regard.runs.text_recipes import LanguageModellingRecipe
from regard.runs.work.contract import Place, Validator
from regard.runs.work.text_parts import TextWork
from regard.tasks.language_modelling import LanguageModellingObjective, TextBatch, language_loss

PROMPT, SAID = 16, 48
"""Tokens of the validation text that a sample begins with, and of what the model says then."""


class LanguageModelling(TextWork[TextBatch]):
    """A language model to be trained.

    Args:
        recipe: of the run.
        corpus: its data, tokenised.
        device: where batches go.
        origin: the model that it starts from.

    Raises:
        RecipeError: the recipe doesn't fit together.
        DataError: the text is shorter than a row.
    """

    def __init__(
        self,
        recipe: LanguageModellingRecipe,
        corpus: TextCorpus,
        device: torch.device,
        origin: TextOrigin[GPTConfig] | None = None,
    ) -> None:
        self.recipe, self.corpus, self.device, self.origin = recipe, corpus, device, origin
        self._config = gpt_config(recipe, corpus.tokenizer.vocab_size, origin)
        self.marks = marks_of(corpus.tokenizer, self._config.vocabulary, origin)
        super().__init__(corpus, self._config, self._config.vocabulary, recipe.data.length, self._rows())

    def _rows(self) -> TextRows[TextBatch]:
        rows, length, training = self.corpus.tokens.train, self.recipe.data.length, self.recipe.training
        size, seed = training.sequences_per_batch, training.seed
        try:
            if self.recipe.data.layout == "stream":
                return StreamText(rows, length, size, seed, self.device)
            return PackedText(rows, length, self.marks.begin, self.marks.pad, size, seed, self.device)
        except DataError as error:
            raise DataError(f"{part_name(self.recipe.data, 'train')}: {error}") from error

    def build(self) -> GPT:
        """See `Work.build`."""
        return build_gpt(self._config)

    def start_from(self, model: nn.Module, origin: Path) -> None:
        """See `Work.start_from`; a GPT of Hugging Face's too."""
        if self.origin is not None:
            self.origin.put_into(model)

    def objective(self, model: nn.Module) -> nn.Module:
        """See `Work.objective`."""
        return LanguageModellingObjective(cast(GPT, model))

    def validator(self, model: nn.Module) -> "TextValidator":
        """See `Work.validator`."""
        return TextValidator(cast(GPT, model), self.corpus, self.recipe, self.marks, self.device)

    def save(self, directory: Path, weights: dict[str, Tensor]) -> None:
        """See `Work.save`: config.json also says what a document was, and how rows were made."""
        reading = TextReading(self.recipe.data.document, self.recipe.data.layout)
        content = {"generation": self.generation()} | reading.content()
        write_model(directory, self.recipe.task, self._config, weights, content)

    def generation(self) -> dict[str, Any]:
        """What config.json says of generation: `begin`, the id before a text, `end`, those after it, and the defaults.

        Packed documents begin with <bos>. In a stream each follows the <eos> of the one before it; of a single document
        no beginning is seen, so there `begin` is None.
        """
        packed = self.recipe.data.layout == "packed"
        before = self.marks.end if len(self.corpus.tokens.train) > 1 else None
        ends = {"begin": self.marks.begin if packed else before, "end": [self.marks.end]}
        return ends | self.recipe.generation.model_dump()

    def next_commands(self, directory: Path) -> list[str]:
        """See `Work.next_commands`."""
        return [f'regard generate {directory} "a beginning"', f'regard attend {directory} "a sentence"']


class TextValidator(Validator):
    """Judges a language model on the validation text; then `shown` has a beginning of it, and how the model goes on.

    Metrics: loss (mean cross-entropy of a token in nats, <eos> included), perplexity, and bits_per_byte: the loss of
    all tokens over the UTF-8 bytes of the text, by which models with different tokenizers can be compared. Rows are
    cut as in training, so a token sees up to `data.length` tokens before it; each is predicted once.
    """

    def __init__(
        self,
        model: GPT,
        corpus: TextCorpus,
        recipe: LanguageModellingRecipe,
        marks: "Marks",
        device: torch.device,
    ) -> None:
        super().__init__(model)
        self._gpt, self._corpus, self._recipe, self._marks, self._device = model, corpus, recipe, marks, device
        self._sample: list[str] = []

    def __call__(self, step: int) -> dict[str, float]:
        """Judge the model; `step` is only for the caller's record."""
        self.model.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for batch in self._batches():
                total += float(language_loss(self._gpt, batch))
                count += batch.count
            self._sample = [self._said()]
        loss = total / count
        per_byte = total / (math.log(2) * bytes_of(self._corpus, count))
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "bits_per_byte": per_byte}

    def seconds(self) -> float:
        """See `Validator.seconds`."""
        started = time.perf_counter()
        self(0)
        return time.perf_counter() - started

    def shown(self) -> list[str]:
        """A beginning of the validation text, and after the bar what the model says then (greedily)."""
        return self._sample

    def _batches(self) -> Iterator[TextBatch]:
        data, marks = self._recipe.data, self._marks
        rows, most = self._corpus.tokens.valid, self._recipe.training.validation_tokens
        if data.layout == "stream":
            return stream_in_order(rows, data.length, marks.end, most, self._device)
        return packed_in_order(rows, data.length, marks.begin, marks.pad, most, self._device)

    def _said(self) -> str:
        """The prompt and what the model says: of a short document the first half is the prompt."""
        tokenizer, data = self._corpus.tokenizer, self._recipe.data
        document = self._corpus.tokens.valid[0][:-1]  # without its <eos>
        many = min(PROMPT, data.length // 2, max(1, len(document) // 2))
        prompt = document[:many].astype(np.int64).tolist()
        before = [self._marks.begin] if data.layout == "packed" else [] if prompt else [self._marks.end]
        more = min(SAID, self._gpt.config.max_length - len(before) - len(prompt))
        said = greedy_tokens(self._gpt, [*before, *prompt], more, self._marks.end, self._device)
        return f"{text_shown(tokenizer, prompt)}│{text_shown(tokenizer, said)}"


def greedy_tokens(model: GPT, prompt: list[int], most: int, end: int, device: torch.device) -> list[int]:
    """The most probable next token, again and again, until `end` or `most` of them; `model` is in evaluation mode.

    Args:
        model: what says it.
        prompt: what stands before, one token or more.
        most: tokens that are said.
        end: the token after which nothing more is said.
        device: of the model.
    """
    tokens = torch.tensor([prompt], device=device)
    state = model.start(tokens[:, :-1], torch.tensor([len(prompt) - 1], device=device))
    last, said = tokens[:, -1], list[int]()
    while len(said) < most and (not said or said[-1] != end):
        log_probs, state = model.step(last, state)
        last = log_probs.argmax(-1)
        said.append(int(last))
    return said


def text_shown(tokenizer: Tokenizer, ids: list[int]) -> str:
    """A part of a text in one line."""
    return tokenizer.text_of(ids).decode("utf-8", "replace").replace("\n", "⏎")


def bytes_of(corpus: TextCorpus, tokens: int) -> float:
    """The UTF-8 bytes of the first `tokens` tokens of the validation text: all of them, or the share of them that
    these tokens' surfaces are of."""
    valid = corpus.tokens.valid
    total = float(corpus.tokens.counts["valid"].bytes)
    if tokens >= len(valid.tokens):
        return total
    sizes = np.array([len(surface) for surface in corpus.tokenizer.surfaces])
    return total * float(sizes[valid.tokens[:tokens]].sum()) / float(sizes[valid.tokens].sum())


@dataclass(frozen=True)
class Marks:
    """The ids of what no text holds: the beginning of a packed document, the end of any, and padding."""

    begin: int
    end: int
    pad: int


def marks_of(tokenizer: Tokenizer, vocabulary: int, origin: TextOrigin[GPTConfig] | None) -> Marks:
    """The special tokens of a model. A tokenizer of others may have some that the model has no row for; then its end
    of text stands in their place.

    Raises:
        RecipeError: the model has none for that either.
    """
    end = tokenizer.eos_id
    if end >= vocabulary:
        raise RecipeError("training.init_from: its tokenizer has no token for the end of a text")
    known = None if origin is None else origin.content.get("generation", {}).get("begin")
    begin, pad = (one if one < vocabulary else end for one in (tokenizer.bos_id, tokenizer.pad_id))
    return Marks(begin if known is None else int(known), end, pad)


def gpt_config(
    recipe: LanguageModellingRecipe, vocabulary: int, origin: TextOrigin[GPTConfig] | None = None
) -> GPTConfig:
    """The configuration of a recipe's model, or of the one that it starts from; rows have room in it.

    Raises:
        RecipeError: sizes that don't fit each other.
    """
    settings = recipe.model.settings()
    try:
        config = GPTConfig.preset(
            recipe.model.preset, vocabulary=vocabulary, **({"max_length": recipe.data.length} | settings)
        )
    except ArgumentError as error:
        raise RecipeError(f"model.{error}") from error
    config = config if origin is None else origin.changed(config, settings)
    check_room(recipe.data.length, config.max_length)
    return config


def check_room(length: int, positions: int) -> None:
    """Raise `RecipeError` where rows are longer than a model has positions."""
    if length > positions:
        raise RecipeError(f"data.length = {length} needs as many positions, but model.max_length = {positions}")


def open_language_modelling(recipe: LanguageModellingRecipe, place: Place) -> LanguageModelling:
    """Read and tokenise the data of a recipe, or find them prepared.

    Raises:
        RecipeError: the recipe doesn't fit together, or the folder holds something else.
        DataError: the data cannot be used.
        CheckpointError: `training.init_from` cannot be used.
    """
    origin = read_text_origin(recipe.training.init_from, recipe.task, GPTConfig)
    gpt_config(recipe, 1, origin)  # before anything is tokenised
    corpus = open_text_corpus(recipe.data, recipe.tokenizer, None if origin is None else origin.tokenizer, place)
    return LanguageModelling(recipe, corpus, place.device, origin)
