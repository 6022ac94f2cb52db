"""`regard check-data`: the report, its JSON, the cleaned copy, exit codes."""

import json
import random
import re
from pathlib import Path

import pytest

from regard.data.checks import RULES

PAGE = Path(__file__).parents[2] / "docs" / "check-data.md"

WORDS = [
    ("river", "Fluss"), ("yellow", "gelbe"), ("the", "der"), ("house", "Haus"), ("with", "mit"), ("why", "warum"),
    ("three", "drei"), ("window", "Fenster"), ("sleeping", "schlafend"), ("through", "durch"), ("girl", "Mädchen"),
]  # fmt: skip


def corpus(count: int) -> list[tuple[str, str]]:
    draw = random.Random(1)
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        chosen = draw.choices(WORDS, k=draw.randint(4, 20))
        pairs[" ".join(word for word, _ in chosen) + "."] = " ".join(word for _, word in chosen) + "."
    return list(pairs.items())


PAIRS = corpus(600)


def write(folder: Path, stem: str, pairs: list[tuple[str, str]]) -> tuple[Path, Path]:
    paths = folder / f"{stem}.en", folder / f"{stem}.de"
    for side, path in enumerate(paths):
        path.write_text("".join(f"{pair[side]}\n" for pair in pairs), "utf-8")
    return paths


@pytest.fixture
def files(tmp_path: Path) -> list[object]:
    """Options for a good corpus."""
    source, target = write(tmp_path, "train", PAIRS[:500])
    valid = write(tmp_path, "val", PAIRS[500:])
    return ["--source", source, "--target", target, "--valid-source", valid[0], "--valid-target", valid[1]]


def test_a_good_corpus(regard, files) -> None:
    ran = regard("check-data", *files)
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines[0].startswith("training: 500 pairs of ") and ran.lines[0].endswith("train.de")
    assert ran.lines[-1] == "nothing was found"


def test_warnings_leave_the_exit_code_at_0(regard, files, tmp_path: Path) -> None:
    pairs = [*PAIRS[:499], PAIRS[0]]
    write(tmp_path, "train", pairs)
    ran = regard("check-data", *files)
    assert ran.code == 0
    assert "WARNING duplicates in training: pairs that were there before: 1 of 500" in ran.lines
    assert f"    line 500: {PAIRS[0][0][:30]}" in ran.out
    assert re.search(r"warning +duplicates +training +1 +0\.20%", ran.out)
    assert ran.lines[-1] == "0 errors, 1 warning, 0 notes"


def test_errors_make_it_1(regard, files, tmp_path: Path) -> None:
    (tmp_path / "train.de").write_bytes(
        "".join(f"{target}\n" for _, target in PAIRS[:499]).encode() + "Mädchen.\n".encode("latin-1")
    )
    ran = regard("check-data", *files)
    assert ran.code == 1
    assert "ERROR unreadable in training: rows that cannot be read: 1 of 500" in ran.lines
    assert "train.de, line 500: not valid UTF-8: byte 0xe4" in ran.out


def test_a_lost_line(regard, tmp_path: Path) -> None:
    pairs = corpus(9000)
    source, target = write(tmp_path, "long", pairs)
    lines = target.read_text("utf-8").split("\n")
    target.write_text("\n".join(lines[:3000] + lines[3001:]), "utf-8")
    ran = regard("check-data", "--source", source, "--target", target, "--write-clean", tmp_path / "clean")
    assert ran.code == 1
    assert f"{source} has 9000 lines but {target} has 8999 lines" in ran.out
    found = re.search(
        r"line ([\d,]+): from about here to the end, source line n goes with the target one line", ran.out
    )
    assert found is not None and abs(int(found[1].replace(",", "")) - 3001) <= 15
    assert "more" not in ran.out.split("ERROR shifted")[1].split("→")[0]  # one place, of a thousand lines
    assert ran.err == f"nothing was written to {tmp_path / 'clean'}: cleaning can't mend incomplete, shifted\n"
    assert not (tmp_path / "clean").exists()


def test_json(regard, files, tmp_path: Path) -> None:
    write(tmp_path, "train", [*PAIRS[:499], ("", "leer")])
    ran = regard("check-data", *files, "--json", "--limit-examples", "1")
    content = json.loads(ran.out)
    assert content["counts"] == {"error": 0, "warning": 1, "note": 0}
    [finding] = content["findings"]
    assert (finding["name"], finding["severity"], finding["part"], finding["count"]) == (
        "empty",
        "warning",
        "training",
        1,
    )
    assert finding["examples"] == [{"line": 500, "text": " │ leer"}]
    assert [part["pairs"] for part in content["parts"]] == [500, 100] and content["written"] is None


