"""`regard score`: one log-probability a pair."""

import json
import math
from pathlib import Path

import pytest

from regard.runs.load import load_translator

LONG = "two dogs play " * 30


@pytest.fixture
def files(tiny_model, tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "in.en", tmp_path / "in.de"
    source.write_text("".join(f"{line}\n" for line in tiny_model.sources), "utf-8")
    target.write_text("".join(f"{line}\n" for line in tiny_model.targets), "utf-8")
    return source, target


def test_sums_of_the_model_s_own_translations(regard, tiny_model, files) -> None:
    own = load_translator(tiny_model.directory).translate(tiny_model.sources, beam=1)
    ran = regard("score", tiny_model.directory, "--source", files[0], "--target", files[1])
    assert ran.code == 0
    assert [one.text for one in own] == tiny_model.targets
    assert [float(line) for line in ran.lines] == pytest.approx([one.log_prob for one in own], abs=2e-5)


def test_a_better_translation_scores_higher(regard, tiny_model, tmp_path: Path) -> None:
    table = tmp_path / "pairs.tsv"
    table.write_text("x\ttwo cats play\tzwei Katzen spielen\ny\ttwo cats play\tein Hund schläft\n", "utf-8")
    ran = regard("score", tiny_model.directory, "--pairs", table, "--columns", "2,3")
    good, bad = map(float, ran.lines)
    assert -0.2 < good < 0 and bad < -9


def test_tokens_sum_to_the_score(regard, tiny_model, files) -> None:
    ran = regard("score", tiny_model.directory, "--source", files[0], "--target", files[1], "--tokens")
    for line, target in zip(ran.lines, tiny_model.targets, strict=True):
        total, rest = line.split("\t")
        parts = rest.split(" ")
        tokens, values = parts[::2], [float(value) for value in parts[1::2]]
        assert tokens[-1] == "<eos>"
        assert "".join(tokens[:-1]).replace("▁", " ").strip() == target
        assert sum(values) == pytest.approx(float(total), abs=1e-5)


def test_json_and_pairs_that_are_empty_or_too_long(regard, tiny_model, tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text(f"two cats play\n\n{LONG}\none dog plays\n", "utf-8")
    target.write_text(f"zwei Katzen spielen\n\nx\n{LONG}\n", "utf-8")
    pair = ("--source", source, "--target", target)
    ran = regard("score", tiny_model.directory, *pair, "--json", "--quiet")
    assert ran.code == 1
    first, empty, long, other = map(json.loads, ran.lines)
    assert first["log_prob"] == pytest.approx(math.fsum(first["token_log_probs"]))
    assert first["tokens"][-1] == "<eos>" and len(first["tokens"]) == len(first["token_log_probs"])
    assert (empty["log_prob"], empty["tokens"]) == (0.0, [])
    assert long["log_prob"] is None and "the source has" in long["error"]
    assert other["log_prob"] is None and "the target has" in other["error"]
    assert f"{source} and {target}, line 3: not scored" in ran.err
    assert "2 of 4 pairs were too long" in ran.err
    text = regard("score", tiny_model.directory, *pair)
    assert text.lines[1:] == ["0.000000", "nan", "nan"]


def test_tables_of_other_kinds_and_on_standard_input(regard, tiny_model, tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(f'"zwei\nKatzen",two cats\nein Hund,one dog\n{LONG},one dog\n', "utf-8")
    ran = regard("score", tiny_model.directory, "--pairs", table, "--columns", "2,1", "--json")
    assert [json.loads(line)["line"] for line in ran.lines] == [1, 3, 4]  # a cell may have several lines
    assert ran.err.startswith(f"{table}, line 4: not scored: the target has")
    piped = regard("score", tiny_model.directory, "--pairs", "-", stdin=b"one dog\tein Hund\n")
    assert float(piped.out) == pytest.approx(json.loads(ran.lines[1])["log_prob"], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --source and --target, or --pairs"),
        (["--source", "three"], "give --source and --target, or --pairs"),
        (["--source", "three", "--target", "three", "--pairs", "three"], "give --source and --target, or --pairs"),
        (["--source", "three", "--target", "two"], "three has 3 lines but two has 2 lines"),
        (["--source", "three", "--target", "missing"], "missing: no such file"),
        (["--source", "three", "--target", "latin"], "latin, line 2: not valid UTF-8: byte 0xfc at position 2"),
        (["--source", "-", "--target", "-"], "source and target are both standard input"),
        (["--pairs", "three"], "three, line 1: expected at least 2 columns"),
        (["--pairs", "three", "--columns", "0,1"], "--columns 0,1: expected two numbers from 1"),
        (["--pairs", "three", "--columns", "2"], "--columns 2: expected two numbers from 1"),
        (["--pairs", "three", "--columns", "1,de"], "--columns 1,de: expected two numbers from 1 or two names"),
        (["--pairs", "three", "--columns", "en,de"], "three: columns of a tab-separated file are numbers"),
        (["--pairs", "-", "--columns", "en,de"], "columns of a table on standard input are numbers"),
        (["--pairs", "a.jsonl", "--columns", "en,de"], "a.jsonl, line 2: "),
        (["--pairs", "empty.csv"], "empty.csv: there is no pair in it"),
        (["--source", "three", "--target", "three", "--columns", "1,2"], "--columns belongs to --pairs"),
        (["--source", "three", "--target", "three", "--tokens", "--json"], "give --tokens or --json"),
        (["--source", "three", "--target", "three", "--out", "no/x"], "--out no/x: there is no folder no"),
    ],
)
def test_bad_input(regard, tiny_model, tmp_path: Path, monkeypatch, options: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three").write_text("a\nb\nc\n")
    (tmp_path / "two").write_text("a\nb\n")
    (tmp_path / "a.jsonl").write_text('{"en": "a", "de": "b"}\n{"en": "a"}\n')
    (tmp_path / "empty.csv").touch()
    (tmp_path / "latin").write_bytes("a\nKü\nc\n".encode("latin-1"))
    ran = regard("score", tiny_model.directory, *options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("regard: error: ") and ran.err.count("\n") == 1
    assert message in ran.err
