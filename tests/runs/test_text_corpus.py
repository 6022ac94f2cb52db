import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from regard.data import train_tokenizer
from regard.errors import DataError, RecipeError
from regard.files import write_text as write_file
from regard.runs.directory import JOINT
from regard.runs.recipes import parse_recipe
from regard.runs.text_corpus import TextCorpus, open_text_corpus
from regard.runs.text_recipes import StreamDataRecipe, TextTokenizerRecipe
from regard.runs.train import Run
from runs.text_examples import language_recipe, place_of, write_text

SILENT = {"say": lambda words: None}


def corpus(
    folder: Path, tokenizer: dict[str, Any] | None = None, place: dict[str, Any] | None = None, **data: Any
) -> TextCorpus:
    recipe = StreamDataRecipe.model_validate({"folder": str(folder), "text": "text.txt"} | data)
    kind = TextTokenizerRecipe.model_validate(tokenizer or {"kind": "word"})
    return open_text_corpus(recipe, kind, None, place_of(folder / "run", **(place or {})))


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir() if path.is_file()}


def test_a_text_is_prepared_once(tmp_path: Path) -> None:
    write_text(tmp_path)
    said: list[str] = []
    first = corpus(tmp_path, place={"say": said.append})
    assert [line for line in said if line.startswith("training the tokenizer")] and len(said) == 1
    before = files(tmp_path / "run" / "prepared")
    assert set(before) == {
        "manifest.json",
        JOINT,
        *(f"{p}.{k}" for p in ("train", "valid") for k in ("tokens", "offsets")),
    }
    second = corpus(tmp_path, place={"say": said.append})
    assert files(tmp_path / "run" / "prepared") == before and len(said) == 1
    joined = corpus(tmp_path, place={"main": False})
    assert first.facts == second.facts == joined.facts
    assert first.tokenizer.content == joined.tokenizer.content
    text = (tmp_path / "text.txt").read_text()
    assert first.facts["valid_bytes"] == len(text) - int(0.9 * len(text))
    assert "the last" in first.notes[-1] and "characters are held out" in first.notes[-1]
    assert not [path for path in (tmp_path / "run").iterdir() if path.name not in ("prepared", ".prepared.lock")]


