"""Comparison recipes: what they may say, and what would make a comparison unfair."""

from pathlib import Path

import pytest

from regard.errors import RecipeError
from regard.runs.compare.settings import OWN_KEYS, ProbeRecipe, Setup, read_setup
from regard.runs.compare.settings_docs import key_tables
from regard.runs.recipe import TrainingRecipe

PLAIN = """
[data]
source = "a.en"
target = "a.de"

[model]
width = {width}
heads = 2

[training]
learning_rate = {rate}
"""

RECIPE = """
[data]
source = "a.en"
target = "a.de"

[model]
dropout = 0.25

[compare]
title = "Two"

[[compare.models]]
label = "One model"
model = { name = "luong", preset = "tiny" }

[[compare.models]]
label = "Another (2nd)"
model = { dropout = 0.5 }
training = { learning_rate = 2e-3 }
"""


def read(folder: Path, text: str, *settings: str, **more: list) -> Setup:
    path = folder / "c.toml"
    path.write_text(text)
    return read_setup([path], settings, **more)


def test_models_add_to_what_is_common(tmp_path: Path) -> None:
    setup = read(tmp_path, RECIPE)
    assert setup.title == "Two"
    assert setup.out == Path("runs/c")
    assert [entry.folder for entry in setup.entries] == ["one-model", "another-2nd"]
    one, other = (entry.recipe for entry in setup.entries)
    assert one is not None
    assert other is not None
    assert (one.model.name, one.model.dropout, one.training.learning_rate) == ("luong", 0.25, 1e-3)
    assert (other.model.name, other.model.dropout, other.training.learning_rate) == ("transformer", 0.5, 2e-3)
    assert one.data.folder == str(tmp_path)


def test_settings_seeds_and_probes_replace_keys(tmp_path: Path) -> None:
    setup = read(
        tmp_path,
        RECIPE,
        "compare.sentences=3",
        "training.steps=7",
        f'data.folder="{tmp_path}/x"',
        "compare.probe.minutes=0.5",
        seeds=[4, 5],
        probes=["copy"],
    )
    assert setup.compare.sentences == 3
    assert setup.compare.seeds == [4, 5]
    assert setup.compare.probes == ["copy"]
    recipes = [entry.recipe for entry in setup.entries]
    assert [recipe.training.steps for recipe in recipes if recipe] == [7, 7]
    assert [recipe.data.folder for recipe in recipes if recipe] == [f"{tmp_path}/x"] * 2
    probe = setup.probe_recipe(setup.entries[1], {"source": "s", "target": "t"})
    assert probe.training.minutes == 0.5
    assert probe.training.steps is None
    assert probe.training.learning_rate == 2e-3
    assert probe.tokenizer.kind == "word"


def test_a_recipe_with_probes_needs_no_data(tmp_path: Path) -> None:
    text = RECIPE.replace('[data]\nsource = "a.en"\ntarget = "a.de"\n', "")
    with pytest.raises(RecipeError, match=r"neither \[data\] nor a probe"):
        read(tmp_path, text)
    setup = read(tmp_path, text, probes=["copy"])
    assert [entry.recipe for entry in setup.entries] == [None, None]


def test_ordinary_recipes_are_compared(tmp_path: Path) -> None:
    paths = [tmp_path / "narrow.toml", tmp_path / "wide.toml"]
    for path, width, rate in zip(paths, (8, 16), (1e-3, 5e-4), strict=True):
        path.write_text(PLAIN.format(width=width, rate=rate))
    setup = read_setup(paths, ["compare.title=Widths"])
    assert setup.title == "Widths"
    assert [entry.label for entry in setup.entries] == ["narrow", "wide"]
    assert setup.entries[1].training == {"learning_rate": 5e-4}
    assert read_setup(paths).title == "narrow, wide"


