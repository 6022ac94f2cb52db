"""One training run: the work of a task, model, loop and validation put together, in a directory that can be loaded.

prepared/         the tokenised training text, or what else the task prepares
recipe.toml       the recipe with all defaults, written when training begins
data.json         sizes of the data, and a fingerprint that a resumed run must meet again
tokenizer files
checkpoints/      for resuming, averaging, and the best one
snapshots/        the weights of each validation, where the recipe asks for them
config.json, model.safetensors     the finished model (the best so far if training was interrupted)
result.json       what the run reached

Several processes (`torchrun`) build the same run; what is written and said comes from the first of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from regard.errors import CheckpointError, DataError, RecipeError, TrainingError
from regard.files import write_json, write_text
from regard.models.config import parameter_count, table_names
from regard.runs.attention_health import RunEvent, Tell, with_attention
from regard.runs.base_recipe import BaseRecipe
from regard.runs.build import budget, schedule, torch_device, validations
from regard.runs.claim import DATA, PREPARED, check_data, check_directory, only_one
from regard.runs.directory import CHECKPOINTS, RECIPE
from regard.runs.machine import resources
from regard.runs.recipe_files import recipe_toml
from regard.runs.snapshots import save_snapshot
from regard.runs.work.contract import Place, Progress, Say, TrainedModel, Work
from regard.runs.work.opening import open_work
from regard.training import (
    CheckpointStore,
    Finished,
    Plan,
    Settings,
    Trainer,
    average_checkpoints,
    build_optimizer,
    calibrate,
    last_checkpoint,
    load_checkpoint,
    load_weights,
    make_plan,
    naming_lost_processes,
    open_processes,
    preserved_random,
    recompute,
    seed_process,
    whole_state,
)


@dataclass(frozen=True)
class Outlook:
    """What a run would do: sizes and estimates.

    Attributes:
        data: numbers about the data.
        sizes: the same, and the vocabulary, in words.
        target_tokens: of an epoch.
    """

    parameters: int
    data: Mapping[str, Any]
    sizes: Mapping[str, str]
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
    """What a run reached.

    Attributes:
        reason: the bound of the budget that was reached, "patience" or "interrupted".
        step: steps taken.
        chosen: which weights the model has: "best" (with its step) or "average of the last n".
        metrics: of those weights on the validation part; none before the first validation.
        directory: the run's.
    """

    reason: str
    step: int
    chosen: str
    metrics: Mapping[str, float]
    directory: Path


class Run:
    """A training run, prepared: `Run(...)` reads the data and builds everything, `outlook` estimates, `train` trains.

    Args:
        recipe: what to do.
        out: the run's directory; before `train` only its folder `prepared` is written.
        say: told in words what is being done.
        progress: told what is counted, how much is done and of how much, if that is known.
        prepared: where to put the tokenised text instead; for a run that is only estimated.

    Raises:
        RecipeError: the directory holds another run, or the recipe doesn't fit together.
        DataError: the data cannot be used, or are not those that the run began with.
        TrainingError: other processes cannot be reached.
    """

    def __init__(
        self, recipe: BaseRecipe, out: Path, say: Say, progress: Progress | None = None, prepared: Path | None = None
    ) -> None:
        self.recipe, self.out = recipe, out
        training = recipe.training
        self.processes = open_processes(torch_device(training.device), training.precision, training.sharding)
        self.main = self.processes.rank == 0
        self.say: Say = say if self.main else _silent
        self.device = self.processes.device
        if training.threads is not None:
            torch.set_num_threads(training.threads)
        check_directory(recipe, out)
        self.work = self._work(prepared, progress or _silent)
        check_data(out, dict(self.work.facts))
        for note in self.work.notes:
            self.say(note)
        torch.manual_seed(training.seed)
        self.model = self.work.build().to(self.device)
        if training.init_from is not None and not CheckpointStore(out / CHECKPOINTS).steps():
            self.work.start_from(self.model, Path(training.init_from))
        # a model whose weights are spread cannot be judged by itself
        judged = self.work.build().to(self.device) if self.processes.sharded and self.main else self.model
        self.validator = self.work.validator(judged)
        trained: TrainedModel = cast(Any, self.model)
        layers = trained.blocks()
        if training.gradient_checkpointing:
            recompute(layers)
        objective = self.work.objective(self.model)
        with naming_lost_processes(self.processes, lambda: "its own message says why"):
            self.problem = self.work.problem(self.processes.prepare(objective, layers))
        if self.processes.rank:
            seed_process(training.seed, self.processes.rank)  # weights are alike, dropout is not
        self.optimizer = build_optimizer(
            self.model,
            training.learning_rate,
            (training.betas[0], training.betas[1]),
            training.weight_decay,
            exempt=table_names(self.model),
        )

    def outlook(self) -> Outlook:
        """Estimate the run by timing some of its steps; changes nothing."""
        training = self.recipe.training
        plan = self._plan()
        seconds = plan.seconds_per_step if plan.seconds_per_step is not None else self._calibrate()
        each = self._validation_seconds()
        order = self.problem.epoch(0)
        batches, tokens = len(order), sum(self.work.target_tokens(indices) for indices in order)
        each_epoch = math.ceil(batches / training.accumulate)  # steps
        return Outlook(
            parameters=parameter_count(self.model),
            data={key: value for key, value in self.work.facts.items() if key != "sha256"},
            sizes=self.work.sizes(),
            target_tokens=tokens,
            batches=batches,
            steps=plan.steps,
            bound=plan.bound,
            epochs=plan.steps / each_epoch,
            seconds_per_step=seconds,
            tokens_per_second=tokens / each_epoch / seconds,
            # the best weights and their average are judged once more at the end
            seconds=plan.steps * seconds + each * (2 + plan.steps // self._validate_every(plan)),
        )

    def train(self, listeners: Sequence[Tell] = ()) -> Outcome:
        """Train to the end of the budget, or go on from the last checkpoint; then write the model.

        Args:
            listeners: told of each event, in the main process.

        Raises:
            RecipeError: another process is training in the directory, or the budget is too short to validate in it.
            TrainingError: the loss is not a number, or another process of the run has ended.
            CheckpointError: checkpoints are damaged beyond use, or cannot be written.
        """
        heard = list(listeners) if self.main else []
        if not self.main:
            return self._train(heard)
        self.out.mkdir(parents=True, exist_ok=True)
        with only_one(self.out):
            return self._train(heard)

    def _claim(self) -> None:
        """Write what makes the directory this run's, once nothing but the training itself can fail."""
        if not (self.out / RECIPE).exists():
            write_text(self.out / RECIPE, recipe_toml(self.recipe))
        self.work.keep(self.out)
        write_json(self.out / DATA, dict(self.work.facts))

    def _train(self, listeners: Sequence[Tell]) -> Outcome:
        folder = self.out / CHECKPOINTS

        def tell(event: RunEvent) -> None:
            for listener in listeners:
                listener(event)

        with naming_lost_processes(self.processes, lambda: "the same command goes on"):
            # the main process tidies up what a crash left behind; then all read
            checkpoint = last_checkpoint(folder, tell) if self.main else None
            newest = self.processes.on_main(lambda: None if checkpoint is None else checkpoint.progress.step)
            if newest is not None and not self.main:
                checkpoint = load_checkpoint(CheckpointStore(folder).path(newest))
            limits = budget(self.recipe.training)
            plan = checkpoint.plan if checkpoint is not None and checkpoint.plan.budget == limits else self._plan()
            if self.main:
                self._claim()
            training = self.recipe.training
            every = training.attention_every if self.main else 0
            trainer = Trainer(
                self.model,
                self.optimizer,
                schedule(training, plan.steps),
                with_attention(
                    self.problem, self.model, every, lambda: trainer.progress.step + 1, tell, self.work.real
                ),
                plan,
                folder,
                settings=Settings(
                    accumulate=training.accumulate,
                    clip=training.clip or None,
                    validate_every=self._validate_every(plan),
                    metric=self.work.metric,
                    patience=training.patience,
                    save_seconds=60.0 * training.save_minutes,
                    keep=training.average,
                ),
                validate=self._validate,
                listeners=[tell],
                processes=self.processes,
            )
            if checkpoint is not None:
                trainer.resume(checkpoint)
            finished = trainer.run()
            content = self.processes.on_main(lambda: self._finish(trainer, finished))
        return Outcome(**content, directory=self.out)

    def _validate(self, step: int) -> dict[str, float]:
        """Judge the model as it is; the main process does it, the others wait."""
        if self.processes.sharded:
            weights = whole_state(self.model, keep=self.main)
            if self.main:
                self.validator.model.load_state_dict(weights)
        return self.processes.on_main(lambda: self._judge_step(step))

    def _judge_step(self, step: int) -> dict[str, float]:
        metrics = self.validator(step)
        if self.recipe.training.snapshots:
            save_snapshot(self.out, step, self.validator.model)
        return metrics

    def _finish(self, trainer: Trainer[Any], finished: Finished) -> dict[str, Any]:
        """Choose the weights, write the model, and say what was reached, as the fields of `Outcome`."""
        progress = trainer.progress
        if progress.best_step is None:
            if finished.reason == "interrupted":
                none = "none before the first validation"
                return {"reason": finished.reason, "step": finished.step, "chosen": none, "metrics": {}}
            raise TrainingError(f"{self.out}: no validation gave a finite {trainer.settings.metric.name}")
        chosen, weights = f"best, of step {progress.best_step}", load_weights(trainer.store.path(progress.best_step))
        metrics = self._judge(weights)
        if len(progress.snapshots) > 1:
            mean = average_checkpoints([trainer.store.path(step) for step in progress.snapshots])
            averaged = self._judge(mean)
            if trainer.settings.metric.improves(
                averaged[trainer.settings.metric.name], metrics[trainer.settings.metric.name]
            ):
                chosen, weights = f"average of the last {len(progress.snapshots)} checkpoints", mean
                metrics = averaged
        self.work.save(self.out, weights)
        write_text(self.out / RECIPE, recipe_toml(self.recipe))
        result = {
            "finished": finished.reason,
            "steps": finished.step,
            "epochs": progress.epoch,
            "target_tokens": progress.tokens,
            "seconds": progress.seconds,
            "processes": self.processes.count,
            **resources(self.device, self.out / "result.json"),
            "weights": chosen,
            "validation": dict(metrics),
        }
        write_json(self.out / "result.json", result)
        return {"reason": finished.reason, "step": finished.step, "chosen": chosen, "metrics": metrics}

    def _judge(self, weights: dict[str, Tensor]) -> dict[str, float]:
        self.validator.model.load_state_dict(weights)
        return self.validator(0)

    def _work(self, prepared: Path | None, progress: Progress) -> Work[Any]:
        """The task, its data tokenised: the main process prepares them, the others find them prepared."""
        shared = self.recipe.prepared_folder()
        folder = prepared or (Path(shared) if shared is not None else self.out / PREPARED)
        begun = (self.out / DATA).exists()
        place = Place(self.out, folder, begun, self.main, self.device, self.say, progress)
        with naming_lost_processes(self.processes, lambda: "its own message says why"):
            made = self._open(place) if self.main else None
            facts = self.processes.on_main(lambda: None if made is None else dict(made.facts))
            work = made if made is not None else open_work(self.recipe, place)
        if dict(work.facts) != facts:
            raise DataError(f"{folder}: process {self.processes.rank} sees other data than the first: {work.facts}")
        return work

    def _open(self, place: Place) -> Work[Any]:
        """The work; where the model that a begun run started from is gone, the message says that it is needed."""
        origin = self.recipe.training.init_from
        try:
            return open_work(self.recipe, place)
        except CheckpointError as error:
            if place.begun and origin is not None and not Path(origin).is_dir():
                raise CheckpointError(
                    f"{origin} (training.init_from): is not there any more; the run in {place.out} began from it and "
                    "reads its sizes again to go on: put it back"
                ) from error
            raise

    def _plan(self) -> Plan:
        """The budget as a number of steps; minutes are measured now and leave time for the validations."""
        training = self.recipe.training
        limits = budget(training)
        if limits.minutes is None:
            return make_plan(limits, self.problem, accumulate=training.accumulate, count=self.work.target_tokens)
        self.say("measuring the time of a step")
        seconds = self._calibrate()
        each = self._validation_seconds()
        reserved = each * (validations(training) + 2)  # the best weights and their average are judged at the end
        if reserved > 30 * limits.minutes:
            raise RecipeError(
                f"training.minutes = {limits.minutes}: {validations(training)} validations of {each:.2g} s take more "
                f"than half of it; raise it, or {self.work.less_validated()}"
            )
        return make_plan(
            limits,
            self.problem,
            accumulate=training.accumulate,
            count=self.work.target_tokens,
            seconds_per_step=seconds,
            reserved_seconds=reserved,
        )

    def _calibrate(self) -> float:
        training = self.recipe.training
        return calibrate(
            self.model,
            self.optimizer,
            self.problem,
            accumulate=training.accumulate,
            clip=training.clip or None,
            processes=self.processes,
        )

    def _validation_seconds(self) -> float:
        with preserved_random():
            seconds = self.processes.on_main(self.validator.seconds)
        self.model.train()
        return seconds

    def _validate_every(self, plan: Plan) -> int:
        training = self.recipe.training
        return training.validate_every or max(1, math.ceil(plan.steps / validations(training)))


def _silent(*words: object) -> None:
    """Says nothing."""
