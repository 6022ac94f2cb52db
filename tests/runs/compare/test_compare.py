"""A whole comparison: what is equal, what is found, what is kept, and how it goes on."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regard.data.probes import write_probe
from regard.errors import CheckpointError, DataError, RecipeError
from regard.runs.compare.results import Comparison, finite
from runs.compare.small import RECIPE, Told, Trainer, run_small, setup, write_small


@pytest.fixture(scope="module", autouse=True)
def short_sentences() -> Iterator[None]:
    """Time is measured for short sentences only: tests have none to lose."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regard.runs.compare.compare.LENGTHS", (4, 8))
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, Told, Trainer]:
    """A comparison that was run once; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("comparison")
    told, trainer = Told(), Trainer()
    found = run_small(write_small(folder), folder / "out", train=trainer, told=told)
    return folder, found, told, trainer


@pytest.fixture
def copy(done: tuple[Path, Comparison, Told, Trainer], tmp_path: Path) -> Path:
    shutil.copytree(done[0], tmp_path / "copy")
    return tmp_path / "copy"


def test_everything_is_found(done: tuple[Path, Comparison, Told, Trainer]) -> None:
    _, found, told, trainer = done
    assert trainer.trained == ["narrow-seed-1", "wide-seed-1"]
    assert found.title == "Two sizes"
    assert [model.label for model in found.models] == ["Narrow", "Wide"]
    assert found.models[0].parameters < found.models[1].parameters
    assert found.models[1].words.endswith("; learning_rate = 0.005")
    for model in found.models:
        (run,) = model.runs
        assert run.steps == 9
        assert [point.step for point in run.curve] == [3, 6, 9]
        assert [point[0] for point in run.training_loss] == list(range(1, 10))
        assert run.peak_memory is not None
        assert run.peak_memory > 0
        assert 0 < run.median_gradient <= run.largest_gradient
        assert run.at_tokens.step == 9
        assert run.at_tokens.tokens == found.common_tokens == run.tokens
        assert run.at_seconds.seconds <= found.common_seconds * 1.02
        assert sum(part.sentences for part in run.at_tokens.by_length) == 16
        assert run.at_tokens.alignment_error is not None
        assert 0 <= run.at_tokens.alignment_error <= 100
        assert run.at_tokens.bleu.low is not None
        assert run.steps_to_target is not None
        assert model.reach is not None
        assert model.reach.output
        assert [speed.length for speed in model.speed] == [4, 8]
    assert found.common_seconds == min(model.runs[0].seconds for model in found.models)
    # both reached the target, and one of them no more than just
    least = [min(point.loss for point in model.runs[0].curve) for model in found.models]
    assert found.target_loss == max(least)
    assert len(found.sentences) == 2
    assert [one.label for one in found.sentences[0].said] == ["Narrow", "Wide"]
    assert "16 pairs" in found.setting["judged on"]
    assert "9 steps" in found.setting["budget"]
    assert f"{found.common_tokens:,} target tokens, step 9 of each" in found.setting["judged after"]
    assert not any("machine" in note for note in found.notes)
    assert not any("validation part" in note for note in found.notes)
    assert any("Narrow" in line and "then Wide" in line for line in told.said)
    json.dumps(found.to_json())


def test_all_were_given_the_same(done: tuple[Path, Comparison, Told, Trainer]) -> None:
    runs = [done[0] / "out" / "runs" / name for name in ("narrow-seed-1", "wide-seed-1")]
    for name in ("data.json", "tokenizer.json"):
        assert (runs[0] / name).read_text() == (runs[1] / name).read_text()
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in runs]
    steps = [[line["tokens"] for line in log if line["event"] == "step"] for log in logs]
    assert len(steps[0]) == 9
    assert steps[0] == steps[1]


def test_again_only_reads(
    copy: Path, done: tuple[Path, Comparison, Told, Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("was found before")

    for name in ("judge.evaluate", "compare.measure_reach", "compare.measure_speed", "compare.side_by_side"):
        monkeypatch.setattr(f"regard.runs.compare.{name}", never)
    monkeypatch.setattr("regard.runs.compare.plan.measure", never)
    trainer = Trainer(stop_at=0)
    again = run_small(copy / "small.toml", copy / "out", train=trainer)
    assert replace(again, setting={}) == replace(done[1], setting={})
    changed = {key for key, value in again.setting.items() if value != done[1].setting[key]}
    assert changed == {"data"}  # its folder is a copy


def test_without_the_weights_of_validations_what_is_known_is_drawn(
    copy: Path, done: tuple[Path, Comparison, Told, Trainer]
) -> None:
    for snapshots in copy.glob("out/runs/*/snapshots"):
        shutil.rmtree(snapshots)
    assert run_small(copy / "small.toml", copy / "out", train=Trainer(stop_at=0)).models == done[1].models
    with pytest.raises(CheckpointError, match=r"snapshots/step-.* is missing.*Remove .*narrow-seed-1 to train it"):
        run_small(copy / "small.toml", copy / "out", ["compare.sentences=3"], train=Trainer(stop_at=0))


def test_another_sentence_needs_no_validation(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("regard.runs.compare.judge.TranslationValidator")
    found = run_small(copy / "small.toml", copy / "out", ["compare.sentences=3"], train=Trainer(stop_at=0))
    assert len(found.sentences) == 3


def test_another_machine_is_told(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regard.runs.compare.facts.machine_words", lambda device: "Abacus")
    monkeypatch.setattr("regard.runs.compare.compare.machine_words", lambda device: "Abacus")
    told = Told()
    found = run_small(copy / "small.toml", copy / "out", train=Trainer(stop_at=0), told=told)
    assert sum("time of a token" in one for one in told.said) == 2  # measured again, for both
    (note,) = (note for note in found.notes if "machine" in note)
    assert "Narrow (seed 1), Wide (seed 1); Abacus: time of a token" in note


def test_threads_hold_for_what_is_measured_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, asked = torch.get_num_threads(), []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):  # before any run has begun
        run_small(write_small(tmp_path), out, [f"training.threads={before + 1}"], train=Trainer(stop_at=0))
    assert asked[0] == before + 1


def test_interrupted_it_goes_on(tmp_path: Path) -> None:
    recipe = write_small(tmp_path)
    first = Trainer(stop_at=1)
    with pytest.raises(KeyboardInterrupt):
        run_small(recipe, tmp_path / "out", train=first)
    plan = (tmp_path / "out" / "plan.json").read_text()
    told, second = Told(), Trainer()
    found = run_small(recipe, tmp_path / "out", train=second, told=told)
    assert first.trained == ["narrow-seed-1"]
    assert second.trained == ["wide-seed-1"]
    assert (tmp_path / "out" / "plan.json").read_text() == plan
    assert "1 of 2 runs are trained already" in told.said
    assert len(found.models) == 2


def test_seeds_and_models_can_be_added(copy: Path) -> None:
    trainer = Trainer()
    found = run_small(copy / "small.toml", copy / "out", train=trainer, seeds=[1, 2])
    assert trainer.trained == ["narrow-seed-2", "wide-seed-2"]
    assert [run.seed for run in found.models[0].runs] == [1, 2]
    assert found.models[0].runs[0].curve != found.models[0].runs[1].curve
    recipe = copy / "three.toml"
    recipe.write_text(RECIPE + '\n[[compare.models]]\nlabel = "Third"\nmodel = { width = 8, feedforward = 8 }\n')
    third = Trainer()
    found = run_small(recipe, copy / "out", train=third)
    assert third.trained == ["third-seed-1"]
    assert [len(model.runs) for model in found.models] == [1, 1, 1]
    assert found.models[2].runs[0].steps == 9


def test_other_test_text_is_judged_anew(copy: Path, done: tuple[Path, Comparison, Told, Trainer]) -> None:
    for side in ("en", "de", "align"):
        path = copy / f"test.{side}"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:8]))
    found = run_small(copy / "small.toml", copy / "out", train=Trainer(stop_at=0))
    assert sum(part.sentences for part in found.models[0].runs[0].at_tokens.by_length) == 8


def test_without_a_test_part_the_validation_part_is_judged(copy: Path) -> None:
    text = RECIPE.replace('test_source = "test.en"\ntest_target = "test.de"\nalignments = "test.align"\n', "")
    recipe = copy / "none.toml"
    recipe.write_text(text)
    found = run_small(recipe, copy / "out", train=Trainer(stop_at=0))
    assert sum(part.sentences for part in found.models[0].runs[0].at_tokens.by_length) == 20
    assert found.models[0].runs[0].at_tokens.alignment_error is None
    assert any("validation part" in note for note in found.notes)


def test_another_budget_is_refused(copy: Path) -> None:
    with pytest.raises(RecipeError, match=r"steps = 9.*not steps = 12.*--out"):
        run_small(copy / "small.toml", copy / "out", ["training.steps=12"])


@pytest.mark.parametrize("seeds", [[1], [2]])
def test_another_model_of_the_same_name_is_refused_before_it_is_measured(
    copy: Path, monkeypatch: pytest.MonkeyPatch, seeds: list[int]
) -> None:
    plan = (copy / "out" / "plan.json").read_text()
    recipe = copy / "other.toml"
    recipe.write_text(RECIPE.replace("width = 8", "width = 4"))
    monkeypatch.delattr("regard.runs.compare.plan.measure")
    with pytest.raises(RecipeError, match=r"narrow-seed-1.*model\.width: 8 → 4"):
        run_small(recipe, copy / "out", train=Trainer(stop_at=0), seeds=seeds)
    assert (copy / "out" / "plan.json").read_text() == plan


def test_a_folder_of_something_else_is_refused_before_the_plan_is_kept(copy: Path) -> None:
    plan = (copy / "out" / "plan.json").read_text()
    recipe = copy / "three.toml"
    recipe.write_text(RECIPE + '\n[[compare.models]]\nlabel = "Third"\nmodel = { width = 8, feedforward = 8 }\n')
    (copy / "out" / "runs" / "third-seed-1").mkdir()
    (copy / "out" / "runs" / "third-seed-1" / "thesis.tex").write_text("mine")
    with pytest.raises(RecipeError, match=r"third-seed-1 exists and is not a run"):
        run_small(recipe, copy / "out", train=Trainer(stop_at=0))
    assert (copy / "out" / "plan.json").read_text() == plan


def test_changed_data_are_refused(copy: Path) -> None:
    for side in ("en", "de"):
        with open(copy / f"train.{side}", "a") as file:
            file.write("one more\n")
    with pytest.raises(RecipeError, match="prepared"):
        run_small(copy / "small.toml", copy / "out")


def test_runs_with_other_tokens_are_refused(copy: Path) -> None:
    path = copy / "out" / "runs" / "wide-seed-1" / "tokenizer.json"
    path.write_text(path.read_text().replace("green", "verde"))
    with pytest.raises(DataError, match=r"wide-seed-1.*source tokenizer"):
        run_small(copy / "small.toml", copy / "out")


def test_runs_with_other_batches_are_refused(copy: Path) -> None:
    path = copy / "out" / "runs" / "wide-seed-1" / "log.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    next(line for line in lines if line["event"] == "step" and line["step"] == 4)["tokens"] += 1
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=r"wide-seed-1.*step 4"):
        run_small(copy / "small.toml", copy / "out")


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path) -> None:
    recipe = write_small(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(RecipeError, match="is not a comparison"):
        run_small(recipe, tmp_path / "out")
    with pytest.raises(RecipeError, match="is not a comparison"):
        run_small(recipe, recipe)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_what_is_wrong_with_the_test_part_is_said_before_training(tmp_path: Path) -> None:
    recipe = write_small(tmp_path)
    (tmp_path / "test.align").write_text("0-3 1-2 2-1 3-9\n" * 16)
    with pytest.raises(DataError, match=r"test\.align, line 1: link 3-9"):
        run_small(recipe, tmp_path / "out")
    (tmp_path / "test.align").write_text("0-3\n")
    with pytest.raises(DataError, match="1 lines for 16 pairs"):
        run_small(recipe, tmp_path / "out")
    (tmp_path / "test.de").unlink()
    with pytest.raises(DataError, match=r"test\.de"):
        run_small(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_minutes_are_steps_of_each_model(tmp_path: Path) -> None:
    recipe = write_small(tmp_path, RECIPE.replace("steps = 9", "minutes = 0.01"))
    found = run_small(recipe, tmp_path / "out")
    steps = {model.label: model.runs[0].steps for model in found.models}
    least = min(steps.values())
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["steps"] == steps
    for model in found.models:
        assert model.runs[0].at_tokens.step == least // plan["validate_every"] * plan["validate_every"]
    assert len({model.runs[0].at_tokens.tokens for model in found.models}) == 1
    at = "; ".join(f"{model.label} {model.runs[0].at_seconds.step:,}" for model in found.models)
    assert found.setting["judged after"].endswith(f"minutes of training steps (0.01 asked for), steps: {at}")

    # with another seed, and with what doesn't change a step, the plan stays as it is
    kept, train = (tmp_path / "out" / "plan.json").read_text(), Trainer()
    run_small(recipe, tmp_path / "out", ["training.gradient_checkpointing=true"], train=train, seeds=[1, 2])
    assert sorted(train.trained) == ["narrow-seed-2", "wide-seed-2"]
    assert (tmp_path / "out" / "plan.json").read_text() == kept


def test_a_probe_needs_no_data(tmp_path: Path) -> None:
    recipe = tmp_path / "probe.toml"
    head, models = RECIPE.split("[model]")[1].split("[compare]")
    recipe.write_text(
        "[model]" + head + '[compare]\nprobes = ["reverse"]\nvalidations = 2\n[compare.probe]\nminutes = 0.005\n'
        "shortest = 3\nlongest = 4\nvocabulary = 9\nstrings = 300\ntested = 5\nlengths = [4, 6]\n"
        "training = { warmup = 3 }\n" + models[models.index("[[") :]
    )
    trainer = Trainer()
    found = run_small(recipe, tmp_path / "out", train=trainer, seeds=[3, 4])
    assert trainer.trained == ["narrow-seed-3", "wide-seed-3", "narrow-seed-4", "wide-seed-4"]
    assert found.models == ()
    (probe,) = found.probes
    assert (probe.name, probe.shortest, probe.longest, probe.vocabulary) == ("reverse", 3, 4, 9)
    assert [(run.label, run.seed) for run in probe.runs] == [("Narrow", 3), ("Narrow", 4), ("Wide", 3), ("Wide", 4)]
    assert [(one.length, one.strings) for one in probe.runs[0].lengths] == [(4, 5), (6, 5)]
    assert probe.runs[0].tokens > 0
    kept = (tmp_path / "out" / "probes" / "reverse" / "runs" / "narrow-seed-3" / "recipe.toml").read_text()
    assert 'kind = "word"' in kept
    assert "warmup = 3" in kept
    told = Told()
    assert run_small(recipe, tmp_path / "out", train=Trainer(stop_at=0), seeds=[3, 4], told=told) == found
    assert not any("judging" in one for one in told.said)
    weights = tmp_path / "out" / "probes" / "reverse" / "runs" / "wide-seed-4" / "model.safetensors"
    shutil.copyfile(weights.parent.with_name("wide-seed-3") / weights.name, weights)
    run_small(recipe, tmp_path / "out", train=Trainer(stop_at=0), seeds=[3, 4], told=told)
    assert [one for one in told.said if "judging" in one] == ["judging Wide (seed 4)"]  # other weights


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["compare.probe.strings=300"], r"probes/copy holds a probe with other strings.*--out"),
        (["compare.probe.minutes=7"], r"probes/copy holds a comparison whose budget is minutes = 2.*not minutes = 7"),
        (["compare.probe.vocabulary=2"], r"compare\.probe, copy: tested is 200"),
    ],
)
def test_what_is_wrong_with_a_probe_is_said_before_any_training(
    tmp_path: Path, settings: list[str], words: str
) -> None:
    recipe, folder = write_small(tmp_path), tmp_path / "out" / "probes" / "copy"
    (folder / "data").mkdir(parents=True)
    write_probe(folder / "data", setup(recipe, probes=["copy"]).compare.probe.settings("copy"))
    plan = {"format": 1, "budget": {"minutes": 2, "validations": 3}, "validate_every": 3, "steps": {}, "measured": {}}
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(RecipeError, match=words):
        run_small(recipe, tmp_path / "out", settings, train=Trainer(stop_at=0), probes=["copy"])
    assert not (tmp_path / "out" / "plan.json").exists()


def test_numbers_that_json_lacks_are_none() -> None:
    assert finite({"a": (float("inf"), 1.5), "b": [float("nan")]}) == {"a": [None, 1.5], "b": [None]}


def test_setup_says_which_model_is_wrong(tmp_path: Path) -> None:
    recipe = write_small(tmp_path, RECIPE.replace("{ width = 8,", "{ widht = 8,"))
    with pytest.raises(RecipeError, match=r"model 'Narrow': unknown key 'model\.widht'; did you mean 'width'"):
        setup(recipe)
