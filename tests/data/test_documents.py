import glob
import gzip
import json
import lzma
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import documents
from regard.data.documents import DocumentReader, TextFile, cut, grouped, open_documents, split_documents, text_blocks
from regard.errors import DataError


def texts(reader: DocumentReader) -> list[str]:
    """The documents, whole."""
    found = [""]
    for text, last in reader.pieces():
        found[-1] += text
        found += [""] if last else []
    assert found.pop() == "", "the last document must end"
    return found


def one(path: Path, unit: str = "file", column: str | int = "text") -> list[str]:
    (reader,) = open_documents(path.parent, path.name, unit, column)  # type: ignore[arg-type]
    return texts(reader)


TEXT = " The dogs\nplay .\n\n\n In the park \n \t\nlast"


def test_what_a_document_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT, "utf-8")
    assert one(path) == [TEXT]
    assert one(path, "line") == [" The dogs", "play .", " In the park ", "last"]
    assert one(path, "paragraph") == [" The dogs\nplay .", " In the park ", "last"]


LINES = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=6), max_size=8)


@settings(max_examples=60, deadline=None)
@given(lines=LINES, end=st.sampled_from(["", "\n", "\n\n"]), size=st.sampled_from([1, 3, 7, 1 << 20]))
def test_however_a_file_is_read(tmp_path_factory: pytest.TempPathFactory, lines, end: str, size: int) -> None:
    """Blocks end anywhere; documents are the same."""
    text = "x\n" + "\n".join(lines) + end
    path = tmp_path_factory.mktemp("texts") / "a.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_READ", size)
        assert one(path) == [text.removeprefix("\ufeff")]
        assert one(path, "line") == [line for line in text.split("\n") if line.strip()]
        paragraphs = [""]
        for line in text.split("\n"):
            paragraphs += [""] if not line.strip() else []
            paragraphs[-1] += line + "\n" if line.strip() else ""
        assert one(path, "paragraph") == [paragraph[:-1] for paragraph in paragraphs if paragraph]


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from("ab \n。_"), max_size=80), piece=st.integers(1, 9))
def test_cutting_loses_nothing_and_cuts_where_words_end(text: str, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "PIECE", piece)
        patch.setattr(documents, "_LONGEST", 20)
        pieces = list(cut(text))
    assert "".join(part for part, _ in pieces) == text
    assert [last for _, last in pieces] == [False] * (len(pieces) - 1) + [True]
    for before, after in pairwise(pieces):
        assert len(before[0]) >= piece
        assert after[0][0] in "\n " or len(before[0]) == 20
        assert before[0][-1] not in "\n " or len(before[0]) == 20


