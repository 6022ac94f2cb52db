"""One training run: data, tokenizers, model, loop and validation put together, in a directory that can be loaded.

recipe.toml       the recipe with all defaults, written first
data.json         sizes of the data, and a fingerprint that a resumed run must meet again
tokenizer files
checkpoints/      for resuming, averaging, and the best one
config.json, model.safetensors     the finished model (the best so far if training was interrupted)
result.json       what the run reached
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from regard.data import TokenBatches
from regard.errors import ArgumentError, CheckpointError, DataError, RecipeError, TrainingError
from regard.files import write_json, write_text
from regard.models.transformer import Transformer, build_transformer, parameter_count
from regard.runs.build import budget, model_config, schedule, torch_device, validations
from regard.runs.claim import DATA, check_data, check_directory, only_one
from regard.runs.corpus import Texts, drop_long, encode, make_tokenizers, read_texts, training_batches
from regard.runs.directory import RECIPE, WEIGHTS, Tokenizers, load_weights_file, save_model
from regard.runs.recipe import Recipe, recipe_toml
from regard.runs.translator import specials_of
from regard.runs.validation import Validator
from regard.tasks.translation import TranslationBatch, collate, translation_loss
from regard.training import (
    CheckpointStore,
    Event,
    Finished,
    Metric,
    Plan,
    Problem,
    Settings,
    Trainer,
    average_checkpoints,
    build_optimizer,
    calibrate,
    last_checkpoint,
    load_weights,
    load_weights_into,
    make_plan,
    preserved_random,
)

CHECKPOINTS = "checkpoints"

Tell = Callable[[Event], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Outlook:
    """What a run would do: sizes and estimates."""

    parameters: int
    vocabularies: tuple[int, int]
    train_pairs: int
    valid_pairs: int
    target_tokens: int
    batches: int
    steps: int
    bound: str
    epochs: float
    seconds_per_step: float
    tokens_per_second: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a run reached."""

    reason: str
    step: int
    chosen: str
    """Which weights the model has: "best" (with its step) or "average of the last n"."""
    metrics: Mapping[str, float]
    directory: Path


