"""The budget of a comparison as steps of each model, frozen into plan.json before anything is trained.

All models take the same batches in the same order, so equal steps are equal target tokens. A budget in minutes is
divided by the time of a model's step, so quicker models take more steps; the common step is the slowest one's last.
Validations lie on one grid for all models, which the common step is on, so that every model can be judged there.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from regard.errors import CheckpointError, RecipeError
from regard.files import write_json
from regard.runs.build import budget
from regard.runs.compare.settings import BUDGET_KEYS, SET_KEYS
from regard.runs.directory import read_json
from regard.runs.recipe import Recipe, make_recipe
from regard.runs.train import Run
from regard.runs.work.contract import Say

PLAN = "plan.json"
FORMAT = 1


@dataclass(frozen=True)
class Measured:
    """What was measured of a model before training.

    Attributes:
        recipe: digest of what was measured.
        seconds_per_step: of training.
        seconds_per_validation: of one validation.
        most: steps that epochs, steps and tokens of the budget allow; None where there are minutes only.
    """

    recipe: str
    seconds_per_step: float
    seconds_per_validation: float
    most: int | None


@dataclass(frozen=True)
class Plan:
    """A comparison's budget in steps.

    Attributes:
        budget: as asked for: [training] epochs, steps, tokens, minutes, and the number of validations.
        validate_every: steps between validations, for all models.
        steps: of each model, by its label.
        measured: of each model.
    """

    budget: dict[str, float]
    validate_every: int
    steps: dict[str, int]
    measured: dict[str, Measured]

    def common(self, labels: Iterable[str]) -> int:
        """The last step that all of these models reach and are validated at."""
        counts = {self.steps[label] for label in labels}
        least = min(counts)
        return least if len(counts) == 1 else least // self.validate_every * self.validate_every

    def seconds(self, label: str) -> float:
        """Estimated time of a model's training, validations included."""
        measured, steps = self.measured[label], self.steps[label]
        validations = 2 + steps // self.validate_every  # the best weights and their average are judged at the end
        return steps * measured.seconds_per_step + validations * measured.seconds_per_validation


def asked_budget(recipe: Recipe, validations: int) -> dict[str, float]:
    """What of a recipe a plan is made from."""
    given = {key: value for key, value in asdict(budget(recipe.training)).items() if value is not None}
    return given | {"validations": validations}


