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

from regard.errors import CheckpointError, RecipeError
from regard.models.config import parameter_count
from regard.runs.build import torch_device
from regard.runs.claim import PREPARED, only_one
from regard.runs.compare.collect import History, lowest_common_loss
from regard.runs.compare.facts import describe_notes, describe_setting
from regard.runs.compare.group import Reporter, train_group
from regard.runs.compare.judge import Judge, TestPart, read_test_part, validation_as_test
from regard.runs.compare.members import RESULT, Member, Train, train_in_process
from regard.runs.compare.plan import PLAN, read_plan
from regard.runs.compare.probe_runs import check_probe, run_probe
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
from regard.runs.directory import RECIPE, load_model, read_json
from regard.runs.machine import machine_words
from regard.runs.recipe import Recipe
from regard.runs.translator import Translator, specials_of

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
    for name in setup.compare.probes:  # now rather than after all that is trained before them
        check_probe(setup, name, out / PROBES / name)
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


class _Models:
    """The models that are looked into, as they were judged after the common tokens; each is read when first needed."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._known: dict[str, Translator] = {}

    def of(self, judged: _Judged) -> Translator:
        """The model of a run.

        Raises:
            CheckpointError: its weights are missing or cannot be read.
        """
        member, at = judged.member, judged.run.at_tokens
        if member.label not in self._known:
            chosen = at.weights_of or self._judge.choose(member, judged.history, at.step)
            self._known[member.label] = self._judge.translator(member, chosen)
        return self._known[member.label]


def _check_ours(out: Path) -> None:
    """Refuse a directory that holds anything but a comparison."""
    if not out.exists():
        return
    names = {entry.name for entry in out.iterdir() if not entry.name.startswith(".")} if out.is_dir() else {RECIPE}
    if names <= {PREPARED, PROBES}:  # interrupted before there was a plan
        return
    plans = [out / PLAN, *out.glob(f"{PROBES}/*/{PLAN}")]
    if RECIPE in names or not any(map(_is_plan, plans)):
        raise RecipeError(f"{out} exists and is not a comparison, it has no {PLAN} of one: choose another --out")


def _is_plan(path: Path) -> bool:
    try:
        read_plan(path)
    except CheckpointError:
        return False
    return True


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
        step, in_time = history.last_within(common_seconds)
        if not in_time:
            late.append(f"{member.label} (seed {member.seed})")
        at_tokens = judge.judge(member, history, common_step)
        at_seconds = judge.judge(member, history, step)
        run = _seed_run(member, history, target_loss, at_tokens, at_seconds)
        judged[member.label].append(_Judged(member, history, run))
    models = _Models(judge)
    results = [_model_result(entry, judged[entry.label], models, part, report) for entry in setup.entries]
    firsts = [judged[label][0] for label in labels]
    runs = {label: [one.run for one in judged[label]] for label in labels}
    return Comparison(
        title=setup.title,
        setting=describe_setting(group, part, setup.compare, common_seconds, runs),
        common_tokens=firsts[0].history.tokens_at(common_step),
        common_seconds=common_seconds,
        target_loss=target_loss,
        models=tuple(results),
        sentences=_sentences(setup, models, firsts, common_step, part, out, report),
        probes=(),
        notes=describe_notes(group, part, late, setup.compare),
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
        tokens_per_second=history.tokens_per_second(),
        peak_memory=read_json(member.directory / RESULT).get("peak_memory"),
        largest_gradient=float(history.gradients.max()),
        median_gradient=float(median(history.gradients)),
        at_tokens=at_tokens,
        at_seconds=at_seconds,
    )


def _model_result(
    entry: Entry, judged: list[_Judged], models: _Models, part: TestPart, report: Reporter
) -> ModelResult:
    """What is known of a model; its first run is the one that is looked into."""
    first = judged[0]
    directory, training = first.member.directory, first.member.recipe.training
    saved = load_model(directory, torch_device(training.device))

    def find_reach() -> Reach:
        translator = models.of(first)
        chosen = choose_sentences(part.sources, REACH_SENTENCES)
        sides = translator.tokenizers.source, translator.tokenizers.target
        texts = [part.sources[i] for i in chosen], [part.references[i] for i in chosen]
        rows = (side.encode_batch(column) for side, column in zip(sides, texts, strict=True))
        pairs = [pair for pair in zip(*rows, strict=True) if max(map(len, pair)) <= translator.max_tokens]
        with report.counting() as show:
            return measure_reach(translator.model, pairs, translator.specials, translator.device, show)

    lengths = [length for length in LENGTHS if length < saved.model.config.max_length]

    def find_speed() -> tuple[LengthSpeed, ...]:
        report.say(f"measuring the time of a token as sentences grow: {entry.label}")
        return measure_speed(saved.model, specials_of(saved.tokenizers), lengths)  # whatever its weights

    of_model = {"step": first.run.at_tokens.step, "average": training.average}
    of_reach = of_model | {"test": part.digest(), "distance": "in the order of reading"}
    of_speed = {"lengths": lengths, "machine": machine_words(torch_device(training.device))}
    return ModelResult(
        label=entry.label,
        words="; ".join([saved.model.config.words(), *(f"{key} = {value}" for key, value in entry.training.items())]),
        parameters=parameter_count(saved.model),
        runs=tuple(one.run for one in judged),
        reach=remembered(directory / "reach.json", REACH, of_reach, find_reach),
        speed=remembered(directory / "speed.json", SPEED, of_speed, find_speed),
    )


def _sentences(
    setup: Setup,
    models: _Models,
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
        "runs": [[one.member.label, one.run.seconds] for one in firsts],
        "decoding": [one.member.recipe.decoding.model_dump() for one in firsts],
    }

    def find() -> tuple[SentenceResult, ...]:
        report.say("translating sentences with every model, side by side")
        return side_by_side([(one.member.label, models.of(one)) for one in firsts], sources, references)

    return remembered(out / "sentences.json", SENTENCES, key, find) if chosen else ()
