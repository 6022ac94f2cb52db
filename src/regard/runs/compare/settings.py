"""Comparison recipes: what is common to all models, as in an ordinary recipe, and [compare], which names the models.

Several ordinary recipes make a comparison too. Whatever would make a comparison unfair is an error that says why: other
data, tokenizers, batches or budgets, and schedules whose rates depend on where the budget ends.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from regard.data.probes import ProbeSettings
from regard.errors import ArgumentError, RecipeError
from regard.models.config import ModelConfig
from regard.runs.recipe import (
    ColumnNames,
    Columns,
    Recipe,
    TrainingRecipe,
    make_recipe,
)
from regard.runs.recipe_files import apply_setting, read_content
from regard.runs.sections import Positive, PositiveFloat, Section, explain

# [training] keys that a model may have of its own: how it learns, not what it is shown, how long, or how it is watched
OWN_KEYS = (
    "learning_rate",
    "final_rate",
    "schedule",
    "warmup",
    "betas",
    "weight_decay",
    "label_smoothing",
    "clip",
    "average",
    "precision",
    "gradient_checkpointing",
)
# set for each run by the comparison itself, whatever a recipe says
SET_KEYS = ("seed", "validate_every", "snapshots")
BUDGET_KEYS = ("epochs", "steps", "tokens", "minutes")

ProbeName = Literal["copy", "reverse", "recall"]


class EntryRecipe(Section):
    """Each `[[compare.models]]`: a model, and how it learns where that differs."""

    label: Annotated[str, Field(min_length=1)]
    """What the model is called in the comparison."""
    model: dict[str, Any] = Field(default={})
    """The model's own keys of [model], as { name = "…", preset = "…" }; the others are those of [model]."""
    training: dict[str, Any] = Field(default={})
    """Its own keys of [training], such as learning_rate; not those that say how much it is shown."""


class ProbeRecipe(Section):
    """`[compare.probe]`: the strings of the probes, and how models are trained on them."""

    minutes: PositiveFloat = 2.0
    """Training time of a model for each probe, measured at the start and turned into steps."""
    shortest: Positive = 5
    """Length of the shortest training strings."""
    longest: Positive = 25
    """Length of the longest training strings."""
    vocabulary: Annotated[int, Field(ge=2)] = 50
    """How many symbols there are."""
    strings: Positive = 100_000
    """How many training strings are generated."""
    tested: Positive = 200
    """How many strings of each length are judged; none of them is a training string."""
    lengths: list[Positive] | None = None
    """Lengths that are judged; if not given, some that were trained, and some up to twice the longest."""
    training: dict[str, Any] = Field(default={})
    """Keys of [training] that hold for the probes only."""

    @model_validator(mode="after")
    def _check_lengths(self) -> "ProbeRecipe":
        if self.shortest > self.longest:
            raise ValueError(
                f"compare.probe.shortest = {self.shortest} is above compare.probe.longest = {self.longest}"
            )
        return self

    def judged_lengths(self) -> tuple[int, ...]:
        """The lengths at which models are judged."""
        if self.lengths:
            return tuple(sorted(set(self.lengths)))
        span = self.longest - self.shortest
        trained = {self.shortest + round(span * part / 4) for part in range(5)}
        return tuple(sorted(trained | {round(self.longest * factor) for factor in (1.2, 1.6, 2.0)}))

    @property
    def max_length(self) -> int:
        """`data.max_length` of the probes' recipes: no training string is longer."""
        return max(200, 4 * self.longest + 10)

    def settings(self, name: str) -> ProbeSettings:
        """What the files of a probe are made of.

        Raises:
            RecipeError: there are not enough different strings of a length.
        """
        try:
            return ProbeSettings(
                name=name,
                shortest=self.shortest,
                longest=self.longest,
                vocabulary=self.vocabulary,
                strings=self.strings,
                test_each=self.tested,
                lengths=self.judged_lengths(),
            )
        except ArgumentError as error:  # it names its own argument
            raise RecipeError(f"compare.probe, {name}: {str(error).replace('test_each', 'tested')}") from error


