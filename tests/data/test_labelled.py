"""Readers of labelled text: what is read, and errors that name file and line."""

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from regard.data.labelled import read_labelled, read_tagged
from regard.errors import ArgumentError, DataError

CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
. . O O


Peter NNP B-NP B-PER
"""
CONLLU = """# sent_id = 1
# text = Don't go
1-2\tDon't\t_\t_\t_
1\tDo\tdo\tAUX\tVB
2\tn't\tnot\tPART\tRB
2.1\tempty\t_\t_\t_
3\tgo\tgo\tVERB\tVB

# sent_id = 2
1\tNo space here\tno\tNOUN\tNN
"""


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, "utf-8")
    return path


def test_tab_separated(tmp_path: Path) -> None:
    found = read_labelled(write(tmp_path, "a.tsv", "good\t It works. \nbad\t\nbad\tIt doesn't.\textra\n"))
    assert found.labels == ("good", "bad")
    assert found.texts == (("It works.",), ("It doesn't.",))
    assert (found.lines, found.empty) == ((1, 3), 1)
    assert found.where(1) == f"{tmp_path / 'a.tsv'}, line 3"
    assert found.subset([1]).texts == (("It doesn't.",),)


def test_columns_pairs_and_header(tmp_path: Path) -> None:
    path = write(tmp_path, "pairs.tsv", "one\ttwo\tlabel\nA dog.\tAn animal.\tyes\nA cat.\tA car.\tno\n")
    found = read_labelled(path, label=3, text=1, second=2, header=True)
    assert found.texts == (("A dog.", "An animal."), ("A cat.", "A car."))
    assert found.labels == ("yes", "no")
    assert found.lines == (2, 3)
    assert read_labelled(path, label=3, text=1).labels == ("label", "yes", "no")


def test_named_columns(tmp_path: Path) -> None:
    rows = [{"text": "Good.", "label": 1}, {"text": "Bad.", "label": 0}]
    found = read_labelled(write(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert (found.labels, found.texts) == (("1", "0"), (("Good.",), ("Bad.",)))
    found = read_labelled(write(tmp_path, "a.csv", 'label,text,more\nx,"a, b",1\ny,c,2\n'))
    assert (found.labels, found.texts) == (("x", "y"), (("a, b",), ("c",)))
    found = read_labelled(write(tmp_path, "b.csv", 'star,a,b\n5,"p",q\n'), label="star", text="a", second="b")
    assert (found.labels, found.texts) == (("5",), (("p", "q"),))


def test_parquet_with_whole_numbers(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"label": [3, 4], "text": ["a", "b"]}), tmp_path / "a.parquet")
    found = read_labelled(tmp_path / "a.parquet")
    assert (found.labels, found.texts) == (("3", "4"), (("a",), ("b",)))
    with pytest.raises(DataError, match="has no column 'kind'; it has: label, text"):
        read_labelled(tmp_path / "a.parquet", label="kind", text="text")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "x\ta\nonly one\n", r"a\.tsv, line 2: expected at least 2 columns .* got 1: 'only one'"),
        ("a.tsv", "x\ta\n\tb\n", r"a\.tsv, line 2: has no label \(column 1\); the text: 'b'"),
        ("a.tsv", "", r"a\.tsv: there is no text with a label in it"),
        ("a.tsv", "x\t\n", r"a\.tsv: there is no text with a label in it \(1 are empty\)"),
        ("a.jsonl", '{"text": "a"}\n', r"a\.jsonl, line 1: has no column 'label'; it has: text"),
        ("a.jsonl", '{"text": "a", "label": 1.5}\n', r"line 1: 'label' should be a string, got float"),
        ("a.jsonl", '{"text": "a", "label": true}\n', r"line 1: 'label' should be a string, got bool"),
        ("a.jsonl", '{"text": "a", "label": "p\\tq"}\n', r"line 1: has the label 'p\\tq', with a tab"),
        ("a.csv", "kind,text\nx,a\n", r"a\.csv, line 1: has no column 'label'; it has: kind, text"),
    ],
)
def test_errors_of_texts_name_file_and_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_labelled(write(tmp_path, name, content))


def test_a_missing_file_and_mixed_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_labelled(tmp_path / "none.tsv")
    with pytest.raises(ArgumentError, match="expected numbers from 1 or names, not both"):
        read_labelled(tmp_path / "a.csv", label=1, text="text")


def test_conll(tmp_path: Path) -> None:
    found = read_tagged(write(tmp_path, "a.conll", CONLL))
    assert found.words == (("EU", "rejects", "."), ("Peter",))
    assert found.tags == (("B-ORG", "O", "O"), ("B-PER",))
    assert found.where(1, 0) == f"{tmp_path / 'a.conll'}, line 8"
    assert read_tagged(tmp_path / "a.conll", tag=2).tags == (("NNP", "VBZ", "."), ("NNP",))
    assert read_tagged(tmp_path / "a.conll", word=2, tag=3).words == (("NNP", "VBZ", "."), ("NNP",))


def test_universal_dependencies(tmp_path: Path) -> None:
    found = read_tagged(write(tmp_path, "a.conllu", CONLLU))
    assert found.words == (("Do", "n't", "go"), ("No space here",))
    assert found.tags == (("AUX", "PART", "VERB"), ("NOUN",))


@pytest.mark.parametrize(("end", "pack"), [("gz", gzip.compress), ("xz", lzma.compress)])
def test_compressed_universal_dependencies(tmp_path: Path, end: str, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / f"a.conllu.{end}").write_bytes(pack(CONLLU.encode()))
    plain = read_tagged(write(tmp_path, "a.conllu", CONLLU))
    found = read_tagged(tmp_path / f"a.conllu.{end}")
    assert (found.words, found.tags) == (plain.words, plain.tags)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("EU B-ORG\nrejects\n", r"a\.conll, line 2: has 1 columns, line 1 has 2: 'rejects'"),
        ("EU\n", r"a\.conll, line 1: expected a word and its tag, at least 2 columns, got 1: 'EU'"),
        ("EU\t\n", r"a\.conll, line 1: the tag is empty"),
        ("\n\n", r"a\.conll: there is no sentence in it"),
    ],
)
def test_errors_of_tags_name_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_tagged(write(tmp_path, "a.conll", content))


def test_columns_of_words_are_numbers_from_1(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="expected numbers from 1"):
        read_tagged(tmp_path / "a.conll", word=0)
