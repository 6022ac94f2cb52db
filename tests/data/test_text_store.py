from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.given_examples import write
from regard.data import Tokenizer, documents, read_tokenizer, train_tokenizer
from regard.data.documents import open_documents
from regard.data.text_store import TextTokens
from regard.data.text_store_making import TextSize, TextSource, make_text_store, measure, sample_text
from regard.errors import DataError
from regard.files import write_json

CHAR = train_tokenizer("char", ["abcdefgh .\n"], strip=False)


def silent(*_: object) -> None:
    pass


def source(folder: Path, unit: str = "file", held_out: float = 0.1, valid: str | None = None) -> TextSource:
    readers = [] if valid is None else open_documents(folder, valid, unit)  # type: ignore[arg-type]
    return TextSource(open_documents(folder, "*.txt", unit), readers, held_out)  # type: ignore[arg-type]


def make(folder: Path, text: TextSource, tokenizer: Tokenizer = CHAR) -> TextTokens:
    store = folder / "store"
    store.mkdir()
    manifest = make_text_store(store, text, measure(text, silent), tokenizer, silent)
    write_json(store / "manifest.json", manifest)
    return TextTokens.open(store)


def said(tokens: TextTokens, part: str, tokenizer: Tokenizer = CHAR) -> list[str]:
    """The documents of a part, without their <eos>."""
    rows = getattr(tokens, part)
    assert all(int(rows[i][-1]) == tokenizer.eos_id for i in range(len(rows)))
    return [tokenizer.text_of(rows[i][:-1].tolist()).decode() for i in range(len(rows))]


def test_the_last_characters_of_files_are_held_out(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("abcd\nefgh\n")
    (tmp_path / "2.txt").write_text("hgfe dcba ")
    tokens = make(tmp_path, source(tmp_path, held_out=0.25))
    assert said(tokens, "train") == ["abcd\nefgh\n", "hgfe "]
    assert said(tokens, "valid") == ["dcba "]
    assert tokens.counts["valid"].characters == 5 and tokens.counts["valid"].bytes == 5
    assert tokens.counts["train"].documents == 2 and tokens.counts["train"].tokens == 17


def test_whole_lines_are_held_out(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("abcd\n\nefgh\nabc\nde\n")
    tokens = make(tmp_path, source(tmp_path, "line", 0.3))
    assert said(tokens, "train") == ["abcd", "efgh", "abc"]
    assert said(tokens, "valid") == ["de"]


def test_a_validation_text(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("abcd")
    (tmp_path / "valid").write_text("ef?\n")
    tokens = make(tmp_path, source(tmp_path, valid="valid"))
    assert said(tokens, "train") == ["abcd"]
    assert said(tokens, "valid") == ["ef�\n"]
    assert tokens.counts["valid"].unknown == 1


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(st.sampled_from("ab \n"), min_size=1, max_size=60), min_size=1, max_size=3),
    held_out=st.floats(0.02, 0.5),
    unit=st.sampled_from(["file", "line", "paragraph"]),
    piece=st.sampled_from([2, 5, 1 << 14]),
)
def test_both_parts_are_the_text(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], held_out: float, unit: str, piece: int
) -> None:
    folder = tmp_path_factory.mktemp("text")
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text("ab" + text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "PIECE", piece)
        patch.setattr(documents, "_READ", 8)
        text = source(folder, unit, held_out)
        size = measure(text, silent)
        pieces = {part: list(found) for part, found in text.pieces(size.kept)}
        everything = "".join(one for reader in text.train for one, _ in reader.pieces())
        assert "".join(one for part in pieces.values() for one, _ in part) == everything
        if unit == "file":
            assert len("".join(one for one, _ in pieces["train"])) == int(len(everything) * (1 - held_out))
        if not pieces["train"] or not pieces["valid"]:
            with pytest.raises(DataError, match="leaves no document for the"):
                make(folder, text)
            return
        tokens = make(folder, text)
    assert "".join(said(tokens, "train") + said(tokens, "valid")) == everything
    for part in ("train", "valid"):
        rows, counts = getattr(tokens, part), tokens.counts[part]
        assert counts.documents == len(rows) and counts.tokens == len(rows.tokens) == rows.offsets[-1]
        assert counts.characters == len("".join(said(tokens, part)))


@pytest.mark.parametrize("name", ["gpt2", "roberta", "wordpiece", "unigram"])
def test_pieces_give_the_ids_of_the_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document in pieces has the ids that a given tokenizer has for all of it."""
    monkeypatch.setattr(documents, "PIECE", 30)
    tokenizer = read_tokenizer(write(tmp_path, name))
    text = "Two dogs play.\n\nThe dogs sleep\nin the park\n\n\nIt costs, they sleep on\nTuesday" * 8
    (tmp_path / "1.txt").write_text(text)
    (tmp_path / "valid").write_text("dogs")
    tokens = make(tmp_path, source(tmp_path, valid="valid"), tokenizer)
    assert len(list(open_documents(tmp_path, "1.txt")[0].pieces())) > 8
    assert tokens.train.tokens.tolist() == [*tokenizer.encode_text(text), tokenizer.eos_id]


def test_the_sample_is_of_the_training_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.txt").write_text("abcd\n" * 3000 + "h" * 1000)
    monkeypatch.setattr("regard.data.text_store_making.PIECE", 64)
    monkeypatch.setattr(documents, "PIECE", 64)
    text = source(tmp_path, held_out=0.1)
    size = measure(text, silent)
    assert size == TextSize(16_000, 14_400)
    assert "".join(sample_text(text, size, 10**9, 1)) == "abcd\n" * 2880
    some = "".join(sample_text(text, size, 2000, 1))
    assert 1900 < len(some) < 2400 and set(some) == set("abcd\n")
    assert some == "".join(sample_text(text, size, 2000, 1)) != "".join(sample_text(text, size, 2000, 2))


def test_a_store_that_changed_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("abcd" * 30)
    make(tmp_path, source(tmp_path))
    with open(tmp_path / "store" / "train.tokens", "r+b") as file:
        file.write(b"\x09")
    with pytest.raises(DataError, match=r"train\.tokens: damaged: its checksum"):
        TextTokens.open(tmp_path / "store")
    TextTokens.open(tmp_path / "store", verify=False)
    (tmp_path / "store" / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match=r"manifest\.json: damaged: not the manifest of a regard texts store"):
        TextTokens.open(tmp_path / "store")
    (tmp_path / "store" / "manifest.json").unlink()
    with pytest.raises(DataError, match="holds no tokenised text"):
        TextTokens.open(tmp_path / "store")


def test_a_text_that_changes_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("abcd" * 30)
    text = source(tmp_path)
    size = measure(text, silent)
    (tmp_path / "1.txt").write_text("abcd" * 31)
    (tmp_path / "store").mkdir()
    with pytest.raises(DataError, match="changed while it was being prepared"):
        make_text_store(tmp_path / "store", text, size, CHAR, silent)


def test_progress_counts_characters(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("abcd" * 30)
    told: list[tuple[str, int, int | None]] = []
    text = source(tmp_path)
    size = measure(text, lambda *one: told.append(one))
    (tmp_path / "store").mkdir()
    make_text_store(tmp_path / "store", text, size, CHAR, lambda *one: told.append(one))
    assert told == [("reading", 120, None), ("tokenising", 108, 120), ("tokenising", 120, 120)]
    assert np.fromfile(tmp_path / "store" / "train.offsets", "<i8").tolist() == [0, 109]