class CompareRecipe(Section):
    """[compare]: which models, judged on what."""

    title: str | None = None
    """Heading of the page."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[1])
    """Each model is trained once for each of these seeds: of weights, order and dropout."""
    test_source: str | None = None
    """Test sources, relative to data.folder like the other data; without a test part the validation part is judged."""
    test_target: str | None = None
    """Test targets."""
    test_pairs: str | None = None
    """Instead of both: a table of pairs, as `data.pairs`."""
    test_columns: Columns | ColumnNames | None = None
    """Columns of the test table; `data.columns` if not given."""
    alignments: str | None = None
    """Gold word alignments of the test part, a line for each pair: 0-0 1-2, possible links 1?3."""
    sentences: Annotated[int, Field(ge=0)] = 6
    """How many test sentences are shown in every model's translation."""
    target_loss: PositiveFloat | None = None
    """Validation loss that steps and seconds are counted to; if not given, the lowest that every model reached."""
    validations: Positive = 12
    """Validations, so points that can be judged, up to the step that all models reach; quicker ones have more."""
    probes: list[ProbeName] = Field(default=[])
    """Probes, which need no data: copy, reverse, recall."""
    probe: ProbeRecipe = ProbeRecipe()
    """Their strings and training, a table [compare.probe]; see below."""
    models: list[EntryRecipe] = Field(default=[])
    """The models, each a table [[compare.models]]; see below."""

    @model_validator(mode="after")
    def _check(self) -> "CompareRecipe":
        if (self.test_source is None) != (self.test_target is None) or (self.test_pairs and self.test_source):
            raise ValueError("give either compare.test_source and compare.test_target, or compare.test_pairs, or none")
        if self.alignments is not None and self.test_source is None and self.test_pairs is None:
            raise ValueError("compare.alignments are those of a test part: give compare.test_source or test_pairs")
        if not self.seeds:
            raise ValueError("compare.seeds is []: expected at least one")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"compare.seeds = {self.seeds}: one comes twice")
        return self


@dataclass(frozen=True)
class Entry:
    """One model of a comparison.

    Attributes:
        label: what it is called.
        folder: its label as the beginning of a file name.
        model: its section [model].
        training: its own keys of [training].
        recipe: the recipe of its runs; None where the comparison has probes only.
    """

    label: str
    folder: str
    model: dict[str, Any]
    training: dict[str, Any]
    recipe: Recipe | None


@dataclass(frozen=True)
class Setup:
    """A comparison, checked.

    Attributes:
        title: its heading.
        out: the directory that the recipe names, or else one that follows from the recipe's name.
        compare: the section [compare].
        training: [training] as given for all models, which probes are trained with too.
        decoding: [decoding] as given.
        entries: the models.
    """

    title: str
    out: Path
    compare: CompareRecipe
    training: dict[str, Any]
    decoding: dict[str, Any]
    entries: tuple[Entry, ...]

    def probe_recipe(self, entry: Entry, data: dict[str, Any]) -> Recipe:
        """The recipe by which a model is trained on a probe whose files are the section `data`.

        Raises:
            RecipeError: a key of [training] or [compare.probe] doesn't fit.
        """
        probe = self.compare.probe
        training = {key: value for key, value in self.training.items() if key not in BUDGET_KEYS}
        training |= probe.training | entry.training | {"minutes": probe.minutes}
        content = {"data": data, "tokenizer": {"kind": "word"}, "model": entry.model, "training": training}
        recipe = make_recipe(content | {"decoding": self.decoding}, origin=f"{entry.label} (probe)")
        check_fair(recipe.training, f"{entry.label} (probe)")
        positions = recipe.model.max_length or ModelConfig.max_length
        if recipe.data.max_length + 1 > positions:
            raise RecipeError(
                f"{entry.label} (probe): compare.probe.longest = {probe.longest} needs {recipe.data.max_length + 1} "
                f"positions, model.max_length is {positions}: lower the one or raise the other"
            )
        return recipe

    def check_probes(self) -> None:
        """Check all that can be known of the probes before anything is trained.

        Raises:
            RecipeError: a key doesn't fit, or there are not enough different strings.
        """
        for name in self.compare.probes:
            self.compare.probe.settings(name)
            for entry in self.entries:
                data = {"source": "source", "target": "target", "max_length": self.compare.probe.max_length}
                self.probe_recipe(entry, data)