def make_plan(asked: Mapping[str, float], measured: Mapping[str, Measured]) -> Plan:
    """The plan of models that were measured; none has been trained yet."""
    steps = {label: _steps(asked, one) for label, one in measured.items()}
    least = min(steps.values())
    every = max(1, least // int(asked["validations"]))
    if max(steps.values()) > least:  # the quicker models are judged where the slowest ends: on the grid
        last = least // every * every
        steps = {label: last if count == least else count for label, count in steps.items()}
    return Plan(dict(asked), every, steps, dict(measured))


def extend_plan(plan: Plan, measured: Mapping[str, Measured]) -> Plan:
    """A plan with more models; those that it has keep their steps, and the grid stays.

    Raises:
        RecipeError: a new model is so slow that there would be no validation that all models reach.
    """
    steps = {label: _steps(plan.budget, one) for label, one in measured.items()}
    for label, count in steps.items():
        if count < plan.validate_every:
            raise RecipeError(
                f"{label} takes {count} steps in the time in which the others are validated every "
                f"{plan.validate_every}: compare it in another --out, with more minutes"
            )
    return replace(plan, steps=plan.steps | steps, measured=plan.measured | dict(measured))


def find_plan(folder: Path, recipes: Mapping[str, Recipe], validations: int, begun: Collection[str], say: Say) -> Plan:
    """The plan in `folder`, for these models too: what is missing of it is measured, one model after the other.

    Nothing is written: see `keep_plan`.

    Args:
        folder: of the comparison.
        recipes: of each model by its label; `data.prepared` leads to the text that all of them share.
        validations: up to the common step.
        begun: labels whose training has begun, which keep their steps.
        say: told in words what is being done.

    Raises:
        RecipeError: the plan in the folder is for another budget, or a model is too slow for its grid.
        CheckpointError: it cannot be read.
    """
    asked = asked_budget(next(iter(recipes.values())), validations)
    old = read_plan(folder / PLAN) if (folder / PLAN).exists() else None
    if old is not None:
        check_budget(old, asked, folder)
    known = {} if old is None else old.measured
    missing = {
        label: recipe
        for label, recipe in recipes.items()
        if label not in known or (label not in begun and known[label].recipe != digest(recipe))
    }
    if old is not None and not missing:
        return old
    found = measure(missing, folder, say, rounds=2 if "minutes" in asked else 1)
    return make_plan(asked, found) if old is None else extend_plan(old, found)


def keep_plan(folder: Path, plan: Plan) -> None:
    """Write a plan into the folder of its comparison."""
    write_json(folder / PLAN, {"format": FORMAT} | asdict(plan))


def check_budget(plan: Plan, asked: Mapping[str, float], folder: Path) -> None:
    """Check that a plan is for a budget.

    Raises:
        RecipeError: it is for another one.
    """
    if plan.budget != asked:
        raise RecipeError(
            f"{folder} holds a comparison whose budget is {_words(plan.budget)}, not {_words(asked)}: choose another "
            "--out"
        )


def measure(recipes: Mapping[str, Recipe], folder: Path, say: Say, rounds: int) -> dict[str, Measured]:
    """Time some steps and a validation of each model; with several rounds in turn, the means."""
    times: dict[str, list[tuple[float, float]]] = {label: [] for label in recipes}
    most: dict[str, int | None] = {}
    for number in range(rounds):
        for label, recipe in recipes.items():
            say(f"measuring the time of a step: {label}" + (f", {number + 1} of {rounds}" if rounds > 1 else ""))
            outlook = Run(_without_minutes(recipe), folder / "measured", _unsaid).outlook()
            each = (outlook.seconds - outlook.steps * outlook.seconds_per_step) / (2 + outlook.steps)
            times[label].append((outlook.seconds_per_step, each))
            most[label] = None if outlook.bound == "steps" and recipe.training.steps is None else outlook.steps
    found = {}
    for label, recipe in recipes.items():
        each_step, each_validation = (sum(column) / rounds for column in zip(*times[label], strict=True))
        found[label] = Measured(digest(recipe), each_step, each_validation, most[label])
    return found


def read_plan(path: Path) -> Plan:
    """A plan as it was kept.

    Raises:
        CheckpointError: it cannot be read, or is of another version.
    """
    content = read_json(path)
    try:
        if content.pop("format") != FORMAT:
            raise CheckpointError(f"{path}: not a plan of format {FORMAT}")
        content["measured"] = {label: Measured(**one) for label, one in content["measured"].items()}
        return Plan(**content)
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged, or no plan of a comparison ({error})") from error


def digest(recipe: Recipe) -> str:
    """What tells one model of a comparison from another: all but where it runs, how long, and with which seed."""
    content = json.loads(
        recipe.model_dump_json(exclude={"out": True, "data": {"folder", "prepared"}, "decoding": True})
    )
    for key in (*SET_KEYS, *BUDGET_KEYS, "device", "threads", "save_minutes"):
        del content["training"][key]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def changed(recipe: Recipe, training: Mapping[str, Any]) -> Recipe:
    """A recipe with other keys in [training]; None takes a key away."""
    content = recipe.model_dump(exclude_none=True)
    content["training"] |= training
    content["training"] = {key: value for key, value in content["training"].items() if value is not None}
    return make_recipe(content)


def _without_minutes(recipe: Recipe) -> Recipe:
    """A recipe for `outlook`: bounded by all but minutes, one step if there is no other bound, validated each step."""
    bounds = [getattr(recipe.training, key) for key in ("epochs", "steps", "tokens")]
    alone = recipe.training.minutes is not None and not any(bounds)
    return changed(recipe, {"minutes": None, "validate_every": 1} | ({"steps": 1} if alone else {}))


def _steps(asked: Mapping[str, float], measured: Measured) -> int:
    bounds = [] if measured.most is None else [measured.most]
    if "minutes" in asked:
        bounds.append(max(1, int(60 * asked["minutes"] / measured.seconds_per_step)))
    return min(bounds)


def _words(asked: Mapping[str, float]) -> str:
    return ", ".join(f"{key} = {value:g}" for key, value in asked.items())


def _unsaid(message: str) -> None:
    """Preparing has said it."""
