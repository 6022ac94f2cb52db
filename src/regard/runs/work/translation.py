"""Translation as work for a training run: parallel text, any encoder–decoder model, BLEU of greedy translations."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from regard.errors import CheckpointError, RecipeError
from regard.models.config import ModelConfig
from regard.models.encoder_decoder import EncoderDecoder
from regard.models.families import build_model
from regard.runs.attention_health import check_attention
from regard.runs.build import model_config
from regard.runs.corpus import Corpus, join_corpus, prepare_corpus
from regard.runs.directory import CONFIG, Tokenizers, read_config, save_model
from regard.runs.examples import TrainingExamples
from regard.runs.recipe import Recipe
from regard.runs.validation import TranslationValidator
from regard.runs.work.contract import Place, Work
from regard.tasks.translation import TranslationBatch, TranslationObjective
from regard.training import Indices, Metric, Problem


class TranslationWork(Work[TranslationBatch]):
    """A translator to be trained.

    Args:
        recipe: of the run.
        corpus: its data, tokenised.
        device: where batches go.

    Raises:
        RecipeError: the recipe doesn't fit together.
    """

    def __init__(self, recipe: Recipe, corpus: Corpus, device: torch.device) -> None:
        self.recipe, self.corpus = recipe, corpus
        self.facts, self.notes = corpus.facts, corpus.notes
        self.metric = Metric("loss", "min") if recipe.training.metric == "loss" else Metric("bleu", "max")
        self._config = model_config(recipe.model, corpus.tokenizers)
        self.config = self._config
        self._examples = TrainingExamples(corpus, recipe, self._config.max_length, device)

    def build(self) -> EncoderDecoder:
        """See `Work.build`."""
        return build_model(self._config)

    def objective(self, model: nn.Module) -> nn.Module:
        """See `Work.objective`."""
        return TranslationObjective(cast(EncoderDecoder, model), self.recipe.training.label_smoothing)

    def problem(self, loss: Callable[[TranslationBatch], Tensor]) -> Problem[TranslationBatch]:
        """See `Work.problem`."""
        return self._examples.problem(loss)

    def target_tokens(self, indices: Indices) -> int:
        """See `Work.target_tokens`; one `<eos>` a sentence included."""
        return self.corpus.train.target_tokens_of(indices)

    def validator(self, model: nn.Module) -> TranslationValidator:
        """See `Work.validator`."""
        return TranslationValidator(cast(EncoderDecoder, model), self.corpus.tokenizers, self.corpus.valid, self.recipe)

    def real(self, batch: TranslationBatch) -> Mapping[str, Tensor]:
        """See `Work.real`."""
        lengths = batch.sources.lengths  # (B,)
        source = torch.arange(batch.sources.tokens.shape[1], device=lengths.device) < lengths[:, None]  # (B, S)
        return {"source": source, "target": batch.real}

    def keep(self, directory: Path) -> None:
        """See `Work.keep`: the tokenizers."""
        self.corpus.tokenizers.save(directory)

    def save(self, directory: Path, weights: dict[str, Tensor]) -> None:
        """See `Work.save`."""
        save_model(directory, self._config, weights, self.recipe.decoding.model_dump())

    def words(self) -> list[str]:
        """See `Work.words`."""
        train, valid = self.corpus.train, self.corpus.valid
        source, target = self._config.source_vocabulary, self._config.target_vocabulary
        joint = self.corpus.tokenizers.joint
        sizes = f"{target:,} tokens for both languages" if joint else f"{source:,} source and {target:,} target tokens"
        return [
            f"{len(train):,} training pairs ({train.target_tokens:,} target tokens), {len(valid):,} for validation; "
            f"vocabulary: {sizes}"
        ]

    def sizes(self) -> dict[str, str]:
        """See `Work.sizes`."""
        source, target = self._config.source_vocabulary, self._config.target_vocabulary
        return {
            "vocabulary": f"{source:,} source, {target:,} target tokens",
            "training part": f"{len(self.corpus.train):,} pairs, {self.corpus.train.target_tokens:,} target tokens",
            "validation part": f"{len(self.corpus.valid):,} pairs",
        }

    def less_validated(self) -> str:
        """See `Work.less_validated`."""
        return "have less validated (training.validation_sentences)"

    def next_commands(self, directory: Path) -> list[str]:
        """See `Work.next_commands`."""
        commands = [f"regard translate {directory} < input > output"]
        if self.validator(self.build()).translator.attends:
            commands.append(f'regard attend {directory} "a sentence"')
        return commands


def open_translation(recipe: Recipe, place: Place) -> TranslationWork:
    """Read and tokenise the data of a recipe, or find them prepared.

    Raises:
        RecipeError: the recipe doesn't fit together, or the folder holds something else.
        DataError: the data cannot be used.
        CheckpointError: `training.init_from` has no tokenizer, or is a model for another task.
    """
    check_attention(recipe)
    positions = recipe.model.max_length or ModelConfig.max_length
    if recipe.data.max_length + 1 > positions:  # before anything is tokenised
        raise RecipeError(
            f"data.max_length = {recipe.data.max_length} tokens and one <eos> need more positions than "
            f"model.max_length = {positions}"
        )
    if place.main:
        known = _known_tokenizers(recipe, place.out)
        corpus = prepare_corpus(recipe, place.folder, known, place.say, place.progress, place.begun)
    else:
        corpus = join_corpus(recipe, place.folder)
    return TranslationWork(recipe, corpus, place.device)


def _known_tokenizers(recipe: Recipe, out: Path) -> Tokenizers | None:
    """The run's own if it has begun, else those of `init_from`, else none yet."""
    known = Tokenizers.load(out) if out.is_dir() else None
    origin = recipe.training.init_from
    if known is not None or origin is None:
        return known
    if (Path(origin) / CONFIG).exists() and (task := read_config(Path(origin)).task) != recipe.task:
        raise CheckpointError(f"{Path(origin) / CONFIG}: a model for {task}: expected one for {recipe.task}")
    known = Tokenizers.load(Path(origin))
    if known is None:
        raise CheckpointError(f"{origin}: not a model directory, it has no tokenizer")
    return known
