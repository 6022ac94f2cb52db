"""The strings of probes: what each task asks, nothing held out among the training strings, the same files each time."""

import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from regard.data import split_words, train_tokenizer
from regard.data.probes import PROBES, ProbeFiles, ProbeSettings, symbol, value, write_probe
from regard.errors import ArgumentError
from regard.files import write_whole

SMALL = {"strings": 300, "valid": 42, "test_each": 10, "lengths": (1, 5, 30)}
PARTS = ("train", "valid", "test")


def _write(folder: Path, name: str, **settings) -> ProbeFiles:
    return write_probe(folder, ProbeSettings(name, **settings))


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def _pairs(files: ProbeFiles, part: str) -> list[tuple[str, str]]:
    sides = (_lines(getattr(files, f"{part}_{side}")) for side in ("source", "target"))
    return list(zip(*sides, strict=True))


def _length(name: str, source: str) -> int:
    words = source.split()
    return words.index("?") // 2 if name == "recall" else len(words)


def _answer(name: str, source: str) -> list[str]:
    """What a probe asks for, worked out from the source alone."""
    words = source.split()
    if name == "copy":
        return source.upper().split()
    if name == "reverse":
        return list(reversed(words))
    mark = words.index("?")
    known = dict(zip(words[:mark:2], words[1:mark:2], strict=True))
    return [known[key] for key in words[mark + 1 :]]


@pytest.mark.parametrize("name", PROBES)
def test_targets_answer_their_sources(name: str, tmp_path: Path) -> None:
    files = _write(tmp_path / "probe", name, **SMALL)
    for part, count in zip(PARTS, (300, 42, 30), strict=True):
        pairs = _pairs(files, part)
        assert len(pairs) == count
        for source, target in pairs:
            assert target.split() == _answer(name, source)


@pytest.mark.parametrize("name", PROBES)
def test_nothing_held_out_is_among_the_training_strings(name: str, tmp_path: Path) -> None:
    # so few strings that chance alone would draw many of them again
    files = _write(
        tmp_path, name, shortest=1, longest=2, vocabulary=4, strings=2000, valid=2, test_each=1, lengths=(1, 2)
    )
    train, valid, test = ([source for source, _ in _pairs(files, part)] for part in PARTS)
    held_out = valid + test
    assert len(set(held_out)) == len(held_out) == 4
    assert not set(held_out) & set(train)
    if name != "recall":  # and all others are there
        everything = {symbol(i) for i in range(4)} | {f"{symbol(i)} {symbol(j)}" for i in range(4) for j in range(4)}
        assert set(train) == everything - set(held_out)


@pytest.mark.parametrize("name", PROBES)
def test_lengths_are_as_asked_for(name: str, tmp_path: Path) -> None:
    files = _write(tmp_path, name, **SMALL)
    trained = Counter(_length(name, source) for source, _ in _pairs(files, "train"))
    assert set(trained) == set(range(5, 26)) and max(trained.values()) < 40
    assert set(Counter(_length(name, source) for source, _ in _pairs(files, "valid")).values()) == {2}
    tested = [_length(name, source) for source, _ in _pairs(files, "test")]
    assert tested == [int(line) for line in _lines(files.test_length)] == [1] * 10 + [5] * 10 + [30] * 10


def test_recall_asks_for_any_of_its_different_keys(tmp_path: Path) -> None:
    files = _write(
        tmp_path, "recall", shortest=1, longest=9, vocabulary=9, **SMALL | {"strings": 1000, "lengths": (9,)}
    )
    places = Counter()
    for source, target in _pairs(files, "train"):
        words = source.split()
        mark, length = words.index("?"), _length("recall", source)
        keys, (asked,) = words[:mark:2], words[mark + 1 :]
        assert len(set(keys)) == length and len(target.split()) == 1
        if length == 9:
            places[keys.index(asked)] += 1
    assert set(places) == set(range(9))  # any of them, wherever it stands


def test_every_symbol_is_one_token_of_a_word_tokenizer(tmp_path: Path) -> None:
    files = _write(tmp_path, "recall", **SMALL)
    lines = [*_lines(files.train_source), *_lines(files.train_target)]
    tokenizer = train_tokenizer("word", lines)
    assert tokenizer.vocab_size == 4 + 50 + 50 + 1  # the special ones, keys, values and the question mark
    for line in lines[:20]:
        assert tokenizer.decode(tokenizer.encode(line)) == line
        assert len(tokenizer.encode(line)) == len(split_words(line)) == len(line.split())