def test_a_long_file_comes_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    text = "the dogs play in the park\n" * 4000
    path.write_text(text, "utf-8")
    pieces = list(TextFile(path).pieces())
    assert len(pieces) > 5 and max(len(text) for text, _ in pieces) < 1.1 * documents.PIECE
    assert all(text.startswith("\n") for text, _ in pieces[1:])
    assert "".join(text for text, _ in pieces) == text
    assert [len(block) for block in grouped(pieces, 2 * documents.PIECE)][:-1] == [2] * ((len(pieces) - 1) // 2)


def test_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\rthree\r\n".encode())
    assert one(path) == ["one\ntwo\rthree\n"]
    assert one(path, "line") == ["one", "two\rthree"]


def test_compressed(tmp_path: Path) -> None:
    for name, opened in (("a.txt.gz", gzip.open), ("a.txt.xz", lzma.open)):
        with opened(tmp_path / name, "wb") as file:
            file.write(TEXT.encode())
        assert one(tmp_path / name) == [TEXT]


def test_tables(tmp_path: Path) -> None:
    rows = ["one\ntwo", "", None, " three "]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": row, "n": {"t": "x"}}) + "\n" for row in rows))
    pyarrow.parquet.write_table(pyarrow.table({"text": rows, "other": rows}), tmp_path / "a.parquet")
    (tmp_path / "a.tsv").write_text("1\tone\n2\ttwo\n")
    (tmp_path / "a.csv").write_text('id,text\n1,"one\ntwo"\n')
    for name in ("a.jsonl", "a.parquet"):
        assert one(tmp_path / name) == ["one\ntwo", "three"]
    assert one(tmp_path / "a.jsonl", column="n.t") == ["x"] * 4
    assert one(tmp_path / "a.tsv", column=2) == ["one", "two"]
    assert one(tmp_path / "a.csv") == ["one\ntwo"]
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: has no column 'body'; it has: text, n\.t"):
        one(tmp_path / "a.jsonl", column="body")
    with pytest.raises(DataError, match=r"a\.parquet: columns of such a file have names, got 1"):
        one(tmp_path / "a.parquet", column=1)


def test_patterns_and_lists(tmp_path: Path) -> None:
    for name in ("p-2.txt", "p-1.txt", "q.txt"):
        (tmp_path / name).write_text(name)
    assert [reader.name for reader in open_documents(tmp_path, ["q.txt", "p-*.txt"])] == [
        str(tmp_path / name) for name in ("q.txt", "p-1.txt", "p-2.txt")
    ]
    with pytest.raises(DataError, match=r"r-\*\.txt: no file has such a name"):
        open_documents(tmp_path, "r-*.txt")
    with pytest.raises(DataError, match=r"p-1\.txt: is given twice"):
        open_documents(tmp_path, ["p-1.txt", "p-*.txt"])


def test_patterns_that_are_absolute_and_names_that_look_like_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "with [1]"
    folder.mkdir()
    for name in ("p-1.txt", "p-2.txt", "a[1].txt", "a1.txt", ".p.txt"):
        (folder / name).write_text(name)

    def found(name: str, root: Path = folder, known: Sequence[Path] = ()) -> list[str]:
        return [Path(reader.name).name for reader in open_documents(root, name, known=known)]

    assert found("p-*.txt") == ["p-1.txt", "p-2.txt"] and found("a[1].txt") == ["a[1].txt"] and found("a[12].txt")
    assert found("**/p-*.txt", tmp_path) == ["p-1.txt", "p-2.txt"]
    assert found("*p*.txt") == [".p.txt", "p-1.txt", "p-2.txt"]
    assert found(f"{glob.escape(str(folder))}/p-*.txt", tmp_path / "elsewhere") == ["p-1.txt", "p-2.txt"]
    known = [folder / name for name in ("q-2.txt", "q-1.txt", "r.txt")]
    assert found("q-*.txt", known=known) == ["q-2.txt", "q-1.txt"] and found("**/q-*.txt", tmp_path, known)
    with pytest.raises(DataError, match=r"s-\*\.txt: no file has such a name"):
        found("s-*.txt", known=known)


@pytest.mark.parametrize(
    "raw",
    [
        b"\r" * (6 << 20),
        b"a" + b"\r" * (6 << 20) + b"b",
        "é猫🐕".encode() * (1 << 20),
        b"a" * ((5 << 20) - 1) + b"\r\nb",
        b"a" * (5 << 20) + b"\r\nb",
    ],
)
def test_a_long_line_is_cut_between_characters(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    assert "".join(text_blocks(tmp_path / "a.txt")) == raw.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("raw", [b"\x80" * (5 << 20), b"a\xf0" + b"\x80" * (5 << 20)])
def test_a_long_line_that_is_no_text_is_said(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.txt, line 1: not valid UTF-8"):
        list(text_blocks(tmp_path / "a.txt"))


@given(st.text("ab \n\t", max_size=40), st.sampled_from(["file", "line", "paragraph"]))
def test_the_documents_of_a_text_are_those_of_its_file(tmp_path_factory: pytest.TempPathFactory, text: str, unit: Any):
    path = tmp_path_factory.getbasetemp() / "split.txt"
    path.write_text(text)
    assert split_documents(text, unit) == (one(path, unit=unit) if text.strip() else [])


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(DataError, match=r"a\.txt: no such file"):
        one(path)
    path.write_bytes(b"\xef\xbb\xbfone\ntw\xf6\n")
    for unit in ("file", "line", "paragraph"):
        with pytest.raises(DataError, match=r"a\.txt, line 2: not valid UTF-8: byte 0xf6 at position 3 of the line"):
            one(path, unit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_READ", 8)
        path.write_bytes(b"one\ntwo\nthree\nf\xff\n")
        with pytest.raises(DataError, match=r"line 4: not valid UTF-8: byte 0xff at position 2"):
            one(path)
    path.write_bytes("one".encode("utf-16"))
    with pytest.raises(DataError, match="is UTF-16 text"):
        one(path)
    path.write_text(" \n\n")
    for unit in ("file", "line"):
        with pytest.raises(DataError, match=r"a\.txt: there is no text in it"):
            one(path, unit)
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": 3.5}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: 'text' should be a string, got float"):
        one(tmp_path / "a.jsonl")


def test_a_line_without_end_needs_no_memory_for_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_READ", 16)
    path = tmp_path / "a.txt"
    path.write_bytes("äöü".encode() * 200)
    blocks = list(text_blocks(path))
    assert "".join(blocks) == "äöü" * 200
    assert max(map(len, blocks)) <= 64
