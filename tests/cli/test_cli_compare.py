"""`regard compare` as a user types it."""

import json
from pathlib import Path

import pytest

from runs.compare.small import RECIPE, Trainer, write_small


@pytest.fixture(autouse=True)
def short_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regard.runs.compare.compare.LENGTHS", (4, 8))


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """Runs train without a process of their own, which is quicker."""
    trainer = Trainer()
    defaults = ("regard.runs.compare.compare.compare.__defaults__", (trainer,))
    monkeypatch.setattr(*defaults)
    return trainer


def test_from_a_recipe_to_a_page(regard, tmp_path: Path) -> None:
    # the only test here with runs in processes of their own
    recipe = write_small(tmp_path, RECIPE.replace("[training]", "[training]\nthreads = 1"))
    out = tmp_path / "out"
    ran = regard("compare", recipe, "--out", out)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "Two sizes"
    assert any(line.startswith("Narrow") and "±" in line for line in lines)
    assert "about" in ran.err
    assert "then Wide" in ran.err
    assert "judging Wide" in ran.err
    page = out / "comparison.html"
    assert f"the page: {page}" in ran.err
    assert "Two sizes" in page.read_text("utf-8")
    peak = json.loads((out / "runs" / "wide-seed-1" / "result.json").read_text())["peak_memory"]
    assert peak > 2**20

    again = regard("compare", recipe, "--out", out, "--quiet", "--json")
    assert again.code == 0
    assert again.err == ""
    content = json.loads(again.out)
    assert [model["label"] for model in content["models"]] == ["Narrow", "Wide"]
    assert content["models"][1]["runs"][0]["peak_memory"] == peak


def test_options_are_heard(regard, tmp_path: Path, in_this_process: Trainer) -> None:
    recipe = write_small(tmp_path, RECIPE.replace('alignments = "test.align"\n', ""))
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "elsewhere" / "small.toml").absolute()
    recipe.rename(moved)
    options = ["--data", tmp_path, "--out", tmp_path / "out", "--seeds", "3,5", "--threads", "1", "--device", "cpu"]
    settings = ["--set", "training.steps=4", "--set", "compare.sentences=1", "--set", "compare.probe.minutes=0.003"]
    probe = ["--probe", "reverse", "--set", "compare.probe.vocabulary=9", "--set", "compare.probe.strings=200"]
    ran = regard("compare", moved, *options, *settings, *probe, "--set", "compare.probe.tested=4")
    assert ran.code == 0, ran.err
    runs = ["narrow-seed-3", "wide-seed-3", "narrow-seed-5", "wide-seed-5"]
    assert in_this_process.trained == [*runs, *runs]
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["models"][0]["runs"][0]["steps"] == 4
    assert len(content["sentences"]) == 1
    assert content["probes"][0]["name"] == "reverse"
    assert "reverse: per cent exact by length, trained to 25, mean of 2 seeds" in ran.out
    assert " to " in next(line for line in ran.out.splitlines() if line.startswith("Narrow"))


def test_ordinary_recipes_are_compared(regard, tmp_path: Path, in_this_process: Trainer) -> None:
    head = write_small(tmp_path).read_text().split("[compare]")[0]
    paths = [tmp_path / "a.toml", tmp_path / "b.toml"]
    for path, width in zip(paths, (8, 16), strict=True):
        path.write_text(head.replace("[model]", f"[model]\nfeedforward = 8\nwidth = {width}"))
    ran = regard("compare", *paths, "--out", tmp_path / "out", "--set", "compare.test_source=test.en", "--set",
                 "compare.test_target=test.de", "--quiet")  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.err == ""
    assert ran.out.startswith("a, b\n")
    refused = regard("compare", *paths, "--out", tmp_path / "c", "--set", "training.schedule=cosine")
    assert refused.code == 2
    assert "where the budget ends" in refused.err
    assert not (tmp_path / "c").exists()


def test_interrupted_it_says_how_to_go_on(regard, tmp_path: Path, in_this_process: Trainer) -> None:
    in_this_process.stop_at = 1
    recipe = write_small(tmp_path)
    ran = regard("compare", recipe, "--out", tmp_path / "out")
    assert ran.code == 130
    assert ran.out == ""
    assert "stopped; the same command goes on" in ran.err
    in_this_process.stop_at = None
    assert regard("compare", recipe, "--out", tmp_path / "out").code == 0
    assert in_this_process.trained == ["narrow-seed-1", "wide-seed-1"]


def test_interrupted_while_drawing_it_says_how_to_go_on(
    regard, tmp_path: Path, in_this_process: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("regard.runs.compare.report.write_comparison", interrupted)
    ran = regard("compare", write_small(tmp_path), "--out", tmp_path / "out")
    assert ran.code == 130
    assert "stopped; the same command goes on" in ran.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seeds", "1,x"], "--seeds 1,x: expected whole numbers"),
        (["--seeds", "1,1"], "one comes twice"),
        (["--probe", "revers"], "compare.probes is 'revers'"),
        (["--set", "compare.sentense=3"], "did you mean 'sentences'"),
        (["--set", "training.stepz=3"], "did you mean 'steps'"),
        (["--minutes", "-1"], "training.minutes is -1.0"),
        (["--device", "tpu9"], "tpu9"),
        (["--set", "compare.test_source=none.en"], "none.en"),
        (["--set", "data.source=none.en"], "none.en"),
        (["--set", "training.tokens_per_batch=3"], "tokens_per_batch"),
    ],
)
def test_wrong_input_is_one_line(regard, tmp_path: Path, options: list[str], words: str) -> None:
    ran = regard("compare", write_small(tmp_path), "--out", tmp_path / "out", *options)
    assert ran.code == 2, ran.err
    assert ran.out == ""
    assert words in ran.err.splitlines()[-1]


def test_no_recipe_is_an_error(regard, tmp_path: Path) -> None:
    assert regard("compare").code == 2
    ran = regard("compare", tmp_path / "none.toml")
    assert ran.code == 2
    assert "none.toml: no such recipe" in ran.err