def test_ordinary_recipes_learn_probes_each_in_its_own_way(tmp_path: Path) -> None:
    paths = [tmp_path / "a.toml", tmp_path / "b.toml"]
    own = ("learning_rate = 0.5\nwarmup = 7\ntokens_per_batch = 99", "clip = 3.0\ntokens_per_batch = 99")
    for path, keys in zip(paths, own, strict=True):
        path.write_text(f'[data]\nsource = "a.en"\ntarget = "a.de"\n[training]\n{keys}\n')
    setup = read_setup(paths, probes=["copy"])
    data = {"source": "s", "target": "t"}
    a, b = (setup.probe_recipe(entry, data).training for entry in setup.entries)
    default = TrainingRecipe()
    assert (a.learning_rate, a.warmup, a.clip, a.tokens_per_batch) == (0.5, 7, default.clip, 99)
    assert (b.learning_rate, b.warmup, b.clip, b.tokens_per_batch) == (default.learning_rate, default.warmup, 3.0, 99)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["compare.probe.vocabulary=9"], r"compare\.probe, recall: vocabulary is 9; recall of length 10 needs"),
        (["compare.probe.tested=3000", "compare.probe.lengths=[1]"], r"compare\.probe, recall: tested is 3000"),
        (["compare.probe.training={ stepz = 3 }"], r"One model \(probe\): unknown key 'training\.stepz'"),
        (['compare.probe.training={ schedule = "cosine" }'], r"One model \(probe\): .*where the budget ends"),
        (
            ["compare.probe.longest=300", "compare.probe.vocabulary=700"],
            r"One model \(probe\): compare\.probe\.longest = 300 needs 1211 positions, model\.max_length is 1024",
        ),
    ],
)
def test_what_is_wrong_with_probes_is_said_at_once(tmp_path: Path, settings: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        read(tmp_path, RECIPE, *settings, probes=["recall"])


@pytest.mark.parametrize(("value", "given"), [('"copy"', "'copy'"), ("3", "3"), ('["cpoy"]', "'cpoy'")])
def test_probes_are_a_list(tmp_path: Path, value: str, given: str) -> None:
    with pytest.raises(RecipeError, match=rf"compare\.probes is {given}"):
        read(tmp_path, RECIPE.replace("[compare]", f"[compare]\nprobes = {value}", 1), probes=["recall"], seeds=[3])
    setup = read(tmp_path, RECIPE.replace("[compare]", '[compare]\nprobes = ["copy"]', 1), probes=["reverse", "copy"])
    assert setup.compare.probes == ["copy", "reverse"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ('source = "a.en"', "data.source"),
        ("[tokenizer]\nvocabulary = 500", "tokenizer.vocabulary"),
        ("[training]\ntokens_per_batch = 512", "training.tokens_per_batch"),
        ("[training]\naccumulate = 2", "training.accumulate"),
        ("[training]\nminutes = 2", "training.minutes"),
        ("[decoding]\nbeam = 2", "decoding.beam"),
        ("[data]\nseed = 2", "data.seed"),
    ],
)
def test_ordinary_recipes_must_agree_in_the_rest(tmp_path: Path, change: str, key: str) -> None:
    base = '[data]\nsource = "b.en"\ntarget = "a.de"\n'
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text(base)
    other.write_text(base.replace('source = "b.en"', change) if "source" in change else base + change)
    if change.startswith("[data]"):
        other.write_text(base + "seed = 2\n")
    with pytest.raises(RecipeError, match=rf"other\.toml: {key} is .*one\.toml"):
        read_setup([one, other])


