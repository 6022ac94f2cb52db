"""Models trained alike, on the same text in the same batches by one plan: the comparison itself, and each probe."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from regard.runs.claim import PREPARED
from regard.runs.compare.collect import History, check_same_batches, read_history
from regard.runs.compare.members import RESULT, Member, Train, check_same_data, make_member
from regard.runs.compare.plan import Plan, planned
from regard.runs.corpus import Corpus, prepare_corpus
from regard.runs.directory import read_json
from regard.runs.recipe import Recipe, make_recipe
from regard.runs.train import Say

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
    prepared = Path(first.data.prepared or folder / PREPARED)
    shared = {label: _sharing(recipe, prepared) for label, recipe in recipes.items()}
    with report.counting() as show:
        corpus = prepare_corpus(next(iter(shared.values())), prepared, None, report.say, show)
    for note in corpus.notes:
        report.say(note)
    plan = planned(folder, shared, validations, report.say)
    members = [
        make_member(
            label,
            folder / RUNS / names[label],
            recipe,
            steps=plan.steps[label],
            validate_every=plan.validate_every,
            seed=seed,
            snapshots=snapshots,
        )
        for seed in seeds
        for label, recipe in shared.items()
    ]
    _train(members, plan, report, train)
    check_same_data(members, prepared)
    histories = {
        member.directory: read_history(member.directory, read_json(member.directory / RESULT)["steps"])
        for member in members
    }
    for seed in seeds:
        check_same_batches({one.directory: histories[one.directory] for one in members if one.seed == seed})
    return Group(corpus, shared, plan, tuple(members), histories)


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
