"""`regard label`: classes for lines, tags for words; order, formats, streams, errors. Also `evaluate --labelled`."""

import gzip
import json
from pathlib import Path

import pytest

from label_examples import (
    as_toml,
    classification_recipe,
    labelled,
    tagged,
    tagging_recipe,
    write_labelled,
    write_tagged,
)
from regard.runs.recipes import open_recipe
from regard.runs.train import Run


def train(folder: Path, content: dict) -> Path:
    (folder / "recipe.toml").write_text(as_toml(content))
    Run(open_recipe(folder / "recipe.toml"), folder / "run", lambda text: None).train()
    return folder / "run"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    return train(folder, classification_recipe(folder))


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tagger")
    return train(folder, tagging_recipe(folder))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    content = classification_recipe(folder, steps=1)
    rows = [("yes", "a dog\ta cat"), ("no", "a dog\ta car")] * 3
    for name in ("train.tsv", "valid.tsv"):
        write_labelled(folder / name, rows)
    content["data"] |= {"label": 1, "text": 2, "second": 3}
    return train(folder, content)


def test_a_class_for_each_line(regard, classifier: Path) -> None:
    rows = labelled(9, seed=4)
    text = "".join(f"{text}\n" for _, text in rows)
    ran = regard("label", classifier, stdin=text.encode())
    assert ran.code == 0
    assert ran.lines == [f"{label}\t{text}" for label, text in rows]
    assert "9 lines in" in ran.err
    only = regard("label", classifier, "--only", "--quiet", stdin=text.encode())
    assert only.lines == [label for label, _ in rows]
    assert only.err == ""


def test_empty_lines_stay_and_files_are_read(regard, classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt.gz").write_bytes(gzip.compress(b"I see a cat\r\n\n  \nI see a car"))
    ran = regard("label", classifier, tmp_path / "in.txt.gz", "--out", tmp_path / "out.tsv")
    assert (ran.code, ran.out) == (0, "")
    assert (tmp_path / "out.tsv").read_text() == "animal\tI see a cat\n\n\nthing\tI see a car\n"


def test_probabilities_of_all_classes(regard, classifier: Path) -> None:
    ran = regard("label", classifier, "--probabilities", stdin=b"I see a cat\n")
    label, *shares, text = ran.lines[0].split("\t")
    assert (label, text) == ("animal", "I see a cat")
    assert [share.split("=")[0] for share in shares] == ["animal", "thing"]
    assert sum(float(share.split("=")[1]) for share in shares) == pytest.approx(1.0, abs=1e-5)
    content = json.loads(regard("label", classifier, "--json", stdin=b"I see a cat\n").lines[0])
    assert content == {
        "line": 1,
        "texts": ["I see a cat"],
        "label": "animal",
        "probabilities": content["probabilities"],
        "cut": False,
    }
    assert content["probabilities"]["animal"] == pytest.approx(float(shares[0].split("=")[1]), abs=1e-6)


def test_tags_as_conll_has_them(regard, tagger: Path) -> None:
    rows = tagged(6, seed=4)
    text = "".join(" ".join(word for word, _ in row) + "\n" for row in rows)
    expected = "".join("".join(f"{word}\t{tag}\n" for word, tag in row) + "\n" for row in rows)
    assert regard("label", tagger, stdin=text.encode()).out == expected
    ran = regard("label", tagger, "--words", "--probabilities", stdin=b"Ada lives in Rome .\n\nAlan sleeps.\n")
    blocks = ran.out.split("\n\n")
    assert [line.split("\t")[:2] for line in blocks[0].split("\n")][3] == ["Rome", "B-LOC"]
    assert all(0 < float(line.split("\t")[2]) <= 1 for line in blocks[0].split("\n"))
    assert [line.split("\t")[0] for line in blocks[1].strip().split("\n")] == ["Alan", "sleeps."]  # words as they are
    assert ran.out.count("\n\n") == 3 - ran.out.count("\n\n\n")  # the empty line is an empty sentence
    content = json.loads(regard("label", tagger, "--json", stdin=b"Ada sleeps\n").lines[0])
    assert [word["tag"] for word in content["words"]] == ["B-PER", "O"]


def test_nothing_is_on_standard_error_if_quiet(regard, classifier: Path, tagger: Path) -> None:
    for model in (classifier, tagger):
        ran = regard("label", model, "--quiet", "--json", stdin=b"Ada sees a cat\n")
        assert (ran.code, ran.err) == (0, "")
        assert json.loads(ran.out)["line"] == 1


def test_lines_that_are_no_pair_are_named_and_shift_no_other(regard, pairs: Path) -> None:
    ran = regard("label", pairs, "--only", stdin=b"a dog\ta cat\na dog\n\na dog\ta car\n")
    assert ran.code == 1
    assert [bool(line) for line in ran.lines] == [True, False, False, True]
    assert "standard input, line 2: not labelled: expected two texts with a tab between, got 1" in ran.err
    assert "1 of 4 lines could not be labelled" in ran.err
    content = [json.loads(line) for line in regard("label", pairs, "--json", stdin=b"a\tb\na\n").lines]
    assert content[0]["texts"] == ["a", "b"]
    assert "expected two texts" in content[1]["error"]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("classifier", ["--pairs"], "--pairs: "),
        ("classifier", ["--words"], "is a classifier; this is for a tagger"),
        ("tagger", ["--only"], "is a tagger; this is for a classifier"),
        ("classifier", ["none.txt"], "none.txt: no such file"),
    ],
)
def test_what_does_not_fit_is_refused(
    regard, request: pytest.FixtureRequest, model: str, options: list[str], message: str
) -> None:
    ran = regard("label", request.getfixturevalue(model), *options)
    assert ran.code == 2
    assert message in ran.err


