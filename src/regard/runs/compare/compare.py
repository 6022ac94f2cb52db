"""`compare`: train several models on the same data with the same budget, judge them, and tell all that was found.

plan.json                         the budget in steps of each model, frozen before training
prepared/                         the tokenised text, the same for all
runs/MODEL-seed-N.toml            the recipe of a run
runs/MODEL-seed-N/                the run as `regard train` makes it, and what was found: judged-STEP.json and so on
sentences.json                    the sentences shown side by side
probes/NAME/                      a probe: data/, and plan.json, prepared/, runs/ as above

What is there already is not done again: an interrupted comparison goes on, and seeds, models and probes can be added.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from pydantic import TypeAdapter

from regard.errors import RecipeError
from regard.models.encoder_decoder import parameter_count
from regard.runs.claim import PREPARED, only_one
from regard.runs.compare.collect import History, lowest_common_loss
from regard.runs.compare.facts import describe_notes, describe_setting
from regard.runs.compare.group import Reporter, train_group
from regard.runs.compare.judge import Judge, TestPart, read_test_part, validation_as_test
from regard.runs.compare.members import RESULT, Member, Train, train_in_process
from regard.runs.compare.plan import PLAN
from regard.runs.compare.probe_runs import run_probe
from regard.runs.compare.reach import measure_reach
from regard.runs.compare.remembered import remembered
from regard.runs.compare.results import (
    Comparison,
    Judged,
    LengthSpeed,
    ModelResult,
    Reach,
    SeedRun,
    SentenceResult,
)
from regard.runs.compare.sentences import choose_sentences, side_by_side
from regard.runs.compare.settings import Entry, Setup
from regard.runs.compare.speed import LENGTHS, measure_speed
from regard.runs.directory import RECIPE, read_json
from regard.runs.recipe import Recipe
from regard.runs.snapshots import snapshot_steps
from regard.runs.translator import Translator

PROBES = "probes"
REACH_SENTENCES = 40  # test sentences whose gradients are measured

REACH = TypeAdapter(Reach)
SPEED = TypeAdapter(tuple[LengthSpeed, ...])
SENTENCES = TypeAdapter(tuple[SentenceResult, ...])


def compare(setup: Setup, out: Path, report: Reporter, train: Train = train_in_process) -> Comparison:
    """Do a comparison in `out`, or go on with it.

    Args:
        setup: what is compared.
        out: a directory that is missing, empty, or holds this comparison.
        report: told what is being done.
        train: trains one run.

    Raises:
        RecipeError: the directory holds something else or is in use, or the recipe doesn't fit it.
        DataError: the data or the test part cannot be used, or are not those that the comparison began with.
        CheckpointError: a run in the directory is damaged.
        TrainingError: a run failed.
        KeyboardInterrupt: a run was interrupted; the same call goes on.
    """
    _check_ours(out)
    recipes = {entry.label: entry.recipe for entry in setup.entries if entry.recipe is not None}
    part = None if not recipes else read_test_part(setup.compare, next(iter(recipes.values())).data)
    out.mkdir(parents=True, exist_ok=True)
    with only_one(out):
        text = _compare_text(setup, recipes, part, out, report, train) if recipes else None
        probes = tuple(run_probe(setup, name, out / PROBES / name, report, train) for name in setup.compare.probes)
    return replace(text or Comparison(setup.title, {}, 0, 0.0, 0.0, (), (), (), ()), probes=probes)


@dataclass(frozen=True)
class _Judged:
    """A run and what was found of it."""

    member: Member
    history: History
    run: SeedRun


def _check_ours(out: Path) -> None:
    """Refuse a directory that holds anything but a comparison."""
    if not out.exists():
        return
    names = {entry.name for entry in out.iterdir() if not entry.name.startswith(".")} if out.is_dir() else {RECIPE}
    if RECIPE in names or (names and not names & {PLAN, PREPARED, PROBES}):
        raise RecipeError(f"{out} exists and is not a comparison: choose another --out")


def _compare_text(
    setup: Setup, recipes: dict[str, Recipe], given: TestPart | None, out: Path, report: Reporter, train: Train
) -> Comparison:
    """Everything but the probes."""
    group = train_group(
        out,
        recipes,
        {entry.label: entry.folder for entry in setup.entries},
        setup.compare.seeds,
        validations=setup.compare.validations,
        snapshots=True,
        report=report,
        train=train,
    )
    labels = list(recipes)
    part = given if given is not None else validation_as_test(group.corpus)
    histories = list(group.histories.values())
    common_step = group.plan.common(labels)
    common_seconds = min(history.seconds_at(len(history)) for history in histories)
    target_loss = setup.compare.target_loss or lowest_common_loss(histories)
    judge = Judge(part, group.corpus, report)
    late: list[str] = []
    judged: dict[str, list[_Judged]] = {label: [] for label in labels}
    for member in group.members:
        history = group.histories[member.directory]
        step, in_time = history.last_within(common_seconds, snapshot_steps(member.directory))
        if not in_time:
            late.append(f"{member.label} (seed {member.seed})")
        at_tokens = judge.judge(member, history, common_step)
        at_seconds = judge.judge(member, history, step)
        run = _seed_run(member, history, target_loss, at_tokens, at_seconds)
        judged[member.label].append(_Judged(member, history, run))
    results, translators = [], []
    for entry in setup.entries:
        first = judged[entry.label][0]
        translator = judge.translator(first.member, first.history, common_step)
        translators.append((entry.label, translator))
        results.append(_model_result(entry, [one.run for one in judged[entry.label]], first, translator, part, report))
    firsts = [judged[label][0] for label in labels]
    return Comparison(
        title=setup.title,
        setting=describe_setting(group, part, setup.compare),
        common_tokens=firsts[0].history.tokens_at(common_step),
        common_seconds=common_seconds,
        target_loss=target_loss,
        models=tuple(results),
        sentences=_sentences(setup, translators, firsts, common_step, part, out, report),
        probes=(),
        notes=describe_notes(part, late, setup.compare),
    )


def _seed_run(member: Member, history: History, target_loss: float, at_tokens: Judged, at_seconds: Judged) -> SeedRun:
    steps = len(history)
    reached = history.first_at_most(target_loss)
    return SeedRun(
        seed=member.seed,
        steps=steps,
        tokens=history.tokens_at(steps),
        seconds=history.seconds_at(steps),
        curve=history.curve(),
        training_loss=history.training_loss(),
        steps_to_target=reached,
        seconds_to_target=None if reached is None else history.seconds_at(reached),
        tokens_per_second=history.tokens_at(steps) / history.seconds_at(steps),
        peak_memory=read_json(member.directory / RESULT).get("peak_memory"),
        largest_gradient=float(history.gradients.max()),
        median_gradient=float(median(history.gradients)),
        at_tokens=at_tokens,
        at_seconds=at_seconds,
    )


def _model_result(
    entry: Entry, runs: list[SeedRun], first: _Judged, translator: Translator, part: TestPart, report: Reporter
) -> ModelResult:
    """What is known of a model; `first` is the run of it that is looked into, `translator` its model."""
    directory, step, model = first.member.directory, first.run.at_tokens.step, translator.model
    key = {"step": step, "average": first.member.recipe.training.average}

    def find_reach() -> Reach:
        chosen = choose_sentences(part.sources, REACH_SENTENCES)
        sides = translator.tokenizers.source, translator.tokenizers.target
        texts = [part.sources[i] for i in chosen], [part.references[i] for i in chosen]
        rows = (side.encode_batch(column) for side, column in zip(sides, texts, strict=True))
        pairs = [pair for pair in zip(*rows, strict=True) if max(map(len, pair)) <= translator.max_tokens]
        with report.counting() as show:
            return measure_reach(model, pairs, translator.specials, translator.device, show)

    lengths = [length for length in LENGTHS if length <= translator.max_tokens]

    def find_speed() -> tuple[LengthSpeed, ...]:
        report.say(f"measuring the time of a token as sentences grow: {entry.label}")
        return measure_speed(model, translator.specials, lengths)

    return ModelResult(
        label=entry.label,
        words="; ".join([model.config.words(), *(f"{key} = {value}" for key, value in entry.training.items())]),
        parameters=parameter_count(model),
        runs=tuple(runs),
        reach=remembered(directory / "reach.json", REACH, key | {"test": part.digest()}, find_reach),
        speed=remembered(directory / "speed.json", SPEED, {"lengths": lengths}, find_speed),
    )


def _sentences(
    setup: Setup,
    translators: list[tuple[str, Translator]],
    firsts: list[_Judged],
    step: int,
    part: TestPart,
    out: Path,
    report: Reporter,
) -> tuple[SentenceResult, ...]:
    chosen = choose_sentences(part.sources, setup.compare.sentences)
    sources, references = ([side[i] for i in chosen] for side in (part.sources, part.references))
    key = {
        "step": step,
        "texts": [sources, references],
        # seconds tell a run from another of the same model
        "runs": [[label, one.run.seconds] for (label, _), one in zip(translators, firsts, strict=True)],
        "decoding": [translator.decoding for _, translator in translators],
    }

    def find() -> tuple[SentenceResult, ...]:
        report.say("translating sentences with every model, side by side")
        return side_by_side(translators, sources, references)

    return remembered(out / "sentences.json", SENTENCES, key, find) if chosen else ()
