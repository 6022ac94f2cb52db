from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest

from regard.data import open_reader, train_tokenizer
from regard.data.preparing import Done, PartDone, encode_corpus
from regard.data.token_store import SIDES
from regard.data.tokenizers import Tokenizer
from regard.errors import DataError

WORDS = ["one", "two", "three", "four", "five", "six", "seven"]
ROWS = [(" ".join(WORDS[: 1 + i % 7]), " ".join(WORDS[i % 5 :])) for i in range(500)]
ROWS[7], ROWS[123], ROWS[124] = ("", "x"), ("y", ""), ("", "")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer("word", chain(*ROWS))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regard.data.text_readers.BLOCK", 37)


def quiet(what: str, done: int, total: int | None) -> None:
    assert what == "tokenising" and 0 < done <= (total or 0)


class Stopped(Exception):
    """The end of a process."""


def encode(folder: Path, tokenizer: Tokenizer, done: Done, *, stop_after: int | None = None, **settings) -> list[Done]:
    """Encode two parts, each of them half of the rows; returns the places that were saved."""
    source = folder.parent
    for number, rows in enumerate((ROWS[:250], ROWS[250:])):
        (source / f"part{number}").write_text("".join(f"{a}\t{b}\n" for a, b in rows))
    saved: list[Done] = []

    def save(reached: Done) -> None:
        saved.append(Done.from_json(reached.as_json()))
        if len(saved) == stop_after:
            raise Stopped

    arguments = {"max_length": 9, "leave_out": set(), "total": len(ROWS), "save_seconds": 0.0} | settings
    with suppress(Stopped):
        encode_corpus(
            folder,
            [open_reader(source, pairs=f"part{number}") for number in (0, 1)],
            (tokenizer, tokenizer),
            done,
            save=save,
            progress=quiet,
            **arguments,
        )
    return saved


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fresh() -> Done:
    return Done([PartDone(), PartDone()])


def test_tokens_are_those_of_the_tokenizer(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    held = {ROWS[0]}
    done = fresh()
    encode(folder, tokenizer, done, max_length=6, leave_out=held)
    full = [pair for pair in ROWS if all(pair)]
    kept = [pair for pair in full if pair not in held and max(len(text.split()) for text in pair) <= 6]
    ids = [[index for pair in kept for index in tokenizer.encode(pair[side])] for side in (0, 1)]
    for side, name in enumerate(SIDES):
        stored = (folder / f"{name}.tokens").read_bytes()
        assert [int.from_bytes(stored[i : i + 2], "little") for i in range(0, len(stored), 2)] == ids[side]
        assert done.tokens[name] == len(ids[side])
    counts = [sum(getattr(part, name) for part in done.parts) for name in ("rows", "kept", "empty", "held_out")]
    assert counts == [500, len(kept), 3, sum(pair in held for pair in full)]
    assert sum(part.long for part in done.parts) == len(full) - len(kept) - counts[3] > 0
    assert [part.rows for part in done.parts] == [250, 250]


@pytest.mark.parametrize("stop_after", [1, 2, 6, 7, 8, 12])
def test_going_on_gives_the_same_bytes(tmp_path: Path, tokenizer: Tokenizer, stop_after: int) -> None:
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    whole.mkdir()
    interrupted.mkdir()
    expected = encode(whole, tokenizer, fresh())
    reached = encode(interrupted, tokenizer, fresh(), stop_after=stop_after)
    assert len(reached) == stop_after < len(expected)
    with open(interrupted / "target.tokens", "ab") as file:
        file.write(b"what a killed process wrote last")
    assert encode(interrupted, tokenizer, reached[-1])[-1] == expected[-1]
    assert content(interrupted) == content(whole)
    assert encode(interrupted, tokenizer, expected[-1])[-1] == expected[-1]  # nothing is left to do
    assert content(interrupted) == content(whole)


def test_errors(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    done = fresh()
    done.parts[0].rows = done.parts[0].kept = 40
    done.tokens = {"source": 100, "target": 100}
    with pytest.raises(DataError, match=r"source\.tokens: damaged: has 0 bytes, expected at least 200"):
        encode(folder, tokenizer, done)
    (tmp_path / "bad").write_text("a\tb\nno tab\n")
    with pytest.raises(DataError, match="bad, line 2: expected at least 2 columns"):
        encode_corpus(
            folder,
            [open_reader(tmp_path, pairs="bad")],
            (tokenizer, tokenizer),
            Done([PartDone()]),
            max_length=9,
            leave_out=(),
            total=2,
            save=lambda reached: None,
            progress=quiet,
        )
