"""From recipes to tokenised corpora: what is prepared, what is used again, what is refused."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regard.data import TokenBatches, train_tokenizer
from regard.errors import ArgumentError, DataError, RecipeError
from regard.runs.corpus import Corpus, join_corpus, prepare_corpus, training_batches
from regard.runs.directory import Tokenizers
from regard.runs.recipe import Recipe, make_recipe

ROWS = [(f"{a} {b} dogs", f"{b} {a} Hunde") for a in "abcdefghij" for b in ("two", "three", "four", "many")]
VALID = [("one dog", "ein Hund"), ("", "leer"), ("one " * 40, "viel"), ("a cat", "eine Katze")]

Prepare = Callable[..., Corpus]


def put(path: Path, rows: list[tuple[str, str]]) -> None:
    path.write_text("".join(f"{a}\t{b}\n" for a, b in rows), "utf-8")


def make(folder: Path, *, training: dict[str, Any] | None = None, tokenizer: Any = None, **data: Any) -> Recipe:
    data = {"folder": str(folder), "pairs": "train.tsv", "max_length": 30} | data
    return make_recipe(
        {
            "data": {key: value for key, value in data.items() if value is not None},
            "tokenizer": tokenizer or {"vocabulary": 300},
            "training": training or {},
        }
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    put(folder / "train.tsv", [*ROWS, ("", "leer"), ("lang " * 40, "long"), ROWS[0]])
    put(folder / "valid.tsv", VALID)
    return folder


class Saying:
    """Prepares, and keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.counted: dict[str, tuple[int, int | None]] = {}

    def __call__(self, recipe: Recipe, folder: Path, known: Tokenizers | None = None) -> Corpus:
        self.said, self.counted = [], {}
        return prepare_corpus(recipe, folder, known, self.said.append, self._count)

    def _count(self, what: str, done: int, total: int | None) -> None:
        self.counted[what] = (done, total)


@pytest.fixture
def prepare() -> Saying:
    return Saying()


def texts(corpus: Corpus) -> list[tuple[str, str]]:
    source, target = corpus.tokenizers.source, corpus.tokenizers.target
    return [
        (source.decode(corpus.train.source[i].tolist()), target.decode(corpus.train.target[i].tolist()))
        for i in range(len(corpus.train))
    ]


def test_a_corpus_with_a_validation_part(data: Path, tmp_path: Path, prepare: Saying) -> None:
    recipe = make(data, valid_pairs="valid.tsv")
    corpus = prepare(recipe, tmp_path / "prepared")
    assert texts(corpus) == [*ROWS, ROWS[0]]
    assert corpus.valid.source_texts == ["one dog", "a cat"]
    assert corpus.valid.target == [corpus.tokenizers.target.encode(text) for text in corpus.valid.target_texts]
    assert corpus.tokenizers.joint
    assert corpus.facts["train_pairs"] == 41 and corpus.facts["valid_pairs"] == 2
    assert corpus.facts["target_tokens"] == corpus.train.target_tokens
    assert corpus.notes == (
        "1 training pairs with an empty side are left out",
        "1 training pairs with more than 30 tokens on a side are left out",
        "1 validation pairs with an empty side are left out",
        "1 validation pairs with more than 30 tokens on a side are left out",
    )
    assert prepare.said == ["training the tokenizer on 42 pairs"]
    assert prepare.counted == {"reading": (43, None), "tokenising": (43, 43)}
    again = prepare(recipe, tmp_path / "prepared")
    assert prepare.said == [] and prepare.counted == {}
    assert (again.facts, again.notes, texts(again)) == (corpus.facts, corpus.notes, texts(corpus))
    other = prepare(recipe, tmp_path / "other")
    assert other.facts == corpus.facts


def test_held_out_pairs_are_in_no_other_part(data: Path, tmp_path: Path, prepare: Saying) -> None:
    put(data / "train.tsv", ROWS * 3)
    corpus = prepare(make(data, held_out=0.25), tmp_path / "prepared")
    held = list(zip(corpus.valid.source_texts, corpus.valid.target_texts, strict=True))
    assert len(held) == len(set(held)) == 10
    assert sorted(texts(corpus)) == sorted([row for row in ROWS if row not in held] * 3)
    assert len(corpus.train) == 90
    assert corpus.notes == (
        "no validation part is given: 10 of 120 training pairs are held out for it (30 with their repetitions)",
    )
    again = prepare(make(data, held_out=0.25), tmp_path / "prepared")
    assert again.valid == corpus.valid and again.facts == corpus.facts
    other = prepare(make(data, held_out=0.25, seed=2), tmp_path / "other")
    assert other.valid.source_texts != corpus.valid.source_texts
    few = prepare(make(data, held_out=0.25, held_out_pairs=3), tmp_path / "few")
    assert len(few.valid) == 3
    put(data / "train.tsv", ROWS[:9] * 3)
    with pytest.raises(DataError, match="9 distinct training pairs are too few"):
        prepare(make(data), tmp_path / "none")


