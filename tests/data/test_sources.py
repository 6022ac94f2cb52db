import gzip
import io
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import Pair, ParallelText, read_lines, read_parallel, read_table, usable
from regard.errors import ArgumentError, DataError


def put(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"a\r\nb\r\n\r\nc", ["a", "b", "", "c"]),
        (b"a\rb\r\r\n", ["a\rb\r"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", ["a", "\ufeffb"]),
        (b"\xef\xbb\xbf", [""]),
        ("a\u2028b\x0bc\x0cd\x85e\x1cf\u2029g\n h ".encode(), ["a\u2028b\x0bc\x0cd\x85e\x1cf\u2029g", " h "]),
    ],
)
def test_lines_end_at_newline_only(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    assert list(read_lines(put(tmp_path, "a.txt", content))) == lines
    assert list(read_lines(str(put(tmp_path, "a.txt.gz", gzip.compress(content))))) == lines


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\ufeff"))))
def test_any_lines_come_back(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.mktemp("lines") / "text"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    assert list(read_lines(path)) == lines


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO("\ufeffä\u2028b\r\n二".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert list(read_lines("-")) == ["ä\u2028b", "二"]
    assert not stdin.closed
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n\xff\n")))
    with pytest.raises(DataError, match="standard input, line 2"):
        list(read_lines(Path("-")))


def test_invalid_utf8_names_file_line_and_byte(tmp_path: Path) -> None:
    path = put(tmp_path, "bad.en", b"good\nso far\nab\xc3(\n")
    lines = read_lines(path)
    assert [next(lines), next(lines)] == ["good", "so far"]
    with pytest.raises(DataError, match=r"bad\.en, line 3: not valid UTF-8: byte 0xc3 at position 3"):
        next(lines)
    with pytest.raises(DataError, match="UTF-16"):
        list(read_lines(put(tmp_path, "wide.txt", "abc".encode("utf-16"))))


def test_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(("".join(f"line {i * 7919}\n" for i in range(997))).encode())
    for name, content in (
        ("cut.gz", whole[: len(whole) // 2]),
        ("plain.gz", b"not compressed at all\n"),
        ("garbled.gz", whole[:200] + b"\xff" * 20 + whole[220:]),
    ):
        with pytest.raises(DataError, match=rf"{name}: damaged or incomplete gzip"):
            list(read_lines(put(tmp_path, name, content)))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.en: no such file"):
        list(read_lines(tmp_path / "nowhere.en"))
    with pytest.raises(DataError, match="is a folder"):
        list(read_lines(tmp_path))
    with pytest.raises(DataError, match=r"a\.txt/b: cannot be read: Not a directory"):
        list(read_lines(put(tmp_path, "a.txt", "") / "b"))


def test_parallel_pairs_know_where_they_came_from(tmp_path: Path) -> None:
    source = put(tmp_path, "a.en", "one \n\n three\nfour\n")
    target = put(tmp_path, "a.zh", "一\n二\n三\r\n \u3000\n")
    text = read_parallel(source, target)
    assert list(text) == [Pair("one", "一"), Pair("", "二"), Pair("three", "三"), Pair("four", "")]
    kept, dropped = usable(text)
    assert (kept.sources, kept.targets, dropped) == (["one", "three"], ["一", "三"], 2)
    assert kept.where(1) == f"{source} and {target}, line 3"
    assert kept[1:].where(0) == kept.where(1)
    assert len(kept[1:]) == 1
    assert kept[-1] == Pair("three", "三")


@pytest.mark.parametrize(("left", "right"), [(3, 5), (5, 3), (1, 0), (0, 10007)])
def test_unequal_line_counts_give_both(tmp_path: Path, left: int, right: int) -> None:
    source, target = put(tmp_path, "a.en", "x\n" * left), put(tmp_path, "a.de", "y\n" * right)
    with pytest.raises(DataError, match=rf"a\.en has {left} lines? but .*a\.de has {right} lines?:"):
        read_parallel(source, target)


def test_table(tmp_path: Path) -> None:
    path = put(tmp_path, "t.tsv", "\ufeffGo.\t走。\tCC-BY\r\n Hi.\t\t嗨。\nx\ty\tz\textra\n")
    assert list(read_table(path)) == [Pair("Go.", "走。"), Pair("Hi.", ""), Pair("x", "y")]
    text = read_table(path, columns=(2, 0))
    assert list(text) == [Pair("CC-BY", "Go."), Pair("嗨。", "Hi."), Pair("z", "x")]
    assert text.where(2) == f"{path}, line 3"
    with pytest.raises(DataError, match=r"t\.tsv, line 1: expected at least 4 columns .* got 3: 'Go"):
        read_table(path, columns=(0, 3))
    with pytest.raises(DataError, match=r"line 2: expected at least 2 columns .* got 1"):
        read_table(put(tmp_path, "u.tsv", "a\tb\n\nc\td\n"))
    with pytest.raises(ArgumentError, match="columns"):
        read_table(path, columns=(0, -1))


def test_empty_data(tmp_path: Path) -> None:
    empty, blank = put(tmp_path, "empty", ""), put(tmp_path, "blank", " \n\n")
    with pytest.raises(DataError, match="no line"):
        read_parallel(empty, put(tmp_path, "empty2", ""))
    with pytest.raises(DataError, match="no line"):
        read_table(empty)
    with pytest.raises(DataError, match=r"no pair has text on both sides \(2 lines read\)"):
        usable(read_parallel(blank, blank))
    with pytest.raises(DataError, match="standard input"):
        read_parallel("-", "-")


def test_line_numbers_match_pairs() -> None:
    with pytest.raises(ArgumentError, match="2 line numbers for 1 pairs"):
        ParallelText((Pair("a", "b"),), (1, 2), "f")