def test_a_cleaned_copy_and_that_it_is_clean(regard, files, tmp_path: Path) -> None:
    write(tmp_path, "train", [*PAIRS[:500], PAIRS[7], ("", "leer"), PAIRS[550], ("the same", "the same")])
    ran = regard("check-data", *files, "--write-clean", tmp_path / "clean", "--quiet")
    assert ran.code == 0
    assert ran.lines[-3] == f"wrote a cleaned copy into {tmp_path / 'clean'}"
    assert ran.lines[-2].endswith("500 of 504 pairs; left out: empty 1, copies 1, duplicates 1, overlap 1")
    clean = tmp_path / "clean"
    assert (clean / "train.de").read_text("utf-8") == "".join(f"{target}\n" for _, target in PAIRS[:500])
    report = json.loads((clean / "report.json").read_text("utf-8"))
    assert report["parts"][0]["clean"]["kept"] == 500
    again = regard(
        "check-data",
        *("--source", clean / "train.en", "--target", clean / "train.de"),
        *("--valid-source", clean / "valid.en", "--valid-target", clean / "valid.de"),
    )
    assert again.lines[-1] == "nothing was found"
    twice = regard("check-data", *files, "--write-clean", clean)
    assert twice.code == 2 and "is there already" in twice.err


def test_a_recipe_with_parts_of_several_kinds(regard, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"pair": {"en": en, "de": de}}) + "\n" for en, de in PAIRS[:400]), "utf-8"
    )
    (tmp_path / "b.tsv").write_text("".join(f"x\t{de}\t{en}\n" for en, de in PAIRS[400:500]), "utf-8")
    (tmp_path / "recipe.toml").write_text(
        '[data]\nvalid_pairs = "b.tsv"\nvalid_columns = [3, 2]\n'
        '[[data.train]]\npairs = "a.jsonl"\ncolumns = ["pair.en", "pair.de"]\n'
        '[[data.train]]\npairs = "b.tsv"\ncolumns = [2, 3]\n'
    )
    ran = regard("check-data", tmp_path / "recipe.toml", "--json", "--set", "data.max_length=9")
    content = json.loads(ran.out)
    assert [part["name"] for part in content["parts"]] == ["training 1", "training 2", "validation"]
    errors = {(one["part"], one["name"]) for one in content["findings"] if one["severity"] == "error"}
    assert ran.code == 1 and errors == {("training 2", "swapped-part")}
    assert "about data.max_length = 9 tokens" in next(
        one["detail"] for one in content["findings"] if one["name"] == "long"
    )


def test_the_tokenizer_of_a_model(regard, files, tiny_model, tmp_path: Path) -> None:
    write(tmp_path, "val", [(en, "".join(chr(0x4E00 + ord(one)) for one in de)) for en, de in PAIRS[500:]])
    ran = regard("check-data", *files, "--tokenizer", tiny_model.directory, "--json")
    details = [one["detail"] for one in json.loads(ran.out)["findings"] if one["name"] == "tokens"]
    assert len(details) > 0 and all(detail.startswith("target side") for detail in details)
    assert regard("check-data", *files, "--tokenizer", tiny_model.directory / "tokenizer.json").code == 0
    assert "there is no tokenizer" in regard("check-data", *files, "--tokenizer", tmp_path).err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give a recipe, or --source and --target, or --pairs"),
        (["--source", "no.en", "--target", "no.de"], "no.en: no such file"),
        (["recipe.toml", "--pairs", "x"], "give a recipe or --pairs, not both"),
        (["--source", "no.en"], "give either data.source and data.target"),
        (["--pairs", "empty.tsv"], "empty.tsv: there is no pair in it"),
    ],
)
def test_bad_usage(regard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.tsv").touch()
    ran = regard("check-data", *options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("regard: error: ") and message in ran.err


def test_the_page_names_every_rule_with_its_severity() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \|.*\| (\w+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    expected = [
        (name, rule.severity.value, "dropped" if rule.drops else "none" if rule.spoils else "kept")
        for name, rule in RULES.items()
    ]
    assert rows == expected