def test_the_same_text_gives_the_same_fingerprint_and_another_another(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_text(tmp_path / name)
    write_text(tmp_path / "c", 301)
    facts = [corpus(tmp_path / name).facts for name in ("a", "b", "c")]
    assert facts[0] == facts[1]
    assert facts[0]["sha256"] != facts[2]["sha256"]
    assert corpus(tmp_path / "a", {"kind": "char"}).facts["sha256"] != facts[0]["sha256"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"held_out": 0.2}, r"other settings \(held_out: 0.1 → 0.2\)"),
        ({"document": "line"}, r"document: file → line"),
        ({"tokenizer": {"kind": "char"}}, r"tokenizer: .*word.* → .*char"),
        ({"touched": True}, r"text\.txt has changed"),
    ],
)
def test_what_changed_is_prepared_anew_or_refused(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    write_text(tmp_path)
    first = corpus(tmp_path)
    if change.pop("touched", False):
        write_text(tmp_path, 299)
    with pytest.raises(DataError, match="the data have changed since the run began: .*" + why):
        corpus(tmp_path, place={"begun": True}, **change)
    said: list[str] = []
    second = corpus(tmp_path, place={"say": said.append}, **change)
    assert said[0].startswith("preparing the text anew")
    assert first.facts["sha256"] != second.facts["sha256"]


def test_a_run_goes_on_with_its_own_text_again(tmp_path: Path) -> None:
    """Without what was prepared, another text is prepared first, found to be another, and must not stay for ever."""
    write_text(tmp_path)
    content = language_recipe(tmp_path)
    content["training"] |= {"steps": 2, "validate_every": 1}

    def run() -> Run:
        return Run(parse_recipe(content), tmp_path / "run", lambda words: None)

    run().train()
    shutil.rmtree(tmp_path / "run" / "prepared")
    write_text(tmp_path, 299)
    for _ in range(2):
        with pytest.raises(DataError, match=r"the data have changed since the run in .* began"):
            run()
    write_text(tmp_path)
    first = run().work.facts
    assert first == run().work.facts
    write_text(tmp_path, 299)
    with pytest.raises(DataError, match=r"the data have changed since the run began: .*text\.txt has changed"):
        run()


def test_a_text_that_is_gone_is_not_needed_again(tmp_path: Path) -> None:
    write_text(tmp_path)
    names: list[str] = ["tex*.txt"]
    first = corpus(tmp_path, text=names)
    (tmp_path / "text.txt").unlink()
    said: list[str] = []
    again = corpus(tmp_path, place={"begun": True, "say": said.append}, text=names)
    assert again.facts == first.facts and "text.txt is no longer there" in said[0]


def test_a_manifest_that_lacks_something_is_damaged(tmp_path: Path) -> None:
    write_text(tmp_path)
    corpus(tmp_path)
    path = tmp_path / "run" / "prepared" / "manifest.json"
    whole = json.loads(path.read_text())
    for key in ("files", "dtype", "parts", "settings", "sources", "tokenizer", "trained"):
        path.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        with pytest.raises(DataError, match=f"damaged: has no '{key}'"):
            corpus(tmp_path, place={"begun": True})


def test_a_shared_folder_is_not_replaced(tmp_path: Path) -> None:
    write_text(tmp_path)
    shared = {"prepared": str(tmp_path / "shared")}
    at = {"folder": tmp_path / "shared"}
    corpus(tmp_path, place=at, **shared)
    with pytest.raises(
        RecipeError, match=r"shared \(data.prepared\) holds a text that was prepared otherwise \(other sett"
    ):
        corpus(tmp_path, place=at, held_out=0.3, **shared)
    write_text(tmp_path, 10)
    with pytest.raises(RecipeError, match=r"text\.txt has changed"):
        corpus(tmp_path, place=at, **shared)


def test_the_run_keeps_its_tokenizer(tmp_path: Path) -> None:
    write_text(tmp_path)
    first = corpus(tmp_path)
    first.tokenizer.save(tmp_path / "run" / JOINT)
    again = corpus(tmp_path, {"kind": "char"}, place={"begun": True})  # its recipe was compared before
    assert again.facts == first.facts


def test_a_given_tokenizer(tmp_path: Path) -> None:
    write_text(tmp_path)
    given = train_tokenizer("bpe", ["the dog sleeps"] * 3, 300)
    given.save(tmp_path / "mine.json")
    found = corpus(tmp_path, {"file": "mine.json"})
    assert found.tokenizer.content == given.content
    with pytest.raises(DataError, match=r"other\.json: cannot read the tokenizer"):
        corpus(tmp_path, {"file": "other.json"})


def test_nothing_is_left_of_a_text_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"one two\n" * 50 + b"\xff\n")
    with pytest.raises(DataError, match=r"text\.txt, line 51: not valid UTF-8"):
        corpus(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(
        DataError, match=r"data.held_out = 0.1 of 1 characters leaves no document for the training part"
    ):
        corpus(tmp_path, {"kind": "char"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    write_text(tmp_path)
    (tmp_path / "run" / ".prepared.abc.tmp").mkdir(parents=True)
    (tmp_path / "run" / ".prepared.abc.tmp" / "train.tokens").write_text("x")
    corpus(tmp_path)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".prepared.lock", "prepared"]


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    write_text(tmp_path)
    (tmp_path / "run" / "prepared").mkdir(parents=True)
    (tmp_path / "run" / "prepared" / "thesis.tex").write_text("x")
    with pytest.raises(RecipeError, match="exists and is no prepared text"):
        corpus(tmp_path)
    assert [path.name for path in (tmp_path / "run" / "prepared").iterdir()] == ["thesis.tex"]


def test_damage_is_noticed(tmp_path: Path) -> None:
    write_text(tmp_path)
    corpus(tmp_path)
    path = tmp_path / "run" / "prepared" / "train.tokens"
    path.write_bytes(b"\x05\x00" + path.read_bytes()[2:])
    with pytest.raises(DataError, match=r"train\.tokens: damaged: its checksum"):
        corpus(tmp_path)
    with pytest.raises(DataError, match="no prepared text; all processes"):
        corpus(tmp_path, place={"main": False, "folder": tmp_path / "elsewhere"})


def test_two_at_once_wait_for_each_other(tmp_path: Path) -> None:
    write_text(tmp_path)
    said: list[str] = []
    found: list[TextCorpus] = []
    at = {"folder": tmp_path / "shared", "say": said.append}
    threads = [
        threading.Thread(target=lambda: found.append(corpus(tmp_path, place=at, prepared=str(tmp_path / "shared"))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.facts["sha256"] for one in found}) == 1 and len(found) == 3
    assert sum(line.startswith("training the tokenizer") for line in said) == 1


def test_errors_name_the_key(tmp_path: Path) -> None:
    write_text(tmp_path)
    with pytest.raises(RecipeError, match=r"tokenizer\.vocabulary = 5: vocab_size: got 5"):
        corpus(tmp_path, {"kind": "bpe", "vocabulary": 5})
    with pytest.raises(DataError, match=r"text\.txt: is given as data\.text and as data\.valid_text"):
        corpus(tmp_path, valid_text="text.txt")
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        corpus(tmp_path, text="none.txt")


def test_unknown_tokens_are_noted(tmp_path: Path) -> None:
    write_text(tmp_path)
    write_file(tmp_path / "valid.txt", "the dog eats ?\n")
    found = corpus(tmp_path, valid_text="valid.txt")
    assert found.notes == ("2 of 5 validation tokens are unknown (<unk>), so losses are not those of the whole text",)


def test_a_prepared_text_for_reading_only(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    write_text(tmp_path)
    first = corpus(tmp_path)
    (tmp_path / "run" / ".prepared.lock").unlink()
    (tmp_path / "run").chmod(0o555)
    try:
        assert corpus(tmp_path).facts == first.facts
    finally:
        (tmp_path / "run").chmod(0o755)


def test_the_manifest_says_what_it_was_made_from(tmp_path: Path) -> None:
    write_text(tmp_path)
    corpus(tmp_path)
    manifest = json.loads((tmp_path / "run" / "prepared" / "manifest.json").read_text())
    assert manifest["settings"] == {"document": "file", "column": "text", "held_out": 0.1, "training_files": 1}
    assert manifest["sources"][0]["path"] == str(tmp_path / "text.txt")
    assert manifest["parts"]["valid"]["bytes"] == manifest["parts"]["valid"]["characters"]