def test_parts_of_several_formats_and_their_weights(data: Path, tmp_path: Path, prepare: Saying) -> None:
    with open(data / "more.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"x": {"en": a, "de": b}}) + "\n" for a, b in ROWS[:8])
    (data / "a.en").write_text("three cats\n\n")
    (data / "a.de").write_text("drei Katzen\nleer\n")
    parts = [
        {"pairs": "train.tsv", "weight": 0.5},
        {"pairs": "more.jsonl", "columns": ["x.en", "x.de"]},
        {"source": "a.en", "target": "a.de", "weight": 2.0},
    ]
    recipe = make(data, pairs=None, train=parts, valid_pairs="valid.tsv")
    corpus = prepare(recipe, tmp_path / "prepared")
    assert corpus.train.part_sizes == (41, 8, 1)
    assert texts(corpus)[41:] == [*ROWS[:8], ("three cats", "drei Katzen")]
    assert f"1 training pairs of {data / 'train.tsv'} with an empty side are left out" in corpus.notes
    batches = training_batches(corpus.train, 200, 1, [part.weight for part in recipe.data.parts()])
    shown = np.bincount(np.concatenate([*batches.epoch(0), *batches.epoch(1)]), minlength=50)
    assert shown.tolist() == [1] * 41 + [2] * 8 + [4]
    plain = training_batches(corpus.train, 200, 1)
    lengths = [np.array([len(side[i]) + 1 for i in range(50)]) for side in (corpus.train.source, corpus.train.target)]
    expected = TokenBatches(lengths[0], lengths[1], 200, 1).epoch(3)
    assert [batch.tolist() for batch in plain.epoch(3)] == [batch.tolist() for batch in expected]
    with pytest.raises(ArgumentError, match="for 3 parts"):
        training_batches(corpus.train, 200, 1, [1.0])


def test_tokenizers_that_are_known_given_or_separate(data: Path, tmp_path: Path, prepare: Saying) -> None:
    joint = train_tokenizer("char", [text for pair in ROWS for text in pair])
    known = Tokenizers(joint, joint)
    corpus = prepare(make(data), tmp_path / "known", known)
    assert corpus.tokenizers is known and prepare.said == []
    assert texts(corpus)[0] in ROWS
    word = {"kind": "word"}
    corpus = prepare(make(data, tokenizer={"source": word, "target": word}), tmp_path / "separate")
    assert not corpus.tokenizers.joint and corpus.tokenizers.source.kind == "word"
    assert (tmp_path / "separate" / "target.tokenizer.json").exists()
    assert prepare(make(data, tokenizer={"source": word, "target": word}), tmp_path / "separate").facts == corpus.facts
    prepare(make(data, valid_pairs="valid.tsv", tokenizer={"vocabulary": 300, "sample": 11}), tmp_path / "sample")
    assert prepare.said == ["training the tokenizer on 11 pairs, drawn at random from 42"]
    with pytest.raises(RecipeError, match=r"tokenizer\.target\.vocabulary = 5"):
        prepare(make(data, tokenizer={"source": word, "target": {"vocabulary": 5}}), tmp_path / "small")


def test_a_given_tokenizer(data: Path, tmp_path: Path, prepare: Saying) -> None:
    trained = train_tokenizer("bpe", [text for pair in ROWS for text in pair], 300)
    trained.save(data / "given.json")
    for tokenizer in ({"file": "given.json"}, {"source": {"file": "given.json"}, "target": {"kind": "char"}}):
        corpus = prepare(make(data, tokenizer=tokenizer), tmp_path / f"prepared{len(tokenizer)}")
        assert corpus.tokenizers.source.encode("two dogs") == trained.encode("two dogs")
        assert texts(corpus)[0] in ROWS
    assert prepare.said == ["training the tokenizer on 41 pairs"]
    train_tokenizer("char", [text for pair in ROWS for text in pair]).save(data / "given.json")
    with pytest.raises(RecipeError, match="the tokenizers"):
        prepare(make(data, tokenizer={"file": "given.json"}, prepared="x"), tmp_path / "prepared1")
    with pytest.raises(RecipeError, match=r"files.* → .*files"):
        prepare(make(data, tokenizer=tokenizer, prepared="x"), tmp_path / "prepared2")


def test_a_changed_source_is_prepared_anew(data: Path, tmp_path: Path, prepare: Saying) -> None:
    recipe, folder = make(data, valid_pairs="valid.tsv"), tmp_path / "prepared"
    first = prepare(recipe, folder)
    mapped = first.train.source[0]
    os.utime(data / "train.tsv", ns=(1, 1))  # touched, and the same
    assert prepare(recipe, folder).facts == first.facts and prepare.said == []
    put(data / "train.tsv", ROWS[::-1])
    second = prepare(recipe, folder)
    assert prepare.said[0] == f"preparing the data anew: {data / 'train.tsv'} has changed"
    assert second.facts != first.facts
    assert texts(second) == ROWS[::-1]
    assert mapped.tolist() == first.train.source[0].tolist()  # who uses the old files keeps them
    put(data / "valid.tsv", VALID[3:])
    assert prepare(recipe, folder).facts["sha256"] != second.facts["sha256"]
    moved = tmp_path / "moved"
    data.rename(moved)
    assert prepare(make(moved, valid_pairs="valid.tsv"), folder).train.target_tokens == second.train.target_tokens
    assert prepare.said == []


def test_other_settings_and_tokenizers(data: Path, tmp_path: Path, prepare: Saying) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    prepare(make(data), own)
    prepare(make(data, max_length=29), own)
    assert prepare.said[0].startswith("preparing the data anew: other settings (max_length: 30 → 29)")
    first = prepare(make(data, prepared="x"), shared)
    for recipe, difference in (
        (make(data, prepared="x", max_length=29), "max_length: 30 → 29"),
        (make(data, prepared="x", held_out=0.1), "held_out: "),
        (make(data, prepared="x", valid_pairs="valid.tsv"), "held_out: .*None"),
        (make(data, prepared="x", columns=[2, 1]), r"columns: \[\[1, 2\]\] → \[\[2, 1\]\]"),
        (make(data, prepared="x", tokenizer={"kind": "char"}), "tokenizer: "),
    ):
        with pytest.raises(RecipeError, match=rf"shared \(data\.prepared\) holds a corpus .*{difference}"):
            prepare(recipe, shared)
    joint = train_tokenizer("char", [text for pair in ROWS for text in pair])
    with pytest.raises(RecipeError, match="the tokenizers"):
        prepare(make(data, prepared="x"), shared, Tokenizers(joint, joint))
    # another run with the same settings, whatever its seed, and the first one when it goes on with its own tokenizers
    assert prepare(make(data, prepared="x", training={"steps": 3, "seed": 7}), shared).facts == first.facts
    assert prepare(make(data, prepared="x"), shared, first.tokenizers).facts == first.facts
    assert prepare.said == []


def test_what_runs_need_is_not_replaced(data: Path, tmp_path: Path, prepare: Saying) -> None:
    """Neither what a run was trained on, nor what other runs may use."""
    shared, own = tmp_path / "shared", tmp_path / "own"
    prepare(make(data, prepared="x"), shared)
    prepare(make(data), own)
    before = {path.name: path.read_bytes() for folder in (shared, own) for path in folder.iterdir()}
    put(data / "other.tsv", ROWS[::-1])
    with pytest.raises(RecipeError, match=r"other text \(.*other\.tsv has changed\)"):
        prepare(make(data, prepared="x", pairs="other.tsv"), shared)
    put(data / "train.tsv", ROWS[::-1])
    with pytest.raises(DataError, match=r"since the run began: .*train\.tsv has changed"):
        prepare_corpus(make(data), own, None, print, lambda *count: None, begun=True)
    assert {path.name: path.read_bytes() for folder in (shared, own) for path in folder.iterdir()} == before


def test_a_finished_corpus_outlives_its_text(data: Path, tmp_path: Path, prepare: Saying) -> None:
    folder = tmp_path / "prepared"
    first = prepare(make(data), folder)
    (data / "train.tsv").unlink()
    assert prepare(make(data), folder).facts == first.facts
    assert prepare.said == [f"{data / 'train.tsv'} is no longer there; what was made from it is used"]
    joined = join_corpus(make(data), folder)
    assert joined.facts == first.facts and joined.valid == first.valid
    with pytest.raises(DataError, match="need the same file system"):
        join_corpus(make(data), tmp_path / "elsewhere")


def test_a_run_that_fails_leaves_the_corpus_of_another(data: Path, tmp_path: Path, prepare: Saying) -> None:
    """Two start together where nothing is; one waits for the other and then finds that it wants something else."""
    folder = tmp_path / "new" / "prepared"
    errors: list[Exception] = []

    def late() -> None:
        try:
            prepare_corpus(make(data, prepared="x", max_length=29), folder, None, print, lambda *count: None)
        except RecipeError as error:
            errors.append(error)

    other = threading.Thread(target=late)

    def begin(text: str) -> None:
        if not other.is_alive() and not errors:
            other.start()
            time.sleep(0.3)

    first = prepare_corpus(make(data, prepared="x"), folder, None, begin, lambda *count: None)
    other.join(30)
    assert len(errors) == 1 and "max_length" in str(errors[0])
    assert prepare(make(data, prepared="x"), folder).facts == first.facts


def test_bad_text_leaves_no_folder_and_whoever_waits_goes_on(data: Path, tmp_path: Path, prepare: Saying) -> None:
    folder = tmp_path / "new" / "prepared"
    results: list[Corpus] = []
    other = threading.Thread(target=lambda: results.append(prepare(make(data), folder)))
    (data / "bad.tsv").write_text("".join(f"{a}\t{a}\n" for a, _ in ROWS))

    def begin(*count: object) -> None:
        if not other.is_alive():
            other.start()
            time.sleep(0.3)

    with pytest.raises(DataError, match="same text"):
        prepare_corpus(make(data, pairs="bad.tsv"), folder, None, print, begin)
    other.join(30)
    assert len(results) == 1 and (folder / "manifest.json").exists()


def test_damage_is_an_error_that_says_what_to_do(data: Path, tmp_path: Path, prepare: Saying) -> None:
    folder, recipe = tmp_path / "prepared", make(data)
    corpus = prepare(recipe, folder)
    for name in ("source.tokens", "target.offsets", "tokenizer.json", "held-out.jsonl"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-3] + b"abc")
        with pytest.raises(DataError, match=rf"{name}: damaged: .*delete the folder .*prepared"):
            prepare(recipe, folder)
        (folder / name).write_bytes(whole)
    assert prepare(recipe, folder).facts == corpus.facts
    (folder / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json: damaged"):
        prepare(recipe, folder)


def test_a_folder_with_something_else_is_left_alone(data: Path, tmp_path: Path, prepare: Saying) -> None:
    before = sorted(path.name for path in data.iterdir())
    with pytest.raises(RecipeError, match="exists and is no prepared corpus"):
        prepare(make(data), data)
    assert sorted(path.name for path in data.iterdir()) == before
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(RecipeError, match="not the file of a regard tokens store"):
        prepare(make(data), tmp_path / "foreign")
    with pytest.raises(DataError, match="cannot be kept there: Not a directory"):
        prepare(make(data), data / "train.tsv" / "prepared")


def test_a_second_process_waits_for_the_first(data: Path, tmp_path: Path, prepare: Saying) -> None:
    folder = tmp_path / "prepared"
    folder.mkdir()
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = threading.Thread(target=prepare, args=(make(data), folder))
        other.start()
        other.join(0.3)
        assert other.is_alive()
        assert prepare.said == [f"another process is at work in {folder}; waiting for it"]
        fcntl.flock(lock, fcntl.LOCK_UN)
        other.join(30)
    assert (folder / "manifest.json").exists()


def test_data_that_cannot_be_right(data: Path, tmp_path: Path, prepare: Saying) -> None:
    put(data / "copy.tsv", [(a, a) for a, _ in ROWS])
    for key, part in (("pairs", "train"), ("valid_pairs", "validation")):
        with pytest.raises(DataError, match="40 of 40 pairs have the same text on both sides"):
            prepare(make(data, **{"valid_pairs": "valid.tsv", key: "copy.tsv"}), tmp_path / part)
    (data / "a").write_text("x\ny\n")
    (data / "b").write_text("x\n")
    with pytest.raises(DataError, match=r"a has 2 lines but .*b has 1 line"):
        prepare(make(data, pairs=None, source="a", target="b"), tmp_path / "uneven")
    with pytest.raises(DataError, match="nowhere: no such file"):
        prepare(make(data, pairs="nowhere"), tmp_path / "missing")
    with pytest.raises(DataError, match=r"every training pair is longer than data\.max_length = 1 tokens"):
        prepare(make(data, max_length=1), tmp_path / "long")
    with pytest.raises(DataError, match=r"valid\.tsv: no pair has text on both sides \(1 read\)"):
        put(data / "valid.tsv", VALID[1:2])
        prepare(make(data, valid_pairs="valid.tsv"), tmp_path / "empty")


def test_data_that_change_meanwhile(data: Path, tmp_path: Path) -> None:
    def change(text: str) -> None:
        put(data / "train.tsv", ROWS[1:])

    with pytest.raises(DataError, match="the data changed while they were being prepared"):
        prepare_corpus(make(data), tmp_path / "prepared", None, change, lambda what, done, total: None)
    said: list[str] = []
    corpus = prepare_corpus(make(data), tmp_path / "prepared", None, said.append, lambda what, done, total: None)
    assert "train.tsv has changed" in said[0]
    assert len(corpus.train) + len(corpus.valid) == len(ROWS) - 1


@pytest.mark.timeout(120)
def test_killed_at_any_moment_it_ends_with_the_same_files(tmp_path: Path) -> None:
    script = Path(__file__).parent / "kill_prepare.py"
    command = [sys.executable, str(script), str(tmp_path), "8", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["kills"] == 8
    assert result["within"] >= 3
    assert all(result["same"])
