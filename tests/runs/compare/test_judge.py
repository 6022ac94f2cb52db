"""Judging a run at a point of its training: as a run that ended there would have been."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regard.errors import CheckpointError, RecipeError
from regard.runs.compare.compare import _check_ours
from regard.runs.compare.group import Group, train_group
from regard.runs.compare.judge import Judge, TestPart, _around, validation_as_test
from regard.runs.compare.plan import changed
from regard.runs.compare.results import Estimate
from regard.runs.directory import load_model
from regard.runs.logs import log_listener
from regard.runs.train import Run
from runs.compare.small import RECIPE, Told, Trainer, setup, write_small


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Group:
    folder = tmp_path_factory.mktemp("judged")
    recipe = write_small(folder, RECIPE.replace("learning_rate = 1e-2", "learning_rate = 3e-2"))
    entries = setup(recipe).entries[:1]
    return train_group(
        folder / "out",
        {entry.label: entry.recipe for entry in entries if entry.recipe is not None},
        {entry.label: entry.folder for entry in entries},
        [1],
        validations=9,
        snapshots=True,
        report=Told().reporter,
        train=Trainer(),
    )


def judge_of(group: Group, told: Told | None = None) -> Judge:
    return Judge(validation_as_test(group.corpus), group.corpus, (told or Told()).reporter)


@pytest.mark.parametrize("step", [1, 2, 5, 9])
def test_the_weights_are_those_of_a_run_that_ends_there(group: Group, step: int, tmp_path: Path) -> None:
    ((member, history),) = group.of("Narrow")
    judge = judge_of(group)
    translator = judge.translator(member, judge.choose(member, history, step))
    shorter = changed(member.recipe, {"steps": step})
    Run(shorter, tmp_path / "run", lambda text: None).train([log_listener(tmp_path / "run" / "log.jsonl")])
    expected = load_model(tmp_path / "run", torch.device("cpu")).model.state_dict()
    for name, tensor in translator.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert translator.decoding["beam"] == 1


def test_the_mean_and_the_best_weights_are_both_chosen_somewhere(group: Group) -> None:
    # else the test above would show less than it says
    ((member, history),) = group.of("Narrow")
    judge = judge_of(group)
    assert {len(judge.choose(member, history, step)) for step in (2, 3, 5, 7, 9)} == {1, 2}


def test_what_was_judged_is_kept_for_this_text_and_decoding(group: Group) -> None:
    ((member, history),) = group.of("Narrow")
    told = Told()
    judge = judge_of(group, told)
    first = judge.judge(member, history, 4)
    assert judge.judge(member, history, 4) == first
    assert len(told.said) == 1
    assert (first.step, first.tokens, first.seconds) == (4, history.tokens_at(4), history.seconds_at(4))
    assert first.weights_of == judge.choose(member, history, 4)
    wider = changed(member.recipe, {})
    content = wider.model_copy(update={"decoding": wider.decoding.model_copy(update={"beam": 2})})
    judge.judge(type(member)(member.label, member.seed, member.directory, content), history, 4)
    assert len(told.said) == 2
    path = member.directory / "judged-00000004.json"
    path.write_text(path.read_text()[:100])  # damaged: found again
    again = judge.judge(member, history, 4)
    assert len(told.said) == 3
    assert again.bleu == first.bleu


def test_test_parts_are_told_apart() -> None:
    parts = [
        TestPart("a", ("x y",), ("z",), None, own=True),
        TestPart("b", ("x y",), ("z",), None, own=True),
        TestPart("a", ("x y",), ("w",), None, own=True),
        TestPart("a", ("x y",), ("z",), (({(0, 0)}, {(0, 0)}),), own=True),
        TestPart("a", ("x y",), ("z",), ((set(), {(0, 0)}),), own=True),
    ]
    digests = [part.digest() for part in parts]
    assert digests[0] == digests[1]  # the same text under another name
    assert len(set(digests)) == 4


def test_files_of_earlier_versions_are_read(group: Group) -> None:
    ((member, history),) = group.of("Narrow")
    told = Told()
    first = judge_of(group, told).judge(member, history, 6)
    path = member.directory / "judged-00000006.json"
    content = json.loads(path.read_text())
    del content["found"]["weights_of"]
    path.write_text(json.dumps(content))
    assert judge_of(group, told).judge(member, history, 6) == replace(first, weights_of=())
    assert len(told.said) == 1


def test_weights_that_were_removed_are_named(group: Group, tmp_path: Path) -> None:
    ((member, history),) = group.of("Narrow")
    shutil.copytree(member.directory, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "snapshots")
    with pytest.raises(CheckpointError, match=r"copy/snapshots/step-\d+\.safetensors is missing.*Remove .*copy to"):
        judge_of(group).judge(replace(member, directory=tmp_path / "copy"), history, 5)


def test_intervals_end_where_per_cents_end() -> None:
    assert _around(2.0, 5.0) == Estimate(2.0, 0.0, 7.0)
    assert _around(99.0, 5.0) == Estimate(99.0, 94.0, 100.0)
    assert _around(99.0, None) == Estimate(99.0)


def test_a_folder_with_prepared_text_alone_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "out" / "prepared").mkdir(parents=True)
    _check_ours(tmp_path / "out")
    _check_ours(tmp_path / "missing")


@pytest.mark.parametrize("name", ["plan.json", "probes/copy/plan.json"])
def test_a_plan_of_something_else_makes_no_comparison(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "mine.txt").write_text("mine")
    for content in ('{"tasks": ["write"]}', "[]", "no JSON"):
        path.write_text(content)
        with pytest.raises(RecipeError, match=r"is not a comparison, it has no plan\.json of one"):
            _check_ours(tmp_path)
    path.write_text('{"format": 1, "budget": {}, "validate_every": 3, "steps": {}, "measured": {}}')
    _check_ours(tmp_path)
