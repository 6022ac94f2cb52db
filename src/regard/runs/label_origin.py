"""What a classifier or tagger begins with: the encoder and the tokenizer of a trained model, or fresh ones."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from regard.data.given_tokenizers import read_tokenizer
from regard.data.tokenizer_training import train_tokenizer
from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, CheckpointError, RecipeError
from regard.interop.huggingface.directory import is_directory
from regard.interop.huggingface.weights import read_weights
from regard.models.bert import BERT, BERTConfig, MaskedLanguageModel, SentenceClassifier, TokenTagger
from regard.runs.directory import CONFIG, JOINT, SavedConfig, read_config, read_json
from regard.runs.label_recipes import ClassificationRecipe, TaggingRecipe
from regard.runs.labels import Classifier, Tagger, open_classification, open_tagging
from regard.runs.masked_model import MaskedModel, open_masked_language_modelling
from regard.runs.work.contract import Place
from regard.training import load_weights_into

OPENERS: Final[dict[str, Callable[[Path, SavedConfig, torch.device], MaskedModel | Classifier | Tagger]]] = {
    "masked_language_modelling": open_masked_language_modelling,
    "classification": open_classification,
    "tagging": open_tagging,
}
"""Models with an encoder to start from, by their task."""
FREE: Final = ("dropout", "attention_dropout")
"""What a recipe may say otherwise than the model that it starts from."""


@dataclass(frozen=True)
class Origin:
    """An encoder that has learned something.

    Attributes:
        config: of the encoder.
        weights: its state.
        tokenizer: of its texts.
        path: where it is from.
    """

    config: BERTConfig
    weights: dict[str, Tensor]
    tokenizer: Tokenizer
    path: Path

    def put_into(self, encoder: nn.Module) -> None:
        """Put the weights into an encoder of the same sizes.

        Raises:
            CheckpointError: it has others.
        """
        load_weights_into(encoder, self.weights, self.path)


@dataclass(frozen=True)
class Begun:
    """What a run begins with.

    Attributes:
        config: of the encoder.
        tokenizer: of its texts.
        origin: the trained model that weights come from; None for fresh ones.
    """

    config: BERTConfig
    tokenizer: Tokenizer
    origin: Origin | None


def read_origin(directory: Path) -> Origin:
    """The encoder of a model directory: of a masked language model, a classifier or a tagger, or Hugging Face's BERT.

    Raises:
        CheckpointError: it is missing, damaged, or has another kind of model.
    """
    if (directory / CONFIG).exists() and is_directory(read_json(directory / CONFIG)):
        return _huggingface_origin(directory)
    saved = read_config(directory)
    if saved.task not in OPENERS:
        known = ", ".join(OPENERS)
        raise CheckpointError(f"{saved.path}: the task is {saved.task!r}; there is an encoder in models for {known}")
    found = OPENERS[saved.task](directory, saved, torch.device("cpu"))
    encoder = found.model.encoder
    return Origin(encoder.config, encoder.state_dict(), found.tokenizer, directory)


def _huggingface_origin(directory: Path) -> Origin:
    found = read_weights(directory)
    model = found.model
    if isinstance(model, MaskedLanguageModel | SentenceClassifier | TokenTagger):
        model = model.encoder
    if not isinstance(model, BERT):
        raise CheckpointError(f"{directory}: the task is {found.task!r}: an encoder is needed, a BERT")
    if not found.tokenizers:
        raise CheckpointError(f"{directory}: has no {JOINT}")
    return Origin(model.config, model.state_dict(), found.tokenizers[0], directory)


def begin(recipe: ClassificationRecipe | TaggingRecipe, place: Place, texts: Callable[[], Iterable[str]]) -> Begun:
    """The tokenizer and the sizes that a recipe asks for.

    Args:
        recipe: training.init_from, or tokenizer and model.
        place: of the run.
        texts: gives what a tokenizer is trained on, if it is.

    Raises:
        RecipeError: the recipe doesn't fit together.
        CheckpointError: `training.init_from` cannot be used.
        DataError: there is no text to train a tokenizer on.
    """
    if recipe.training.init_from is not None:
        origin = read_origin(Path(recipe.training.init_from))
        _check_unchanged(origin, place)
        begun = Begun(_changed(origin.config, recipe), origin.tokenizer, origin)
    else:
        tokenizer = _tokenizer(recipe, place, texts)
        begun = Begun(_fresh(recipe, tokenizer), tokenizer, None)
    if recipe.data.length > begun.config.max_length:
        raise RecipeError(f"data.length = {recipe.data.length}: the model has {begun.config.max_length} positions")
    return begun


def _check_unchanged(origin: Origin, place: Place) -> None:
    """Raise `CheckpointError` where a run that has begun has other tokens than the model that it started from now has:
    its checkpoints, and the tokenizer in its directory, would no longer be of one model."""
    own = place.out / JOINT
    if place.begun and own.exists() and Tokenizer.load(own).content != origin.tokenizer.content:
        raise CheckpointError(
            f"{origin.path} (training.init_from): its tokenizer is not the one that the run in {place.out} began with; "
            "put that model back, or choose another --out"
        )


def _fresh(recipe: ClassificationRecipe | TaggingRecipe, tokenizer: Tokenizer) -> BERTConfig:
    settings = {"max_length": recipe.data.length, **recipe.model.settings()}
    try:
        return BERTConfig.preset(recipe.model.preset, vocabulary=tokenizer.vocab_size, **settings)
    except ArgumentError as error:
        raise RecipeError(f"model.{error}") from error


def _changed(config: BERTConfig, recipe: ClassificationRecipe | TaggingRecipe) -> BERTConfig:
    """The configuration of the trained model, with the recipe's dropout."""
    settings, known = recipe.model.settings(), asdict(config)
    for name, value in settings.items():
        if name not in FREE and value != known[name]:
            raise RecipeError(
                f"model.{name} = {value!r}, but it is {known[name]!r} in the model of training.init_from; leave it out"
            )
    return replace(config, **{name: settings[name] for name in FREE if name in settings})


def _tokenizer(
    recipe: ClassificationRecipe | TaggingRecipe, place: Place, texts: Callable[[], Iterable[str]]
) -> Tokenizer:
    """The run's own if it has begun, else a given or a new one, which other processes find prepared."""
    if place.begun and (place.out / JOINT).exists():
        return Tokenizer.load(place.out / JOINT)
    if not place.main:
        return Tokenizer.load(place.folder / JOINT)
    wanted = recipe.tokenizer
    if wanted.file is not None:
        made = read_tokenizer(Path(recipe.data.folder or ".") / wanted.file, wanted.normalize)
    else:
        try:
            sample = _sample(list(texts()), wanted.sample, recipe.data.seed)
            made = train_tokenizer(wanted.kind, sample, wanted.vocabulary, wanted.normalize)
        except ArgumentError as error:
            named = "normalize" if str(error).startswith("normalize") else "vocabulary"
            raise RecipeError(f"tokenizer.{named} = {getattr(wanted, named)}: {error}") from error
    place.folder.mkdir(parents=True, exist_ok=True)
    made.save(place.folder / JOINT)
    return made


def _sample(texts: list[str], characters: int, seed: int) -> list[str]:
    """All texts, or as many of them, drawn at random, as have so many characters."""
    if sum(map(len, texts)) <= characters:
        return texts
    chosen, room = [], characters
    for index in np.random.default_rng(seed).permutation(len(texts)):
        chosen.append(texts[index])
        room -= len(texts[index])
        if room <= 0:
            break
    return chosen