def test_words_of_symbols_and_values_are_all_different() -> None:
    words = [symbol(i) for i in range(3000)] + [value(i) for i in range(3000)]
    assert len(set(words)) == 6000
    assert [symbol(i) for i in (0, 9, 10, 259, 260)] == ["a0", "a9", "b0", "z9", "ba0"]
    assert [value(i) for i in (0, 19, 260)] == ["0a", "9b", "0ba"]


def test_the_same_seed_gives_the_same_files_everywhere(tmp_path: Path) -> None:
    def digest(folder: Path) -> str:
        return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.iterdir()))).hexdigest()

    for folder in ("a", "b"):
        random.seed(folder)
        _write(tmp_path / folder, "recall", **SMALL)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert _lines(tmp_path / "a" / "train.source")[0] == FIRST
    _write(tmp_path / "c", "recall", **SMALL, seed=2)
    assert _lines(tmp_path / "c" / "test.source") != _lines(tmp_path / "a" / "test.source")


def test_more_training_strings_leave_the_others_as_they_are(tmp_path: Path) -> None:
    few, many = (_write(tmp_path / str(n), "copy", **SMALL | {"strings": n}) for n in (50, 100))
    assert _pairs(few, "test") == _pairs(many, "test") and _pairs(few, "valid") == _pairs(many, "valid")
    assert _pairs(few, "train") == _pairs(many, "train")[:50]


def test_a_complete_folder_stays_as_it_is(tmp_path: Path) -> None:
    files = _write(tmp_path, "copy", **SMALL)
    settings = json.loads(files.settings.read_text("utf-8"))
    assert settings["name"] == "copy" and settings["lengths"] == [1, 5, 30] and settings["longest"] == 25
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert _write(tmp_path, "copy", **SMALL) == files
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    with pytest.raises(ArgumentError, match=r"folder: .* holds another probe"):
        _write(tmp_path, "copy", **SMALL, seed=2)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_what_was_interrupted_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, write) -> None:
        if path.name == "train.source":
            raise KeyboardInterrupt
        write_whole(path, write)

    with monkeypatch.context() as patch:
        patch.setattr("regard.data.probes.write_whole", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _write(tmp_path, "reverse", **SMALL)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"valid.source", "valid.target", "test.source", "test.target", "test.length"}
    assert len(_pairs(_write(tmp_path, "reverse", **SMALL), "train")) == 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sort"}, "name: no probe 'sort': there are copy, reverse, recall"),
        ({"shortest": 0}, "shortest is 0; expected 1 or more"),
        ({"shortest": 26}, "longest is 25; expected shortest, 26, or more"),
        ({"vocabulary": 1}, "vocabulary is 1; expected 2 or more"),
        ({"strings": 0}, "strings is 0"),
        ({"valid": 0}, "valid is 0"),
        ({"test_each": 0}, "test_each is 0"),
        ({"lengths": ()}, "lengths are"),
        ({"lengths": (5, 0)}, "lengths are"),
        ({"lengths": (5, 5)}, "lengths are"),
        (
            {"lengths": (1,), "test_each": 26},
            "test_each is 26; there are 50 strings of length 1, of which at most half can be held",
        ),
        ({"shortest": 1, "valid": 20 * 25}, "valid is 500; there are 50 strings of length 1, .* and 30 are to be"),
        ({"name": "recall", "lengths": (51,)}, "vocabulary is 50; recall of length 51 needs as many different keys"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(tmp_path: Path, changes: dict, message: str) -> None:
    arguments = {"name": "copy", **SMALL} | changes
    with pytest.raises(ArgumentError, match=message):
        _write(tmp_path / "probe", arguments.pop("name"), **arguments)
    assert not (tmp_path / "probe").exists()


def test_the_rarest_strings_can_be_held_out_up_to_half(tmp_path: Path) -> None:
    files = _write(tmp_path, "copy", **SMALL | {"lengths": (1,), "test_each": 25})
    assert len(set(_lines(files.test_source))) == 25


FIRST = "a5 8a a4 2c a3 2b b0 3a b1 9c b6 4c b9 8b ? b0"