class Run:
    """A training run, prepared: `Run(...)` reads the data and builds everything, `outlook` estimates, `train` trains.

    Args:
        recipe: what to do.
        out: the run's directory; only `train` writes into it.
        say: told in words what is being done.

    Raises:
        RecipeError: the directory holds another run, or the recipe doesn't fit together.
        DataError: the data cannot be used, or are not those that the run began with.
    """

    def __init__(self, recipe: Recipe, out: Path, say: Say) -> None:
        self.recipe, self.out, self.say = recipe, out, say
        self.device = torch_device(recipe.training.device)
        if recipe.training.threads is not None:
            torch.set_num_threads(recipe.training.threads)
        check_directory(recipe, out)
        texts = read_texts(recipe.data, recipe.training.seed)
        self.notes = list(texts.notes)
        self.tokenizers = self._tokenizers(texts)
        self.train_part = drop_long(
            encode(texts.train, self.tokenizers), recipe.data.max_length, "training", self.notes
        )
        self.valid_part = drop_long(
            encode(texts.valid, self.tokenizers), recipe.data.max_length, "validation", self.notes
        )
        self._facts = {
            "train_pairs": len(self.train_part),
            "valid_pairs": len(self.valid_part),
            "target_tokens": self.train_part.target_tokens,
            "sha256": texts.fingerprint,
        }
        check_data(out, self._facts)
        for note in self.notes:
            say(note)
        self.config = model_config(recipe.model, self.tokenizers)
        if recipe.data.max_length + 1 > self.config.max_length:
            raise RecipeError(
                f"data.max_length = {recipe.data.max_length} tokens and one <eos> need more positions than "
                f"model.max_length = {self.config.max_length}"
            )
        torch.manual_seed(recipe.training.seed)
        self.model: Transformer = build_transformer(self.config).to(self.device)
        if recipe.training.init_from is not None and not CheckpointStore(out / CHECKPOINTS).steps():
            load_initial(self.model, Path(recipe.training.init_from))
        self.batches: TokenBatches = self._batches()
        self.problem = self._problem()
        tables = {
            name for name, _ in self.model.named_parameters() if name.endswith(("tokens.weight", "positions.table"))
        }
        self.optimizer = build_optimizer(
            self.model,
            recipe.training.learning_rate,
            (recipe.training.betas[0], recipe.training.betas[1]),
            recipe.training.weight_decay,
            exempt=tables,
        )
        self.validator = Validator(self.model, self.tokenizers, self.valid_part, recipe)

    def outlook(self) -> Outlook:
        """Estimate the run by timing some of its steps; changes nothing."""
        training = self.recipe.training
        plan = self._plan()
        seconds = plan.seconds_per_step
        if seconds is None:
            seconds = calibrate(
                self.model, self.optimizer, self.problem, accumulate=training.accumulate, clip=training.clip or None
            )
        each = self._validation_seconds()
        batches = len(self.batches.epoch(0))
        each_epoch = math.ceil(batches / training.accumulate)  # steps
        return Outlook(
            parameters=parameter_count(self.config),
            vocabularies=(self.config.source_vocabulary, self.config.target_vocabulary),
            train_pairs=len(self.train_part),
            valid_pairs=len(self.valid_part),
            target_tokens=self.train_part.target_tokens,
            batches=batches,
            steps=plan.steps,
            bound=plan.bound,
            epochs=plan.steps / each_epoch,
            seconds_per_step=seconds,
            tokens_per_second=self.train_part.target_tokens / each_epoch / seconds,
            # the best weights and their average are judged once more at the end
            seconds=plan.steps * seconds + each * (2 + plan.steps // self._validate_every(plan)),
        )

    def train(self, listeners: Sequence[Tell] = ()) -> Outcome:
        """Train to the end of the budget, or go on from the last checkpoint; then write the model.

        Raises:
            RecipeError: another process is training in the directory.
            TrainingError: the loss is not a number.
            CheckpointError: checkpoints are damaged beyond use, or cannot be written.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        with only_one(self.out):
            if not (self.out / RECIPE).exists():
                write_text(self.out / RECIPE, recipe_toml(self.recipe))
            self.tokenizers.save(self.out)
            write_json(self.out / DATA, self._facts)
            return self._train(listeners)

    def _train(self, listeners: Sequence[Tell]) -> Outcome:
        folder = self.out / CHECKPOINTS

        def tell(event: Event) -> None:
            for listener in listeners:
                listener(event)

        checkpoint, limits = last_checkpoint(folder, tell), budget(self.recipe.training)
        plan = checkpoint.plan if checkpoint is not None and checkpoint.plan.budget == limits else self._plan()
        training = self.recipe.training
        trainer = Trainer(
            self.model,
            self.optimizer,
            schedule(training, plan.steps),
            self.problem,
            plan,
            folder,
            settings=Settings(
                accumulate=training.accumulate,
                clip=training.clip or None,
                validate_every=self._validate_every(plan),
                metric=Metric("loss", "min") if training.metric == "loss" else Metric("bleu", "max"),
                patience=training.patience,
                save_seconds=60.0 * training.save_minutes,
                keep=training.average,
            ),
            validate=self.validator,
            listeners=[tell],
        )
        if checkpoint is not None:
            trainer.resume(checkpoint)
        finished = trainer.run()
        return self._finish(trainer, finished)

    def _finish(self, trainer: Trainer[TranslationBatch], finished: Finished) -> Outcome:
        """Choose the weights, write the model, and say what was reached."""
        progress = trainer.progress
        if progress.best_step is None:
            if finished.reason == "interrupted":
                return Outcome(finished.reason, finished.step, "none before the first validation", {}, self.out)
            raise TrainingError(f"{self.out}: no validation gave a finite {trainer.settings.metric.name}")
        best = load_weights(trainer.store.path(progress.best_step))
        chosen, weights = f"best, of step {progress.best_step}", best
        metrics = self._judge(best)
        if len(progress.snapshots) > 1:
            mean = average_checkpoints([trainer.store.path(step) for step in progress.snapshots])
            averaged = self._judge(mean)
            if trainer.settings.metric.improves(
                averaged[trainer.settings.metric.name], metrics[trainer.settings.metric.name]
            ):
                chosen, weights = f"average of the last {len(progress.snapshots)} checkpoints", mean
                metrics = averaged
        save_model(self.out, self.config, weights, self.recipe.decoding.model_dump())
        write_text(self.out / RECIPE, recipe_toml(self.recipe))
        result = {
            "finished": finished.reason,
            "steps": finished.step,
            "epochs": progress.epoch,
            "target_tokens": progress.tokens,
            "seconds": progress.seconds,
            "weights": chosen,
            "validation": dict(metrics),
        }
        write_json(self.out / "result.json", result)
        return Outcome(finished.reason, finished.step, chosen, metrics, self.out)

    def _judge(self, weights: dict[str, Tensor]) -> dict[str, float]:
        self.model.load_state_dict(weights)
        return self.validator(0)

    def _tokenizers(self, texts: Texts) -> Tokenizers:
        """The run's own if it has begun, else those of `init_from`, else trained now."""
        known = Tokenizers.load(self.out) if self.out.is_dir() else None
        if known is not None:
            return known
        origin = self.recipe.training.init_from
        if origin is not None:
            known = Tokenizers.load(Path(origin))
            if known is None:
                raise CheckpointError(f"{origin}: not a model directory, it has no tokenizer")
            tokenizers = known
        else:
            self.say("training the tokenizer")
            tokenizers = make_tokenizers(self.recipe.tokenizer, texts.train)
        return tokenizers

    def _batches(self) -> TokenBatches:
        training = self.recipe.training
        try:
            return training_batches(self.train_part, training.tokens_per_batch, training.seed)
        except (ArgumentError, DataError) as error:
            raise RecipeError(f"training.tokens_per_batch = {training.tokens_per_batch}: {error}") from error

    def _problem(self) -> Problem[TranslationBatch]:
        part, specials = self.train_part, specials_of(self.tokenizers)
        smoothing = self.recipe.training.label_smoothing

        def make(indices: Sequence[int]) -> TranslationBatch:
            return collate([part.source[i] for i in indices], [part.target[i] for i in indices], specials, self.device)

        return Problem(
            epoch=lambda number: [batch.tolist() for batch in self.batches.epoch(number)],
            collate=make,
            tokens=lambda batch: batch.count,
            loss=lambda batch: translation_loss(self.model, batch, smoothing),
        )

    def _plan(self) -> Plan:
        """The budget as a number of steps; minutes are measured now and leave time for the validations."""
        training = self.recipe.training
        limits = budget(training)
        if limits.minutes is None:
            return make_plan(limits, self.problem, accumulate=training.accumulate, count=self._count)
        self.say("measuring the time of a step")
        seconds = calibrate(
            self.model, self.optimizer, self.problem, accumulate=training.accumulate, clip=training.clip
        )
        each = self._validation_seconds()
        reserved = each * (validations(training) + 2)  # the best weights and their average are judged at the end
        if reserved > 30 * limits.minutes:
            raise RecipeError(
                f"training.minutes = {limits.minutes}: {validations(training)} validations of {each:.1f} s take more "
                "than half of it; lower training.validation_sentences or raise training.minutes"
            )
        return make_plan(
            limits,
            self.problem,
            accumulate=training.accumulate,
            count=self._count,
            seconds_per_step=seconds,
            reserved_seconds=reserved,
        )

    def _count(self, indices: Sequence[int]) -> int:
        return sum(len(self.train_part.target[i]) + 1 for i in indices)

    def _validation_seconds(self) -> float:
        with preserved_random():
            seconds = self.validator.seconds()
        self.model.train()
        return seconds

    def _validate_every(self, plan: Plan) -> int:
        training = self.recipe.training
        return training.validate_every or max(1, math.ceil(plan.steps / validations(training)))


def load_initial(model: Transformer, directory: Path) -> None:
    """Start a model from the weights of another run: its finished model, or its last checkpoint if it has none.

    Raises:
        CheckpointError: there are none, or they are of another model.
    """
    steps = CheckpointStore(directory / CHECKPOINTS).steps()
    if (directory / WEIGHTS).exists() or not steps:
        load_weights_file(directory / WEIGHTS, model)
    else:
        path = CheckpointStore(directory / CHECKPOINTS).path(steps[-1])
        load_weights_into(model, load_weights(path), path)