def read_setup(
    paths: Sequence[Path],
    settings: Sequence[str] = (),
    *,
    seeds: Sequence[int] | None = None,
    probes: Sequence[str] = (),
) -> Setup:
    """Read a comparison recipe, or several ordinary recipes, and apply `section.key=value` settings.

    Args:
        paths: one recipe with a table [compare], or ordinary ones.
        settings: replace keys of the recipe, or of each; `compare.key=value` too.
        seeds: instead of `compare.seeds`.
        probes: besides `compare.probes`.

    Raises:
        RecipeError: a file is missing or wrong, a key is unknown or has a wrong value, or the models would not be
            trained alike; the message names the key.
    """
    compare_settings = [one for one in settings if one.split("=")[0].split(".")[0].strip() == "compare"]
    others = [one for one in settings if one not in compare_settings]
    contents = [read_content(path, others) for path in paths]
    for path, content in zip(paths, contents, strict=True):
        for name in ("data", "model", "training", "decoding"):
            if not isinstance(content.get(name, {}), dict):
                raise RecipeError(f"{path}: {name} is {content[name]!r}: expected a table [{name}]")
    tables = [content.pop("compare", None) for content in contents]
    if len(paths) > 1 and any(table is not None for table in tables):
        named = paths[[table is not None for table in tables].index(True)]
        raise RecipeError(f"{named} has a table [compare]: give it alone, or ordinary recipes only")
    holder: dict[str, Any] = {"compare": tables[0] if tables[0] is not None else {}}
    for setting in compare_settings:
        apply_setting(holder, setting)
    compare = _check_table(holder["compare"], str(paths[0]))
    given: dict[str, Any] = {} if seeds is None else {"seeds": list(seeds)}
    if given or probes:
        given["probes"] = list(dict.fromkeys([*compare.probes, *probes]))
        compare = _check_table(holder["compare"] | given, str(paths[0]))
    if tables[0] is not None:
        setup = _from_table(paths[0], contents[0], compare)
    else:
        setup = _from_recipes(paths, contents, compare)
    setup.check_probes()
    return setup


def check_fair(training: TrainingRecipe, origin: str) -> None:
    """Refuse settings under which equal budgets mean nothing.

    Raises:
        RecipeError: with the key.
    """
    if training.schedule in ("cosine", "linear"):
        raise RecipeError(
            f'{origin}: training.schedule = "{training.schedule}" doesn\'t go with a comparison: its rates depend on '
            "where the budget ends, so a model after T tokens would not be what a run of T tokens makes; take "
            '"inverse_sqrt" or "constant"'
        )
    for key, why in {
        "init_from": "all models of a comparison start afresh",
        "patience": "all models of a comparison use their whole budget",
    }.items():
        if getattr(training, key) is not None:
            raise RecipeError(f"{origin}: training.{key}: {why}; leave it out")


