import csv
import gzip
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import Pair, open_reader, pairs_of, read_lines
from regard.data.text_readers import BLOCK
from regard.errors import ArgumentError, DataError, MissingExtraError

PAIRS = [(f"sentence {i}", f"Satz {i} 二") for i in range(7)]
NAMES = ["translation.en", "translation.de"]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: zstandard.ZstdCompressor().compress(content),
}


def put(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(path: Path, columns=(1, 2)) -> list[tuple[int, str, str]]:
    rows = list(open_reader(path.parent, pairs=path.name, columns=columns).rows())
    assert [row.problem for row in rows] == [None] * len(rows)
    return [(row.line, row.source, row.target) for row in rows]


def numbered(pairs: list[tuple[str, str]], first: int = 1) -> list[tuple[int, str, str]]:
    return [(number, *pair) for number, pair in enumerate(pairs, start=first)]


def jsonl(pairs: list[tuple[str, str]]) -> str:
    return "".join(json.dumps({"id": 1, "translation": {"en": a, "de": b}}) + "\n" for a, b in pairs)


@pytest.mark.parametrize("end", COMPRESS)
def test_compressed_text_reads_like_plain_text(tmp_path: Path, end: str) -> None:
    text = "\ufeffone\r\n\n two \nlast".encode()
    assert list(read_lines(put(tmp_path, "a" + end, COMPRESS[end](text)))) == ["one", "", " two ", "last"]
    # several streams or frames one after another are one file
    two = COMPRESS[end](text) + COMPRESS[end](b" word\n")
    assert list(read_lines(put(tmp_path, "b" + end, two))) == ["one", "", " two ", "last word"]
    assert list(read_lines(put(tmp_path, "none" + end, COMPRESS[end](b"")))) == []
    packed = put(tmp_path, "c.jsonl" + end, COMPRESS[end](jsonl(PAIRS).encode()))
    assert rows_of(packed, NAMES) == numbered(PAIRS)


@pytest.mark.parametrize("end", COMPRESS)
def test_damaged_compressed_data(tmp_path: Path, end: str) -> None:
    whole = COMPRESS[end]("".join(f"line {i * 7919 % 1009}\n" for i in range(9973)).encode())
    garbled = whole[: len(whole) // 2] + b"\xff" * 60 + whole[len(whole) // 2 + 60 :]
    for name, content in (("cut", whole[:-20]), ("plain", b"not compressed at all\n"), ("garbled", garbled)):
        path = put(tmp_path, name + end, content)
        with pytest.raises(DataError, match=rf"{name}\{end}: damaged or incomplete .* data: .*after line \d+"):
            list(read_lines(path))
        with pytest.raises(DataError, match="damaged or incomplete"):
            list(open_reader(tmp_path, pairs=path.name).rows())


def test_zst_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    with pytest.raises(MissingExtraError, match=r"regard\[zstd\]"):
        list(read_lines(put(tmp_path, "a.zst", b"")))


def test_two_files(tmp_path: Path) -> None:
    put(tmp_path, "a.en", "\ufeffone \n\n three\r\nfour")
    put(tmp_path, "a.zh", "一\n二\n三\r\n \u3000\n")
    reader = open_reader(tmp_path, source="a.en", target="a.zh")
    assert list(pairs_of(reader)) == [Pair("one", "一"), Pair("", "二"), Pair("three", "三"), Pair("four", "")]
    assert list(reader.rows()) == list(reader.rows())
    assert [row.line for row in reader.rows()] == [1, 2, 3, 4]
    assert reader.files == (tmp_path / "a.en", tmp_path / "a.zh")


@pytest.mark.parametrize(("left", "right"), [(3, 5), (5, 3), (1, 0), (BLOCK, BLOCK + 1), (3 * BLOCK + 1, BLOCK)])
def test_unequal_line_counts_give_both(tmp_path: Path, left: int, right: int) -> None:
    put(tmp_path, "a.en", "x\n" * left)
    put(tmp_path, "a.de", "y\n" * right)
    seen = 0
    with pytest.raises(DataError, match=rf"a\.en has {left} lines? but .*a\.de has {right} lines?:"):
        for _ in open_reader(tmp_path, source="a.en", target="a.de").rows():
            seen += 1
    assert seen <= min(left, right)


def test_undecodable_lines_are_problems_and_do_not_end_the_reading(tmp_path: Path) -> None:
    put(tmp_path, "a.en", b"good\nab\xc3(\nmore\n\xff")
    put(tmp_path, "a.de", b"gut\nxy\n\xe4h\nEnde\n")
    reader = open_reader(tmp_path, source="a.en", target="a.de")
    rows = list(reader.rows())
    assert [(row.source, row.target) for row in rows] == [
        ("good", "gut"), ("ab\ufffd(", "xy"), ("more", "\ufffdh"), ("\ufffd", "Ende")
    ]  # fmt: skip
    assert [row.problem is None for row in rows] == [True, False, False, False]
    assert "a.en, line 2: not valid UTF-8: byte 0xc3 at position 3" in str(rows[1].problem)
    assert "a.de, line 3: not valid UTF-8: byte 0xe4 at position 1" in str(rows[2].problem)
    with pytest.raises(DataError, match=r"a\.en, line 2"):
        list(pairs_of(reader))
    put(tmp_path, "wide", "abc\tdef\n".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-16"):
        list(open_reader(tmp_path, pairs="wide").rows())
    table = list(open_reader(tmp_path, pairs=put(tmp_path, "t.tsv", b"a\tb\n\xff\tc\nd\te\n").name).rows())
    assert [row.problem is None for row in table] == [True, False, True]
    comma = list(open_reader(tmp_path, pairs=put(tmp_path, "t.csv", b'a,b\n"x\n\xff",c\nd,e\n').name).rows())
    assert [(row.line, row.problem is None) for row in comma] == [(1, True), (2, False), (4, True)]
    assert "t.csv, line 3: not valid UTF-8" in str(comma[1].problem)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\t\ufeff"))] * 2)))
def test_any_pairs_come_back_from_every_format(tmp_path_factory: pytest.TempPathFactory, pairs) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    expected = numbered([(a.strip(), b.strip()) for a, b in pairs])
    put(folder, "a", "".join(f"{a}\n" for a, _ in pairs))
    put(folder, "b", "".join(f"{b}\r\n" for _, b in pairs))
    two = open_reader(folder, source="a", target="b").rows()
    assert [(row.line, row.source, row.target) for row in two] == expected
    assert rows_of(put(folder, "t", "".join(f"{b}\t?\t{a}\n" for a, b in pairs)), (3, 1)) == expected
    assert rows_of(put(folder, "t.jsonl", jsonl(pairs)), NAMES) == expected
    with open(folder / "t.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("n", "de", "en"), *((1, b, a) for a, b in pairs)])
    assert rows_of(folder / "t.csv", ("en", "de")) == numbered([pair[1:] for pair in expected], first=2)


def test_blocks_do_not_change_what_is_read(tmp_path: Path) -> None:
    pairs = [(f"s {i}", f"t {i}") for i in range(2 * BLOCK + 3)]
    assert rows_of(put(tmp_path, "t", "".join(f"{a}\t{b}\n" for a, b in pairs))) == numbered(pairs)
    assert rows_of(put(tmp_path, "t.jsonl", jsonl(pairs)), NAMES) == numbered(pairs)


def test_bad_rows_of_tables(tmp_path: Path) -> None:
    rows = list(open_reader(tmp_path, pairs=put(tmp_path, "t.tsv", "a\tb\n\nc\n").name).rows())
    assert rows[0].problem is None
    assert "t.tsv, line 2: expected at least 2 columns with a tab between, got 1" in str(rows[1].problem)
    lines = [
        '{"en": "a", "de": " b "}',
        "",
        '{"en": "a", "d": "b", "x": {"y": 1}}',
        "{nonsense",
        "[1]",
        '{"en": 3, "de": "b"}',
        '{"en": null, "de": "b"}',
        '{"en": "\\ud83d", "de": "b"}',
        '{"en": "\\ud83d\\ude00", "de": "b"}',
    ]
    put(tmp_path, "t.jsonl", "\n".join(lines))
    rows = list(open_reader(tmp_path, pairs="t.jsonl", columns=["en", "de"]).rows())
    assert [row.line for row in rows] == [1, 3, 4, 5, 6, 7, 8, 9]
    assert [rows[i].problem for i in (0, 5, 7)] == [None, None, None]
    assert [(rows[i].source, rows[i].target) for i in (0, 5, 7)] == [("a", "b"), ("", "b"), ("😀", "b")]
    assert "line 3: has no column 'de'; it has: en, d, x.y" in str(rows[1].problem)
    assert "line 4: not JSON" in str(rows[2].problem)
    assert "line 5: expected a JSON object" in str(rows[3].problem)
    assert "line 6: 'en' should be a string, got int" in str(rows[4].problem)
    assert "line 8: 'en' is not Unicode text" in str(rows[6].problem)
    rows[6].source.encode()


def test_csv_quotes_and_headers(tmp_path: Path) -> None:
    path = put(tmp_path, "t.csv", 'en,de\n"a, ""b""",c\n"two\nlines",d\n\nnull,NA\nshort\n')
    rows = list(open_reader(tmp_path, pairs=path.name, columns=["en", "de"]).rows())
    assert [(row.line, row.source, row.target) for row in rows][:3] == [
        (2, 'a, "b"', "c"), (3, "two\nlines", "d"), (6, "null", "NA")
    ]  # fmt: skip
    assert "t.csv, line 7: expected at least 2 columns with a comma" in str(rows[3].problem)
    assert next(iter(open_reader(tmp_path, pairs=path.name, columns=[2, 1]).rows())).source == "de"
    with pytest.raises(DataError, match=r"t\.csv, line 1: has no column 'fr'; it has: en, de"):
        list(open_reader(tmp_path, pairs=path.name, columns=["en", "fr"]).rows())
    put(tmp_path, "open.csv", 'a,b\n"c,d\n' + "e,f\n" * 60000)
    with pytest.raises(DataError, match=r"open\.csv, line 2: not CSV: .*quote"):
        list(open_reader(tmp_path, pairs="open.csv").rows())


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs as Parquet, as Arrow and as saved by `datasets`, with a null and a number beside."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("tables")
    cells = [{"en": f" {a}", "de": b} for a, b in PAIRS] + [{"en": None, "de": "NA"}, None]
    table = pa.table({"number": list(range(len(cells))), "translation": cells})
    pq.write_table(table, folder / "t.parquet", row_group_size=4)
    (folder / "shards").mkdir()
    pq.write_table(table.slice(0, 5), folder / "shards" / "0.parquet")
    pq.write_table(table.slice(5), folder / "shards" / "1.parquet")
    with pa.ipc.new_stream(str(folder / "stream.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_file(str(folder / "file.arrow"), table.schema) as writer:
        writer.write_table(table)
    datasets.Dataset(table).save_to_disk(folder / "saved")
    datasets.DatasetDict({"train": datasets.Dataset(table)}).save_to_disk(folder / "parts")
    return folder


@pytest.mark.parametrize("name", ["t.parquet", "shards", "stream.arrow", "file.arrow", "saved"])
def test_columnar_tables(tables: Path, name: str) -> None:
    assert rows_of(tables / name, NAMES) == numbered([*PAIRS, ("", "NA"), ("", "")])
    with pytest.raises(DataError, match=r"has no column 'fr'; it has: number, translation\.en, translation\.de"):
        list(open_reader(tables, pairs=name, columns=["fr", "translation.de"]).rows())
    with pytest.raises(DataError, match="'number' holds int64, expected text"):
        list(open_reader(tables, pairs=name, columns=["number", "translation.de"]).rows())
    with pytest.raises(DataError, match="columns of such a file have names"):
        open_reader(tables, pairs=name)


def test_columnar_files_that_cannot_be_read(tables: Path, tmp_path: Path) -> None:
    whole = (tables / "t.parquet").read_bytes()
    for name, content in (("a.parquet", whole[:-30]), ("b.parquet", b"x" * 100), ("c.arrow", b"x" * 100)):
        with pytest.raises(DataError, match=rf"{name}: .*(damaged|cannot be read)"):
            list(open_reader(put(tmp_path, name, content).parent, pairs=name, columns=NAMES).rows())
    with pytest.raises(DataError, match=r"d\.parquet: no such file"):
        list(open_reader(tmp_path, pairs="d.parquet", columns=NAMES).rows())
    with pytest.raises(DataError, match=r"holds several parts; give one of them: .*parts/train"):
        list(open_reader(tables, pairs="parts", columns=NAMES).rows())


def test_undecodable_bytes_in_a_column(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.array([b"good", b"\xff\xfe!", None]).view(pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    pq.write_table(pa.table({"en": broken, "de": ["a", "b", "c"]}), tmp_path / "t.parquet")
    rows = list(open_reader(tmp_path, pairs="t.parquet", columns=["en", "de"]).rows())
    assert [(row.source, row.target) for row in rows] == [("good", "a"), ("\ufffd\ufffd!", "b"), ("", "c")]
    assert "t.parquet, row 2: 'en' is not valid UTF-8: byte 0xff at position 1" in str(rows[1].problem)
    assert rows[0].problem is rows[2].problem is None


def test_columnar_files_without_the_extra(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (("pyarrow.parquet", "t.parquet"), ("datasets", "saved")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtraError, match=r"regard\[datasets\]"):
            list(open_reader(tables, pairs=name, columns=NAMES).rows())


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArgumentError, match="either source and target, or pairs"):
        open_reader(tmp_path, source="a")
    with pytest.raises(ArgumentError, match="not both"):
        open_reader(tmp_path, source="a", target="b", pairs="c")
    for columns in ([1], [1, "en"], [0, 1]):
        with pytest.raises(ArgumentError, match="expected two numbers from 1 or two names"):
            open_reader(tmp_path, pairs="t", columns=columns)
    with pytest.raises(DataError, match="is a folder, but neither"):
        open_reader(tmp_path, pairs="folder")
    with pytest.raises(DataError, match="compressed inside"):
        open_reader(tmp_path, pairs="t.parquet.gz", columns=NAMES)
    with pytest.raises(DataError, match=r"call it \.jsonl"):
        open_reader(tmp_path, pairs="t.json", columns=NAMES)
    with pytest.raises(DataError, match="tab-separated file are numbers"):
        open_reader(tmp_path, pairs="t.tsv", columns=NAMES)
    for pairs, columns in (("a.tsv", (1, 2)), ("a.jsonl", NAMES), ("a.csv", (1, 2))):
        with pytest.raises(DataError, match="no such file"):
            list(open_reader(tmp_path, pairs=pairs, columns=columns).rows())