def test_another_kind_of_model_is_refused(regard, tiny_model) -> None:
    ran = regard("label", tiny_model.directory, stdin=b"")
    assert ran.code == 2
    assert "is a Translator; regard label needs a classifier or a tagger" in ran.err


def test_evaluate_reports_accuracy_and_f1(regard, classifier: Path, tagger: Path, tmp_path: Path) -> None:
    write_labelled(tmp_path / "test.tsv", labelled(30, seed=7))
    ran = regard("evaluate", classifier, "--labelled", tmp_path / "test.tsv")
    assert ran.code == 0
    assert "100.00% of 30 texts" in ran.out
    write_tagged(tmp_path / "test.conll", tagged(30, seed=7))
    content = json.loads(regard("evaluate", tagger, "--labelled", tmp_path / "test.conll", "--json").out)
    assert content["entities"]["total"]["f1"] == 1.0
    assert content["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--limit", 3, "--out", "never.txt"), "--limit, --out"),
        (("--beam", 3, "--tokenize", "zh", "--alignments", "none"), "--alignments, --beam, --tokenize"),
        (("--stride", 5, "--context", 9), "--stride, --context"),
    ],
)
def test_evaluate_refuses_options_of_other_kinds(
    regard, classifier: Path, tmp_path: Path, options: tuple[object, ...], named: str
) -> None:
    write_labelled(tmp_path / "test.tsv", labelled(3))
    ran = regard("evaluate", classifier, "--labelled", tmp_path / "test.tsv", *options)
    assert ran.code == 2
    assert f"{named}: not for a model for classification" in ran.err
    assert not Path("never.txt").exists()


def test_evaluate_refuses_what_is_not_for_a_tagger_or_a_translator(
    regard, tagger: Path, tiny_model, tmp_path: Path
) -> None:
    write_tagged(tmp_path / "test.conll", tagged(3))
    ran = regard("evaluate", tagger, "--labelled", tmp_path / "test.conll", "--header")
    assert (ran.code, "--header: not for a model for tagging" in ran.err) == (2, True)
    ran = regard("evaluate", tiny_model.directory, "--pairs", tmp_path / "test.conll", "--header", "--stride", 3)
    assert (ran.code, "--stride, --header: not for a model for translation" in ran.err) == (2, True)
