"""`regard attend`: the terminal, files, links, whole texts."""

import json
from pathlib import Path

import pytest

from regard.insight import Alignment, links, to_pharaoh
from regard.runs.load import load_translator

SOURCE, TARGET = "today two cats play", "heute spielen zwei Katzen"


def test_the_terminal_shows_words_weights_and_links(regard, tiny_model, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = regard("attend", tiny_model.directory, SOURCE)
    alignment = load_translator(tiny_model.directory, device="cpu").attention(SOURCE, TARGET).alignment()
    assert ran.code == 0
    assert ran.lines[0] == SOURCE and ran.lines[1].startswith(
        f"{TARGET}  (mean of all layers and heads; log-probability -"
    )
    assert ran.lines[3].split() == SOURCE.split()
    for line, word, row in zip(ran.lines[4:8], TARGET.split(), alignment.weights, strict=True):
        assert line.split()[0] == word
        assert str(round(float(row.max()) * 100)) in line.split()
    assert ran.lines[9] == f"links {to_pharaoh(links(alignment))}"
    assert "\x1b" not in ran.out


def test_the_terminal_gets_no_control_characters(regard, tiny_model) -> None:
    ran = regard("attend", tiny_model.directory, "two \a\x1b[31m dogs", "zwei \x1b]0;x\a Hunde")
    assert ran.code == 0 and not set("\a\x1b") & set(ran.out) and ran.lines[0] == "two [31m dogs"


def test_a_given_translation_a_layer_and_a_head(regard, tiny_model) -> None:
    attention = load_translator(tiny_model.directory, device="cpu").attention(SOURCE, "zwei Katzen")
    given = ("attend", tiny_model.directory, SOURCE, "zwei Katzen", "--json")
    for options, choice, view in (
        ([], {}, "mean of all layers and heads"),
        (["--layer", "0", "--head", "1"], {"layer": 0, "head": 1}, "layer 0 · head 1"),
        (["--layer", "-1"], {"layer": -1}, "layer -1"),
        (["--layer", "mean", "--head", "mean"], {"layer": None, "head": None}, "mean of all layers and heads"),
    ):
        found = json.loads(regard(*given, *options).out)
        wanted = attention.alignment(**choice)
        assert found["view"] == view
        assert Alignment.from_json(found).weights.tolist() == wanted.weights.tolist()
        assert found["source_words"] == SOURCE.split() and found["target_words"] == ["zwei", "Katzen"]
        assert {tuple(link) for link in found["links"]} == links(wanted)
        assert {"layer 0 · head 0", "layer 0 · head 1", view} <= set(found["views"])
        assert found["target_tokens"][-1] == found["source_tokens"][-1] == "<eos>"


def test_pictures_page_and_json_are_written(regard, tiny_model, tmp_path: Path) -> None:
    names = ("a.png", "a.svg", "heads.png", "a.html", "a.json")
    options = [
        part
        for option, name in zip(("--png", "--svg", "--heads", "--html", "--json-file"), names, strict=True)
        for part in (option, tmp_path / name)
    ]
    ran = regard("attend", tiny_model.directory, SOURCE, TARGET, *options, "--gold", "0-0 1-2", "--pharaoh")
    assert ran.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "a.svg").read_text("utf-8")
    page = (tmp_path / "a.html").read_text("utf-8")
    assert all(word in page for word in ("Katzen", "layer 0 · head 1", "mean of all layers and heads"))
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["target"] == TARGET
    assert all(f"wrote {tmp_path / name}" in ran.err for name in names)
    assert len(ran.lines) == 1 and all("-" in link for link in ran.lines[0].split())


def test_gold_links_are_compared(regard, tiny_model) -> None:
    found = links(load_translator(tiny_model.directory, device="cpu").attention(SOURCE, TARGET).alignment())
    ran = regard("attend", tiny_model.directory, SOURCE, TARGET, "--gold", to_pharaoh(found))
    assert "alignment error rate 0.0 % (precision 100.0 %, recall 100.0 %)" in ran.out


