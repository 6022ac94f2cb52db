"""From the sections of a recipe to the objects they describe."""

from typing import Any

import torch

from regard.decoding import GNMT, Average, LengthPenalty, NoPenalty
from regard.errors import ArgumentError, RecipeError
from regard.models.encoder_decoder import EncoderDecoderConfig
from regard.models.families import FAMILIES
from regard.runs.base_recipe import TrainingSection
from regard.runs.directory import Tokenizers
from regard.runs.model_recipes import ModelRecipe
from regard.training import Budget, Constant, Cosine, InverseSqrt, Linear, Schedule


def model_config(recipe: ModelRecipe, tokenizers: Tokenizers) -> EncoderDecoderConfig:
    """The configuration of a recipe's model for given vocabularies.

    Raises:
        RecipeError: sizes that don't fit each other.
    """
    try:
        return FAMILIES[recipe.name].config.preset(
            recipe.preset,
            source_vocabulary=tokenizers.source.vocab_size,
            target_vocabulary=tokenizers.target.vocab_size,
            **recipe.settings(tokenizers.joint),
        )
    except ArgumentError as error:
        raise RecipeError(f"model.{error}") from error


def budget(recipe: TrainingSection) -> Budget:
    """The budget of a recipe; 20 epochs if it names none."""
    bounds: dict[str, Any] = recipe.model_dump(include={"epochs", "steps", "tokens", "minutes"}, exclude_none=True)
    return Budget(**bounds) if bounds else Budget(epochs=20)


def schedule(recipe: TrainingSection, steps: int) -> Schedule:
    """The learning-rate schedule of a recipe for a run of `steps` steps."""
    peak, warmup = recipe.learning_rate, recipe.warmup
    makers: dict[str, Any] = {
        "inverse_sqrt": lambda: InverseSqrt(peak, max(1, warmup)),
        "cosine": lambda: Cosine(peak, warmup, steps, recipe.final_rate),
        "linear": lambda: Linear(peak, warmup, steps),
        "constant": lambda: Constant(peak, warmup),
    }
    made: Schedule = makers[recipe.schedule]()
    return made


def validations(recipe: TrainingSection) -> int:
    """How many validations a run makes if the recipe doesn't say every how many steps."""
    return 20 if recipe.minutes is None else max(4, min(20, int(2 * recipe.minutes)))


def length_penalty(name: str, alpha: float) -> LengthPenalty:
    """The length penalty called `name` ("none", "gnmt", "average").

    Raises:
        RecipeError: there is no such penalty.
    """
    makers: dict[str, Any] = {"none": NoPenalty, "gnmt": lambda: GNMT(alpha), "average": lambda: Average(alpha)}
    if name not in makers:
        raise RecipeError(f"no length penalty {name!r}: there are {', '.join(makers)}")
    made: LengthPenalty = makers[name]()
    return made


def torch_device(name: str) -> torch.device:
    """The device called `name`; "auto" is CUDA or MPS where there is one, else the CPU.

    Raises:
        RecipeError: there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device
