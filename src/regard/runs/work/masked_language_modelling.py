"""Masked-language modelling as work for a training run: running text, BERT, and what it says of hidden tokens."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from regard.data.masking import Masking
from regard.data.text_store import Part
from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, DataError, RecipeError
from regard.models.bert import BERTConfig, MaskedLanguageModel, build_masked_language_model
from regard.runs.directory import write_model
from regard.runs.masked_batches import Frame, MaskedPacked, MaskedPairs, MaskedRows, MaskedStream
from regard.runs.text_batches import JUDGED
from regard.runs.text_corpus import TextCorpus, open_text_corpus, part_name
from regard.runs.text_origin import TextOrigin, read_text_origin
from regard.runs.text_recipes import MaskedModellingRecipe
from regard.runs.work.contract import Place, Validator
from regard.runs.work.language_modelling import check_room, text_shown
from regard.runs.work.text_parts import TextWork
from regard.tasks.masked_language_modelling import MaskedBatch, MaskedObjective, judge_masked

SHOWN = 40
"""Tokens of a sample."""

LAYOUTS: Final[dict[str, type[MaskedStream] | type[MaskedPacked] | type[MaskedPairs]]] = {
    "stream": MaskedStream,
    "packed": MaskedPacked,
    "pairs": MaskedPairs,
}
"""How rows are made, by `data.layout`."""


class MaskedModelling(TextWork[MaskedBatch]):
    """A masked-language model to be trained.

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
        recipe: MaskedModellingRecipe,
        corpus: TextCorpus,
        device: torch.device,
        origin: TextOrigin[BERTConfig] | None = None,
    ) -> None:
        self.recipe, self.corpus, self.device, self.origin = recipe, corpus, device, origin
        self.mask = mask_of(corpus.tokenizer)
        self.next_sentence = recipe.data.layout == "pairs"
        self._config = bert_config(recipe, max(corpus.tokenizer.vocab_size, self.mask + 1), origin)
        special = max(corpus.tokenizer.bos_id, corpus.tokenizer.eos_id, corpus.tokenizer.pad_id, self.mask)
        if special >= self._config.vocabulary:
            raise RecipeError("training.init_from: its tokenizer has no [CLS], [SEP], [PAD] or [MASK]")
        super().__init__(corpus, self._config, self._config.vocabulary, recipe.data.length, self._rows("train"))
        self._valid = self._rows("valid")  # a text that is too short is an error at once

    def _rows(self, part: Part) -> MaskedRows:
        tokenizer, training, masking = self.corpus.tokenizer, self.recipe.training, self.recipe.masking
        special = [tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, self.mask]
        ordinary = np.setdiff1d(np.arange(min(tokenizer.vocab_size, self._config.vocabulary)), special)
        frame = Frame(tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)
        hide = Masking(self.mask, ordinary, training.seed, masking.share, masking.masked, masking.random)
        rows = LAYOUTS[self.recipe.data.layout]
        size = training.sequences_per_batch
        documents = self.corpus.tokens.train if part == "train" else self.corpus.tokens.valid
        try:
            return rows(documents, self.recipe.data.length, frame, size, training.seed, hide, self.device)
        except DataError as error:
            raise DataError(f"{part_name(self.recipe.data, part)}: {error}") from error

    def build(self) -> MaskedLanguageModel:
        """See `Work.build`."""
        return build_masked_language_model(self._config, self.next_sentence)

    def start_from(self, model: nn.Module, origin: Path) -> None:
        """See `Work.start_from`; a BERT of Hugging Face's too. What says whether a sentence follows is left out where
        the recipe has no such pairs."""
        if self.origin is not None:
            self.origin.put_into(model, leave_out=() if self.next_sentence else ("pooler.", "next_sentence."))

    def objective(self, model: nn.Module) -> nn.Module:
        """See `Work.objective`."""
        return MaskedObjective(cast(MaskedLanguageModel, model))

    def validator(self, model: nn.Module) -> "MaskedValidator":
        """See `Work.validator`."""
        most = max(1, self.recipe.training.validation_tokens // self.recipe.data.length)
        rows = min(most, self._valid.count)
        many = max(1, JUDGED // self.recipe.data.length)
        return MaskedValidator(cast(MaskedLanguageModel, model), self.corpus.tokenizer, self._valid, rows, many)

    def save(self, directory: Path, weights: dict[str, Tensor]) -> None:
        """See `Work.save`."""
        content = {"mask": self.mask, "next_sentence": self.next_sentence}
        write_model(directory, self.recipe.task, self._config, weights, content)

    def next_commands(self, directory: Path) -> list[str]:
        """See `Work.next_commands`."""
        return [f'regard fill {directory} "a text with a [MASK] in it"', f'regard attend {directory} "a sentence"']


class MaskedValidator(Validator):
    """Judges a masked-language model on the validation text, always with the same tokens hidden; then `shown` has some.

    Metrics: loss (mean cross-entropy of a hidden token in nats), perplexity, accuracy (the share of hidden tokens
    for which the most probable one is right), and where the model learns it: next_sentence (the share that is right).

    Args:
        model: judged.
        tokenizer: of the text.
        rows: the validation text.
        count: how many of its rows are looked at.
        size: rows of a batch.
    """

    def __init__(
        self, model: MaskedLanguageModel, tokenizer: Tokenizer, rows: MaskedRows, count: int, size: int
    ) -> None:
        super().__init__(model)
        self._masked, self._tokenizer, self._rows, self._count, self._size = model, tokenizer, rows, count, size
        self._sample: list[str] = []

    def __call__(self, step: int) -> dict[str, float]:
        """Judge the model; `step` is only for the caller's record."""
        self.model.eval()
        loss, right, hidden, followed, pairs = 0.0, 0, 0, 0, 0
        for number, batch in enumerate(self._batches()):
            found = judge_masked(self._masked, batch)
            loss, right, hidden = loss + found.loss, right + found.right, hidden + batch.count
            if batch.follows is not None:
                followed, pairs = followed + found.followed, pairs + len(batch.follows)
            if number == 0:
                self._sample = [self._filled(batch, found.said)]
        mean = loss / hidden
        metrics = {"loss": mean, "perplexity": math.exp(min(mean, 700.0)), "accuracy": right / hidden}
        return metrics | ({"next_sentence": followed / pairs} if pairs else {})

    def seconds(self) -> float:
        """See `Validator.seconds`."""
        started = time.perf_counter()
        self(0)
        return time.perf_counter() - started

    def shown(self) -> list[str]:
        """A beginning of the validation text: [what the model says in a hidden place], and what stood there if not."""
        return self._sample

    def _batches(self) -> Iterator[MaskedBatch]:
        for start in range(0, self._count, self._size):
            yield self._rows.collate(np.arange(start, min(start + self._size, self._count)), 0)

    def _filled(self, batch: MaskedBatch, said: Tensor) -> str:
        """The first row in words."""
        tokens, chosen = batch.tokens[0].tolist(), batch.chosen[0].tolist()
        answers = iter(zip(said.tolist(), batch.targets.tolist(), strict=True))
        parts, plain = list[str](), list[int]()
        for index, hidden in list(zip(tokens, chosen, strict=True))[:SHOWN]:
            if not hidden:
                plain.append(index)
                continue
            answer, true = (text_shown(self._tokenizer, self._known(one)) for one in next(answers))
            before = " " if true.startswith(" ") else ""
            answer, true = (one.strip() or "␣" for one in (answer, true))
            says = answer if answer == true else f"{answer}, not {true}"
            parts.append(f"{text_shown(self._tokenizer, plain)}{before}[{says}]")
            plain = []
        return "".join([*parts, text_shown(self._tokenizer, plain)]).strip()

    def _known(self, index: int) -> list[int]:
        """An id, unless it is a mask that the tokenizer doesn't know."""
        return [index] if index < self._tokenizer.vocab_size else []


def mask_of(tokenizer: Tokenizer) -> int:
    """The id in place of a hidden token: the tokenizer's own, or else one behind its vocabulary."""
    return tokenizer.vocab_size if tokenizer.mask_id is None else tokenizer.mask_id


def bert_config(
    recipe: MaskedModellingRecipe, vocabulary: int, origin: TextOrigin[BERTConfig] | None = None
) -> BERTConfig:
    """The configuration of a recipe's model, or of the one that it starts from; rows have room in it.

    Raises:
        RecipeError: sizes that don't fit each other.
    """
    settings = recipe.model.settings()
    try:
        config = BERTConfig.preset(
            recipe.model.preset, vocabulary=vocabulary, **({"max_length": recipe.data.length} | settings)
        )
    except ArgumentError as error:
        raise RecipeError(f"model.{error}") from error
    config = config if origin is None else origin.changed(config, settings)
    if recipe.data.layout == "pairs" and config.types < 2:
        raise RecipeError(f'data.layout = "pairs" has two segments a row, but model.types = {config.types}')
    check_room(recipe.data.length, config.max_length)
    return config


def open_masked_language_modelling(recipe: MaskedModellingRecipe, place: Place) -> MaskedModelling:
    """Read and tokenise the data of a recipe, or find them prepared.

    Raises:
        RecipeError: the recipe doesn't fit together, or the folder holds something else.
        DataError: the data cannot be used.
        CheckpointError: `training.init_from` cannot be used.
    """
    origin = read_text_origin(recipe.training.init_from, recipe.task, BERTConfig)
    bert_config(recipe, 5, origin)  # before anything is tokenised
    corpus = open_text_corpus(recipe.data, recipe.tokenizer, None if origin is None else origin.tokenizer, place)
    return MaskedModelling(recipe, corpus, place.device, origin)