def test_what_models_may_differ_in_are_keys_of_training() -> None:
    assert set(OWN_KEYS) <= set(TrainingRecipe.model_fields)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[compare]", "[compare]\nsede = [1]", r"unknown key 'compare\.sede'; did you mean 'seeds'"),
        ("[compare]", "[compare]\nseeds = [1, 1]", "one comes twice"),
        ("[compare]", "[compare]\nseeds = [-1]", r"compare\.seeds is -1"),
        ("[compare]", "[compare]\nseeds = []", r"compare\.seeds is \[\]: expected at least one"),
        ("[compare]", '[compare]\ntest_source = "t"', r"compare\.test_source and compare\.test_target"),
        ("[compare]", '[compare]\nalignments = "t"', r"compare\.alignments"),
        ("[compare]", '[compare]\nprobes = ["revers"]', r"compare\.probes is 'revers': .*'copy'"),
        (
            "[compare]",
            "[compare]\nprobe = { minute = 1 }",
            r"unknown key 'compare\.probe\.minute'; did you mean 'minutes'",
        ),
        ("[compare]", "[compare]\nprobe = { shortest = 9, longest = 5 }", "shortest = 9 is above"),
        ("[compare]", "[other]\nx = 1\n[compare]", "unknown key 'other'"),
        ("label", "lable", r"unknown key 'compare\.models\.lable'; did you mean 'label'"),
        ('label = "One model"', "", r"compare\.models\.label is missing"),
        ("Another (2nd)", "one MODEL", "two models are called 'One model' and 'one MODEL'"),
        ('preset = "tiny"', 'preset = "tinny"', r"model 'One model': model\.preset is 'tinny'"),
        ('name = "luong"', 'name = "lstm"', r"model 'One model': model\.name is 'lstm'"),
        ("learning_rate = 2e-3", "learnig_rate = 2e-3", r"unknown key 'training\.learnig_rate'; did you mean"),
        ("learning_rate = 2e-3", "steps = 3", r"training\.steps is the same for all models"),
        ("learning_rate = 2e-3", "tokens_per_batch = 3", r"training\.tokens_per_batch is the same"),
        ("learning_rate = 2e-3", 'schedule = "cosine"', 'training.schedule = "cosine".*where the budget ends'),
        ("[model]", '[training]\nschedule = "linear"\n[model]', 'training.schedule = "linear"'),
        ("[model]", '[training]\ninit_from = "x"\n[model]', r"training\.init_from: all models .* start afresh"),
        ("[model]", "[training]\npatience = 3\n[model]", r"training\.patience"),
        ("[[compare.models]]", "[[compare.model]]", r"unknown key 'compare\.model'; did you mean 'models'"),
        ("[model]", "model = 3\n[training]", r"training|model"),
        ("[compare]", "[compare", "not valid TOML"),
    ],
)
def test_wrong_recipes(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in RECIPE
    with pytest.raises(RecipeError, match=words):
        read(tmp_path, RECIPE.replace(old, new, 1) if "[[" not in old else RECIPE.replace(old, new))


def test_a_comparison_stands_alone(tmp_path: Path) -> None:
    read(tmp_path, RECIPE)
    (tmp_path / "plain.toml").write_text(PLAIN.format(width=8, rate=1e-3))
    with pytest.raises(RecipeError, match=r"c\.toml has a table \[compare\]: give it alone"):
        read_setup([tmp_path / "plain.toml", tmp_path / "c.toml"])
    with pytest.raises(RecipeError, match=r"none\.toml: no such recipe"):
        read_setup([tmp_path / "none.toml"])
    (tmp_path / "no.toml").write_text(RECIPE.split("[[")[0])
    with pytest.raises(RecipeError, match=r"compare\.models is missing"):
        read_setup([tmp_path / "no.toml"])


def test_lengths_of_probes() -> None:
    assert ProbeRecipe(shortest=5, longest=25).judged_lengths() == (5, 10, 15, 20, 25, 30, 40, 50)
    assert ProbeRecipe(lengths=[9, 4, 9]).judged_lengths() == (4, 9)


@pytest.mark.parametrize("name", ["example", "multi30k", "tatoeba", "probes"])
def test_recipes_that_come_with_the_project_are_right(name: str) -> None:
    setup = read_setup([Path(__file__).parents[3] / "recipes" / f"compare-{name}.toml"])
    assert len(setup.entries) >= 3
    for entry in setup.entries:
        assert (entry.recipe is None) == (name == "probes")
        setup.probe_recipe(entry, {"source": "s", "target": "t"})


def test_the_page_about_it_has_every_key() -> None:
    page = (Path(__file__).parents[3] / "docs" / "compare.md").read_text("utf-8")
    assert key_tables() in page
    listed = page.split("may have of its own: ")[1].split(". The comparison")[0]
    assert " ".join(listed.split()) == ", ".join(f"`{key}`" for key in OWN_KEYS)


def test_the_recipe_on_the_page_is_right(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "compare.md").read_text("utf-8")
    setup = read(tmp_path, page.split("```toml\n")[1].split("```")[0])
    assert [entry.label for entry in setup.entries] == ["Luong, local", "Transformer"]
