"""`regard evaluate`: the table, the JSON, the files it reads."""

import json
import math
from pathlib import Path

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from regard.runs.load import load_translator


@pytest.fixture
def folder(tiny_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources with three wrong references, the same as a table, gold links, categories."""
    references = [*tiny_model.targets[:8], "ein Hund", "heute zwei", "eine Katze spielt heute"]
    (tmp_path / "in.en").write_text("".join(f"{line}\n" for line in tiny_model.sources), "utf-8")
    (tmp_path / "in.de").write_text("".join(f"{line}\n" for line in references), "utf-8")
    rows = zip(references, tiny_model.sources, strict=True)
    (tmp_path / "in.tsv").write_text("".join(f"{target}\t7\t{source}\n" for target, source in rows), "utf-8")
    (tmp_path / "in.align").write_text("0-0 1?1\n" * len(references))
    (tmp_path / "in.category").write_text("plain\n" * 8 + "today\n" * 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


PAIR = ("--source", "in.en", "--target", "in.de")


def test_json_agrees_with_sacrebleu_and_the_model(regard, tiny_model, folder: Path) -> None:
    extra = ("--alignments", "in.align", "--categories", "in.category")
    ran = regard("evaluate", tiny_model.directory, *PAIR, *extra, "--json", "--out", "out.de")
    assert ran.code == 0
    found = json.loads(ran.out)
    references = (folder / "in.de").read_text("utf-8").splitlines()
    translator = load_translator(tiny_model.directory, device="cpu")
    said = [one.text for one in translator.translate(tiny_model.sources)]
    assert (folder / "out.de").read_text("utf-8").splitlines() == said
    assert found["bleu"]["score"] == pytest.approx(BLEU().corpus_score(said, [references]).score)
    assert found["chrf"]["score"] == pytest.approx(CHRF().corpus_score(said, [references]).score)
    assert found["bleu"]["interval"] > 0 and "version:" in found["bleu"]["signature"]
    assert found["bleu_lowercase"]["signature"].count("case:lc") == 1
    assert found["bleu_moses"] is None
    assert found["exact"] == pytest.approx(100 * 8 / 11)
    values = [value for row in translator.score(tiny_model.sources, references) for value in row]
    assert found["likelihood"]["perplexity"] == pytest.approx(math.exp(-sum(values) / len(values)))
    assert found["likelihood"]["tokens"] == len(values)
    assert found["by_length"][0]["sentences"] == 11
    assert found["categories"] == {
        "plain": {"sentences": 8, "exact": 100.0},
        "today": {"sentences": 3, "exact": 0.0},
    }
    assert found["alignment"]["sure"] == 11
    assert 0 <= found["alignment"]["error_rate"] <= 1
    assert found["speed"]["sentences_per_second"] > 0
    assert (found["sentences"], found["beam"], found["notes"]) == (11, 3, [])


def test_the_table_says_the_same_as_the_file(regard, tiny_model, folder: Path) -> None:
    extra = ("--alignments", "in.align", "--categories", "in.category", "--beam", 2, "--quiet")
    ran = regard("evaluate", tiny_model.directory, *PAIR, *extra, "--json-file", "result.json")
    found = json.loads((folder / "result.json").read_text("utf-8"))
    assert (ran.code, ran.err) == (0, "")
    for figure in (found["bleu"], found["chrf"]):
        assert f"{figure['score']:.2f}" in ran.out and f"± {figure['interval']:.2f}" in ran.out
        assert figure["signature"] in ran.out
    for part in ("beam 2", "72.7 %", "alignment error rate", "perplexity", "sentences/s", "plain", "100.0 %"):
        assert part in ran.out


def test_json_on_standard_output_and_in_a_file_are_the_same(regard, tiny_model, folder: Path) -> None:
    ran = regard("evaluate", tiny_model.directory, *PAIR, "--limit", 2, "--json", "--json-file", "result.json")
    assert json.loads(ran.out) == json.loads((folder / "result.json").read_text("utf-8"))


def test_a_table_and_a_limit(regard, tiny_model, folder: Path) -> None:
    command = ("evaluate", tiny_model.directory, "--pairs", "in.tsv", "--columns", "3,1", "--json")
    extra = ("--limit", 5, "--categories", "in.category", "--alignments", "in.align")
    found = json.loads(regard(*command, *extra).out)
    assert (found["sentences"], found["exact"]) == (5, 100.0)
    assert found["categories"] == {"plain": {"sentences": 5, "exact": 100.0}}
    assert json.loads(regard(*command, "--tokenize", "char").out)["bleu"]["signature"].count("tok:char") == 1


def test_categories_are_shown_as_they_are(regard, tiny_model, folder: Path) -> None:
    (folder / "odd").write_text("[/x]\n" * 8 + "[bold]today\n" * 3)
    ran = regard("evaluate", tiny_model.directory, *PAIR, "--categories", "odd")
    assert ran.code == 0 and "\n[/x] " in ran.out and "\n[bold]today " in ran.out


def test_pairs_in_other_tables(regard, tiny_model, folder: Path) -> None:
    pairs = list(zip(tiny_model.sources, tiny_model.targets, strict=True))
    (folder / "in.jsonl").write_text("".join(json.dumps({"en": en, "de": de}) + "\n" for en, de in pairs), "utf-8")
    (folder / "in.csv").write_text("de,en\n" + "".join(f'"{de}",{en}\n' for en, de in pairs), "utf-8")
    for table in ("in.jsonl", "in.csv"):
        found = json.loads(
            regard("evaluate", tiny_model.directory, "--pairs", table, "--columns", "en,de", "--json").out
        )
        assert (found["data"], found["sentences"], found["exact"]) == (table, 11, 100.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "in.en"], "give --source and --target, or --pairs"),
        ([*PAIR, "--alignments", "short"], "short has 2 lines for 11 pairs"),
        ([*PAIR, "--limit", "3", "--alignments", "short"], "short has 2 lines for 3 pairs"),
        ([*PAIR, "--categories", "missing"], "missing: no such file"),
        ([*PAIR, "--limit", "2", "--alignments", "wrong"], "wrong, line 2: 'x' is not a link"),
        ([*PAIR, "--limit", "2", "--alignments", "short"], "short, line 2: link 0-9 in a pair of 3 source and 3"),
        ([*PAIR, "--tokenize", "klingon"], "no tokenisation 'klingon'"),
        ([*PAIR, "--json-file", "no/x.json"], "--json-file no/x.json: there is no folder no"),
    ],
)
def test_bad_input(regard, tiny_model, folder: Path, options: list[str], message: str) -> None:
    (folder / "short").write_text("0-0\n0-9\n")
    (folder / "wrong").write_text("0-0\nx\n")
    ran = regard("evaluate", tiny_model.directory, *options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("regard: error: ") and ran.err.count("\n") == 1
    assert message in ran.err