def test_a_text_gives_a_line_of_links_a_pair(regard, tiny_model, tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    source.write_text(f"{SOURCE}\n\n{'two dogs play ' * 30}\none dog sleeps\n", "utf-8")
    target.write_text(f"{TARGET}\nx\nx\nein Hund\n", "utf-8")
    translator = load_translator(tiny_model.directory, device="cpu")
    given = regard("attend", tiny_model.directory, "--source", source, "--target", target)
    assert given.code == 1
    assert f"{source} and {target}, line 3: no links: the source has" in given.err
    wanted = [
        to_pharaoh(links(translator.attention(*pair).alignment()))
        for pair in ((SOURCE, TARGET), ("one dog sleeps", "ein Hund"))
    ]
    assert given.lines == [wanted[0], "", "", wanted[1]]
    own = regard("attend", tiny_model.directory, "--source", source)
    assert own.lines[0] == wanted[0]
    assert own.lines[3] == to_pharaoh(links(translator.attention("one dog sleeps", "ein Hund schläft").alignment()))


def test_a_text_as_json_is_an_object_a_pair(regard, tiny_model, tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(f"en,de\n{SOURCE},{TARGET}\n{'two dogs play ' * 30},x\n", "utf-8")
    ran = regard("attend", tiny_model.directory, "--pairs", table, "--columns", "en,de", "--json")
    first, second = map(json.loads, ran.lines)
    assert ran.code == 1
    wanted = links(load_translator(tiny_model.directory, device="cpu").attention(SOURCE, TARGET).alignment())
    assert f"{table}, line 3: no links: the source has" in ran.err
    assert first == {"line": 2, "source": SOURCE, "target": TARGET, "links": [list(link) for link in sorted(wanted)]}
    assert second["links"] == [] and "the source has" in second["error"]


def test_quiet_says_nothing_of_what_was_written(regard, tiny_model, tmp_path: Path) -> None:
    ran = regard("attend", tiny_model.directory, SOURCE, TARGET, "--json-file", tmp_path / "a.json", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["source"] == SOURCE


def test_a_text_makes_one_page(regard, tiny_model, tmp_path: Path) -> None:
    table = tmp_path / "pairs.tsv"
    table.write_text(f"{SOURCE}\t{TARGET}\none dog sleeps\tein Hund schläft\n", "utf-8")
    ran = regard("attend", tiny_model.directory, "--pairs", table, "--html", tmp_path / "all.html")
    assert (ran.code, ran.out) == (0, "")
    page = (tmp_path / "all.html").read_text("utf-8")
    assert "schläft" in page and "Katzen" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a SOURCE sentence, or a text with --source or --pairs"),
        ([SOURCE, TARGET, "--layer", "1"], "layer 1: the decoder has layers 0 to 0"),
        ([SOURCE, TARGET, "--head", "2"], "head 2: each layer has heads 0 to 1"),
        ([SOURCE, TARGET, "--layer", "x"], "--layer x: expected a number from 0, or mean"),
        ([SOURCE, TARGET, "--gold", "0-9"], "--gold: link 0-9 in a pair of 4 source and 4 target words"),
        ([SOURCE, TARGET, "--gold", "zero"], "--gold: 'zero' is not a link"),
        ([SOURCE, TARGET, "--png", "no/x.png"], "--png no/x.png: there is no folder no"),
        ([SOURCE, TARGET, "--heads", "x.txt"], "--heads x.txt: expected a name ending in .png"),
        ([SOURCE, " "], "attention needs a source and a target that are not empty"),
        (["", ""], "attention needs a source and a target that are not empty"),
        ([""], "the model's translation of this is empty"),
        (["two dogs play " * 30], "tokens; the model has positions for"),
        ([SOURCE, "--source", "text"], "SOURCE is for a single sentence"),
        (["--source", "text", "--gold", "0-0"], "--gold is for a single sentence"),
        ([SOURCE, "--target", "text"], "--target belongs to --source"),
        (["--source", "text", "--target", "short"], "text has 51 lines but short has 1 line"),
        (["--source", "text", "--html", "x.html"], "51 pairs are too many for one page"),
        (["--source", "text", "--html", "x.html", "--json"], "leave out --json"),
        (["--source", "text", "--json-file", "x.json"], "--json-file is for a single sentence"),
        ([SOURCE, TARGET, "--json", "--pharaoh"], "give --pharaoh or --json"),
        ([SOURCE, TARGET, "--json", "--gold", "0-0"], "--gold is for the table and for pictures: leave out --json"),
        ([SOURCE, TARGET, "--pharaoh", "--gold", "0-0"], "leave out --pharaoh"),
        ([SOURCE, TARGET, "--beam", "2"], "--beam is for the model's own translation"),
        (["--source", "text", "--target", "text", "--beam", "2"], "--beam is for the model's own translations"),
        (["--source", "text", "--html", "x.html", "--pharaoh"], "leave out --pharaoh"),
        ([SOURCE, "--columns", "1,2"], "--columns belongs to --pairs"),
        (["--source", "text", "--columns", "1,2"], "--columns belongs to --pairs"),
        (["--source", "missing"], "missing: no such file"),
        ([SOURCE, TARGET, "--png", "ok.png", "--svg", "x.jpg"], "--svg x.jpg: expected a name ending in .png"),
        ([SOURCE, TARGET, "--png", "a.png", "--svg", "./a.png"], "--svg a.png: is the same file as --png"),
        (["--text", "text", "--json-file", "text"], "--json-file text: is the same file as --text"),
        (["--source", "text", "--html", "text"], "--html text: is the same file as --source"),
        ([SOURCE, "--json-file", "MODEL/config.json"], "config.json: is there already, in the directory of the model"),
        ([SOURCE, TARGET, "--generate", "2"], "--generate lets the model say something"),
        (["--source", "text", "--generate", "2"], "--generate is for a single sentence"),
    ],
)
def test_bad_input(regard, tiny_model, tmp_path: Path, monkeypatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("two dogs play\n" * 51)
    (tmp_path / "short").write_text("x\n")
    ran = regard(
        "attend", tiny_model.directory, *[one.replace("MODEL", str(tiny_model.directory)) for one in arguments]
    )
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("regard: error: ") and ran.err.count("\n") == 1
    assert message in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["short", "text"]
