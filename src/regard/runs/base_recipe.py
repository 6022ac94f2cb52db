"""What the recipes of all tasks have in common: where a run goes, and the section [training]."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from regard.runs.sections import Positive, PositiveFloat, Section, Share


class TrainingSection(Section):
    """[training]: the budget is the first of epochs, steps, tokens and minutes to be reached."""

    epochs: Positive | None = None
    """Passes over the training part."""
    steps: Positive | None = None
    """Steps of the optimizer."""
    tokens: Positive | None = None
    """Target tokens: those that are predicted."""
    minutes: PositiveFloat | None = None
    """Wall-clock minutes, measured at the start and turned into steps. Without any budget: 20 epochs."""
    accumulate: Positive = 1
    """Batches in one step of the optimizer."""
    learning_rate: PositiveFloat = 1e-3
    """The highest rate, at the end of the warm-up."""
    schedule: Literal["inverse_sqrt", "cosine", "linear", "constant"] = "inverse_sqrt"
    """How the rate falls after the warm-up."""
    final_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """What the rate of a cosine falls to."""
    warmup: Annotated[int, Field(ge=0)] = 1000
    """Steps over which the rate rises."""
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)] = Field(default=[0.9, 0.98])
    """Decay rates of AdamW's two moments."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay of matrices; embeddings, biases and norms have none."""
    clip: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Largest norm of the gradients; 0: no clipping."""
    init_from: str | None = None
    """Directory of a trained model whose tokenizers and weights to start from."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1
    """Of weights, order and dropout."""
    validate_every: Positive | None = None
    """Steps between validations; about twenty validations in all if not given."""
    attention_every: Annotated[int, Field(ge=0)] = 0
    """Steps between measurements of attention health (entropy and sink mass of each head); 0: none."""
    patience: Positive | None = None
    """Stop after so many validations without improvement."""
    average: Positive = 5
    """The last n validated checkpoints are averaged; the average is taken if it validates better than the best one."""
    save_minutes: PositiveFloat = 5.0
    """Save at least so often."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    threads: Positive | None = None
    """CPU threads; torch's default if not given."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: matrix products in half precision, weights and sums in float32 (mixed precision)."""
    gradient_checkpointing: bool = False
    """Keep only each layer's input for the backward pass and compute the rest again: less memory, more time."""
    snapshots: bool = False
    """Keep the weights of each validation in the run's folder `snapshots`."""
    sharding: Literal["none", "fsdp"] = "none"
    """With several processes: each holds all weights (DDP), or a share of them and of the optimizer (FSDP2)."""

    @model_validator(mode="after")
    def _check_final_rate(self) -> "TrainingSection":
        if self.final_rate and self.schedule != "cosine":
            raise ValueError(f'training.final_rate = {self.final_rate} goes with schedule = "cosine"')
        if self.final_rate > self.learning_rate:
            raise ValueError(
                f"training.final_rate is {self.final_rate}: expected at most training.learning_rate, "
                f"{self.learning_rate}"
            )
        return self


class BaseRecipe(Section):
    """A whole recipe; each task adds its sections, and says which it is in `task`."""

    task: str
    out: str | None = None
    """The directory of the run, relative to where the command is given; runs/NAME if not given, for NAME.toml."""
    training: TrainingSection = TrainingSection()

    def prepared_folder(self) -> str | None:
        """Where prepared data go, if the recipe says it; else into the run's directory."""
        return None
