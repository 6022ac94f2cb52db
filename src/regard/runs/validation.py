"""What a run measures on the validation part: loss, perplexity, BLEU of greedy translations, and some samples."""

import math
import time
from dataclasses import dataclass

import torch

from regard.data import inference_batches
from regard.models.encoder_decoder import EncoderDecoder
from regard.runs.corpus import Encoded
from regard.runs.directory import Tokenizers
from regard.runs.recipe import Recipe
from regard.runs.translator import BATCH_ROWS, BATCH_TOKENS, Translator, specials_of
from regard.runs.work.contract import Validator
from regard.tasks.metrics import text_quality
from regard.tasks.translation import collate, translation_loss

SAMPLES = 3


@dataclass(frozen=True)
class Sample:
    """A validation sentence, its reference, and what the model says now."""

    source: str
    reference: str
    translation: str


class TranslationValidator(Validator):
    """Callable that judges the model as it stands; afterwards `samples` has some translations.

    Metrics: loss (mean cross-entropy of a target token in nats, unsmoothed), perplexity, and where sentences are
    translated: bleu and exact (per cent, greedy decoding, the first `validation_sentences` sentences).
    """

    def __init__(self, model: EncoderDecoder, tokenizers: Tokenizers, part: Encoded, recipe: Recipe) -> None:
        super().__init__(model)
        self.part, self._judged = part, model
        self.translator = Translator(model, tokenizers, recipe.decoding.model_dump())
        self.specials = specials_of(tokenizers)
        self.count = min(recipe.training.validation_sentences, len(part))
        self.samples: list[Sample] = []

    def __call__(self, step: int) -> dict[str, float]:
        """Judge the model; `step` is only for the caller's record."""
        self.model.eval()
        loss = self._loss()
        metrics = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        if self.count:
            sources = self.part.source_texts[: self.count]
            references = self.part.target_texts[: self.count]
            said = [one.text for one in self.translator.translate(sources, beam=1)]
            quality = text_quality(said, references)
            metrics |= {"bleu": quality.bleu.score, "exact": quality.exact}
            self.samples = [Sample(*row) for row in zip(sources, references, said, strict=True)][:SAMPLES]
        return metrics

    def seconds(self) -> float:
        """Measured time of one validation, translations cut where references end (untrained models run on)."""
        self.model.eval()
        longest = max((len(row) for row in self.part.target[: self.count]), default=0)
        started = time.perf_counter()
        self._loss()
        self.translator.translate(self.part.source_texts[: self.count], beam=1, max_length=longest)
        return time.perf_counter() - started

    def shown(self) -> list[str]:
        """Some sources, their references and what the model says now."""
        return [f"    {one.source}\n    = {one.reference}\n    → {one.translation}" for one in self.samples]

    def _loss(self) -> float:
        part, device = self.part, self.translator.device
        lengths = [max(len(a), len(b)) + 1 for a, b in zip(part.source, part.target, strict=True)]
        total, count = 0.0, 0
        with torch.no_grad():
            for batch in inference_batches(lengths, BATCH_TOKENS, BATCH_ROWS):
                rows = [int(i) for i in batch]
                pairs = collate([part.source[i] for i in rows], [part.target[i] for i in rows], self.specials, device)
                loss, tokens = translation_loss(self._judged, pairs, 0.0)
                total, count = total + float(loss), count + tokens
        return total / count