def _from_table(path: Path, content: dict[str, Any], compare: CompareRecipe) -> Setup:
    """The setup of a recipe with a table [compare]."""
    if not compare.models:
        raise RecipeError(f"{path}: compare.models is missing: each model is a table [[compare.models]]")
    has_data = set(content.get("data", {})) > {"folder"}
    if not has_data and not compare.probes:
        raise RecipeError(f"{path}: there is neither [data] nor a probe: give data.source and the like, or probes")
    entries = []
    for given in compare.models:
        origin = f"{path}, model {given.label!r}"
        for key in given.training:
            if key not in OWN_KEYS and key in TrainingRecipe.model_fields:
                raise RecipeError(
                    f"{origin}: training.{key} is the same for all models; their own may be {', '.join(OWN_KEYS)}"
                )
        own = {"model": content.get("model", {}) | given.model}
        own["training"] = content.get("training", {}) | given.training
        data = content["data"] if has_data else {"source": "source", "target": "target"}  # to check the other sections
        recipe = make_recipe({**content, **own, "data": data}, origin=origin)
        check_fair(recipe.training, origin)
        entries.append(Entry(given.label, "", own["model"], given.training, recipe if has_data else None))
    out = Path(content.get("out", f"runs/{path.stem}"))
    return _setup(compare, compare.title or path.stem, out, content, entries)


def _from_recipes(paths: Sequence[Path], contents: Sequence[dict[str, Any]], compare: CompareRecipe) -> Setup:
    """The setup of ordinary recipes, which may differ in the model and in how it learns."""
    if compare.models:
        raise RecipeError("compare.models: ordinary recipes are the models themselves")
    recipes = [make_recipe(content, origin=str(path)) for path, content in zip(paths, contents, strict=True)]
    for path, recipe in zip(paths, recipes, strict=True):
        check_fair(recipe.training, str(path))
        for key, value in _common(recipe).items():
            if _common(recipes[0])[key] != value:
                raise RecipeError(
                    f"{path}: {key} is {value!r}, in {paths[0]} it is {_common(recipes[0])[key]!r}: models of a "
                    f"comparison differ in [model] and in training.{', '.join(OWN_KEYS)} alone"
                )
    entries = []
    for path, content, recipe in zip(paths, contents, recipes, strict=True):
        given = content.get("training", {})
        own = {key: given[key] for key in OWN_KEYS if key in given}
        entries.append(Entry(path.stem, "", content.get("model", {}), own, recipe))
    title = compare.title or ", ".join(path.stem for path in paths)
    # each entry has its own keys; the first recipe's are not the others'
    training = {key: value for key, value in contents[0].get("training", {}).items() if key not in OWN_KEYS}
    return _setup(compare, title, Path("runs/comparison"), {**contents[0], "training": training}, entries)


def _setup(compare: CompareRecipe, title: str, out: Path, content: dict[str, Any], entries: Sequence[Entry]) -> Setup:
    taken: dict[str, str] = {}
    named = []
    for entry in entries:
        folder = re.sub(r"[^a-z0-9]+", "-", entry.label.lower()).strip("-") or "model"
        if folder in taken:
            raise RecipeError(
                f"two models are called {taken[folder]!r} and {entry.label!r}: labels must differ in letters or digits"
            )
        taken[folder] = entry.label
        named.append(Entry(entry.label, folder, entry.model, entry.training, entry.recipe))
    return Setup(title, out, compare, content.get("training", {}), content.get("decoding", {}), tuple(named))


def _common(recipe: Recipe) -> dict[str, Any]:
    """Everything that must be the same for all models, flat."""
    content = recipe.model_dump(exclude={"task", "out", "model"})
    for key in (*OWN_KEYS, *SET_KEYS):
        del content["training"][key]
    return {f"{section}.{key}": value for section, table in content.items() for key, value in table.items()}


def _check_table(table: Any, origin: str) -> CompareRecipe:
    try:
        return CompareRecipe.model_validate(table)
    except ValidationError as error:
        raise RecipeError(f"{origin}: " + "; ".join(map(_explain, error.errors()))) from None


def _explain(error: ErrorDetails) -> str:
    """One pydantic error about [compare] in words that name the key, what came and what was expected."""
    place = [part for part in error["loc"] if isinstance(part, str)]
    key = ".".join(["compare", *place])
    sections: dict[str, type[BaseModel]] = {"probe": ProbeRecipe, "models": EntryRecipe}
    section = sections.get(place[0] if len(place) > 1 else "", CompareRecipe)
    return explain(error, key, list(section.model_fields))
