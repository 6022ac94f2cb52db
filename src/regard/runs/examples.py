"""Training examples: batches of a tokenised corpus, in the order of each epoch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from regard.data.subword_dropout import BPEDropout
from regard.errors import ArgumentError, DataError, RecipeError, UnsupportedError
from regard.runs.corpus import Corpus, training_batches
from regard.runs.recipe import Recipe
from regard.runs.translator import specials_of
from regard.tasks.translation import TranslationBatch, collate
from regard.training import Problem

Rows = list[Sequence[int]]


class TrainingExamples:
    """The training part of a corpus as the loop wants it.

    Args:
        corpus: tokenised.
        recipe: batch size, seed, BPE dropout.
        positions: of the model; a sentence and its `<bos>` or `<eos>` must fit.
        device: where batches go.

    Raises:
        RecipeError: a batch size below the longest sentence, or dropout for a tokenizer that has none.
    """

    def __init__(self, corpus: Corpus, recipe: Recipe, positions: int, device: torch.device) -> None:
        self.part, self.device = corpus.train, device
        self.specials = specials_of(corpus.tokenizers)
        self.seed, self.most = recipe.training.seed, positions - 1
        size, probability = recipe.training.tokens_per_batch, recipe.tokenizer.dropout
        try:
            weights = [part.weight for part in recipe.data.parts()]
            self.batches = training_batches(self.part, size, self.seed, weights)
        except (ArgumentError, DataError) as error:
            raise RecipeError(f"training.tokens_per_batch = {size}: {error}") from error
        tokenizers = corpus.tokenizers
        self.dropouts: list[BPEDropout] = []
        if probability:
            try:
                target = BPEDropout(tokenizers.target, probability)
                source = target if tokenizers.joint else BPEDropout(tokenizers.source, probability)
            except UnsupportedError as error:
                raise RecipeError(f"tokenizer.dropout = {probability}: {error}") from error
            self.dropouts = [source, target]

    def problem(self, loss: Callable[[TranslationBatch], Tensor]) -> Problem[TranslationBatch]:
        """The learning problem with this summed loss."""
        return Problem(epoch=self.batches.epoch, collate=self._collate, tokens=lambda batch: batch.count, loss=loss)

    def _collate(self, indices: Any, epoch: int) -> TranslationBatch:
        sources: Rows = [self.part.source[i].tolist() for i in indices]
        targets: Rows = [self.part.target[i].tolist() for i in indices]
        for side, (rows, dropout) in enumerate(zip((sources, targets), self.dropouts, strict=False)):
            for place, index in enumerate(indices):
                row = dropout(rows[place], (self.seed, epoch, int(index), side))
                if len(row) <= self.most:  # a long sentence in smaller pieces may have no place
                    rows[place] = row
        return collate(sources, targets, self.specials, self.device)
