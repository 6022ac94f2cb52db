"""What the works of running text have in common: rows made of a tokenised text, and one tokenizer."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from regard.models.config import ModelConfig
from regard.runs.directory import JOINT
from regard.runs.text_batches import B, TextRows
from regard.runs.text_corpus import TextCorpus
from regard.runs.work.contract import Work
from regard.training import Indices, Metric, Problem


class TextWork(Work[B]):
    """A model of running text to be trained.

    Args:
        corpus: its data, tokenised.
        config: of the model.
        vocabulary: its tokens.
        length: tokens of a row.
        rows: of the training part.
    """

    def __init__(
        self, corpus: TextCorpus, config: ModelConfig, vocabulary: int, length: int, rows: TextRows[B]
    ) -> None:
        self.corpus, self.config, self.rows = corpus, config, rows
        self.facts, self.notes, self.metric = corpus.facts, corpus.notes, Metric("loss", "min")
        self._vocabulary, self._length = vocabulary, length

    def problem(self, loss: Callable[[B], Tensor]) -> Problem[B]:
        """See `Work.problem`."""
        return Problem(epoch=self.rows.epoch, collate=self.rows.collate, tokens=lambda batch: batch.count, loss=loss)

    def target_tokens(self, indices: Indices) -> int:
        """See `Work.target_tokens`: one `<eos>` a document included, or the hidden tokens."""
        return self.rows.targets(indices)

    def real(self, batch: B) -> Mapping[str, Tensor]:
        """See `Work.real`."""
        return {"text": batch.real}

    def keep(self, directory: Path) -> None:
        """See `Work.keep`: the tokenizer."""
        self.corpus.tokenizer.save(directory / JOINT)

    def words(self) -> list[str]:
        """See `Work.words`."""
        train, valid = self.corpus.tokens.train, self.corpus.tokens.valid
        padding = f", {100 * self.rows.padding:.1f} % padding" if self.rows.padding else ""
        return [
            f"{len(train.tokens):,} training tokens in {self.rows.count:,} rows of {self._length}{padding}, "
            f"{len(valid.tokens):,} for validation; vocabulary: {self._vocabulary:,} tokens"
        ]

    def sizes(self) -> dict[str, str]:
        """See `Work.sizes`."""
        train, valid = (self.corpus.tokens.counts[part] for part in ("train", "valid"))
        return {
            "vocabulary": f"{self._vocabulary:,} tokens",
            "training part": f"{train.documents:,} documents, {train.tokens:,} tokens, {train.characters:,} characters",
            "validation part": (
                f"{valid.documents:,} documents, {valid.tokens:,} tokens, {valid.characters:,} characters"
            ),
        }
