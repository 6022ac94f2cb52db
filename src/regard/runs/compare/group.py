"""Models trained alike, on the same text in the same batches by one plan: the comparison itself, and each probe."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from regard.runs.claim import PREPARED
from regard.runs.compare.collect import History, check_same_batches, read_history
from regard.runs.compare.members import RESULT, Member, Train, check_same_data, make_member
from regard.runs.compare.plan import PLAN, Plan, asked_budget, check_budget, find_plan, keep_plan, read_plan
from regard.runs.corpus import Corpus, prepare_corpus
from regard.runs.directory import RECIPE, read_json
from regard.runs.recipe import Recipe, make_recipe
from regard.runs.work.contract import Say

RUNS = "runs"

Show = Callable[[str, int, int | None], None]
"""Told what is being done, how many are done, and of how many."""


@dataclass(frozen=True)
class Reporter:
    """Who is told what is being done.

    Attributes:
        say: told in words.
        counting: gives, for a block, what is told how much is done.
        quiet: whether runs are to train without a word.
    """

    say: Say
    counting: Callable[[], AbstractContextManager[Show]]
    quiet: bool


@dataclass(frozen=True)
class Group:
    """Models that were trained alike.

    Attributes:
        corpus: their data.
        recipes: of the models by label; `data.prepared` is what they share.
        plan: their budget.
        members: their runs, seed by seed.
        histories: what happened in each run, by its directory.
    """

    corpus: Corpus
    recipes: dict[str, Recipe]
    plan: Plan
    members: tuple[Member, ...]
    histories: dict[Path, History]

    def of(self, label: str) -> list[tuple[Member, History]]:
        """The runs of a model, in the order of the seeds."""
        return [(one, self.histories[one.directory]) for one in self.members if one.label == label]


def train_group(
    folder: Path,
    recipes: Mapping[str, Recipe],
    names: Mapping[str, str],
    seeds: Sequence[int],
    *,
    validations: int,
    snapshots: bool,
    report: Reporter,
    train: Train,
) -> Group:
    """Train what isn't trained yet.

    Args:
        folder: for `prepared`, `plan.json` and `runs`.
        recipes: of the models, by label.
        names: of their runs, by label.
        seeds: each model is trained once for each.
        validations: up to the step that all models reach.
        snapshots: whether to keep the weights of each validation.
        report: told what is being done.
        train: trains one run.

    Raises:
        RecipeError, DataError, CheckpointError, TrainingError, KeyboardInterrupt: as for `compare`.
    """
    first = next(iter(recipes.values()))
    if first.training.threads is not None:  # what is measured and judged here has as many as training
        torch.set_num_threads(first.training.threads)
    prepared = Path(first.data.prepared or folder / PREPARED)
    shared = {label: _sharing(recipe, prepared) for label, recipe in recipes.items()}
    begun = check_group(folder, shared, names, seeds, validations=validations, snapshots=snapshots)
    with report.counting() as show:
        corpus = prepare_corpus(next(iter(shared.values())), prepared, None, report.say, show)
    for note in corpus.notes:
        report.say(note)
    plan = find_plan(folder, shared, validations, begun, report.say)
    members = _members(folder, shared, names, dict.fromkeys(shared, seeds), plan, snapshots)
    keep_plan(folder, plan)
    _train(members, plan, report, train)
    check_same_data(members, prepared)
    histories = {
        member.directory: read_history(member.directory, read_json(member.directory / RESULT)["steps"])
        for member in members
    }
    for seed in seeds:
        check_same_batches({one.directory: histories[one.directory] for one in members if one.seed == seed})
    return Group(corpus, shared, plan, tuple(members), histories)


def check_group(
    folder: Path,
    recipes: Mapping[str, Recipe],
    names: Mapping[str, str],
    seeds: Sequence[int],
    *,
    validations: int,
    snapshots: bool,
) -> list[str]:
    """Check the plan and the runs in `folder` against the models, before anything is measured or written.

    Args:
        folder, recipes, names, seeds, validations, snapshots: as for `train_group`.

    Returns:
        The models whose training has begun with any seed.

    Raises:
        RecipeError: the plan is for another budget, or a directory holds another run.
        CheckpointError: the plan or a run's recipe cannot be read.
    """
    if not (folder / PLAN).exists():
        return []
    plan = read_plan(folder / PLAN)
    check_budget(plan, asked_budget(next(iter(recipes.values())), validations), folder)
    known = {label: recipe for label, recipe in recipes.items() if label in plan.steps}
    begun = {label: _begun(folder / RUNS, names[label]) for label in known}
    _members(folder, known, names, {label: sorted({*seeds, *begun[label]}) for label in known}, plan, snapshots)
    return [label for label, of in begun.items() if of]


def _members(
    folder: Path,
    recipes: Mapping[str, Recipe],
    names: Mapping[str, str],
    seeds: Mapping[str, Sequence[int]],
    plan: Plan,
    snapshots: bool,
) -> list[Member]:
    """The runs of all models, seed by seed; their directories are checked."""
    return [
        make_member(
            label,
            folder / RUNS / names[label],
            recipe,
            steps=plan.steps[label],
            validate_every=plan.validate_every,
            seed=seed,
            snapshots=snapshots,
        )
        for seed in dict.fromkeys(seed for of in seeds.values() for seed in of)
        for label, recipe in recipes.items()
        if seed in seeds[label]
    ]


def _begun(runs: Path, name: str) -> list[int]:
    """The seeds of a model's runs that have begun."""
    found = (re.fullmatch(rf"{re.escape(name)}-seed-([0-9]+)", path.parent.name) for path in runs.glob(f"*/{RECIPE}"))
    return [int(one[1]) for one in found if one]


def _train(members: Sequence[Member], plan: Plan, report: Reporter, train: Train) -> None:
    left = [member for member in members if not member.finished()]
    if len(left) < len(members):
        report.say(f"{len(members) - len(left)} of {len(members)} runs are trained already")
    for number, member in enumerate(left):
        minutes = sum(plan.seconds(one.label) for one in left[number:]) / 60
        after = f"; then {_named(left[number + 1])}" if number + 1 < len(left) else ""
        report.say(
            f"training {_named(member)}, run {number + 1} of {len(left)}: {member.steps:,} steps, about "
            f"{plan.seconds(member.label) / 60:.1f} minutes of {minutes:.1f} left{after}"
        )
        train(member, report.quiet)


def _named(member: Member) -> str:
    return f"{member.label} (seed {member.seed})"


def _sharing(recipe: Recipe, prepared: Path) -> Recipe:
    content = recipe.model_dump(exclude_none=True)
    content["data"]["prepared"] = str(prepared.absolute())
    return make_recipe(content)
