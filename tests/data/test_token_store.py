from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.token_store import (
    FORMAT,
    VERSION,
    ParallelTokens,
    SideWriter,
    TokenRows,
    describe_files,
    token_dtype,
)
from regard.errors import DataError
from regard.files import write_json

ROWS = st.lists(st.tuples(*[st.lists(st.integers(0, 99), max_size=5)] * 2), max_size=12)
NAMES = ["source.tokens", "source.offsets", "target.tokens", "target.offsets"]


def write(folder: Path, pairs: list[tuple[list[int], list[int]]], parts: list[int], vocabulary: int = 100) -> None:
    """A whole store."""
    for side, name in enumerate(("source", "target")):
        writer = SideWriter(folder, name, token_dtype(vocabulary), 0, 0)
        rows = [pair[side] for pair in pairs]
        writer.append(rows, np.array([len(row) for row in rows], dtype=np.int64))
        writer.close()
    write_json(
        folder / "manifest.json",
        {
            "format": FORMAT,
            "version": VERSION,
            "dtypes": dict.fromkeys(("source", "target"), token_dtype(vocabulary).str),
            "parts": [{"kept": size} for size in parts],
            "files": describe_files(folder, NAMES),
        },
    )


@settings(max_examples=40, deadline=None)
@given(pairs=ROWS, vocabulary=st.sampled_from([100, 65_536, 65_537]))
def test_rows_come_back(tmp_path_factory: pytest.TempPathFactory, pairs, vocabulary: int) -> None:
    folder = tmp_path_factory.mktemp("store")
    write(folder, pairs, [len(pairs)], vocabulary)
    tokens = ParallelTokens.open(folder)
    assert len(tokens) == len(pairs)
    assert [(tokens.source[i].tolist(), tokens.target[i].tolist()) for i in range(len(pairs))] == pairs
    assert tokens.target_tokens == sum(len(target) + 1 for _, target in pairs)
    assert tokens.source.lengths().tolist() == [len(source) for source, _ in pairs]
    assert tokens.target.lengths(1).tolist() == [len(target) + 1 for _, target in pairs]
    some = list(range(0, len(pairs), 2))
    assert tokens.target_tokens_of(some) == sum(len(pairs[i][1]) + 1 for i in some)
    width = 2 if vocabulary <= 65_536 else 4
    assert (folder / "source.tokens").stat().st_size == width * sum(len(source) for source, _ in pairs)


def test_rows_are_views_and_know_their_part(tmp_path: Path) -> None:
    write(tmp_path, [([i], [i, i]) for i in range(7)], [2, 0, 5])
    tokens = ParallelTokens.open(tmp_path)
    assert tokens.origin([0, 1, 2, 6]).tolist() == [0, 0, 2, 2]
    assert np.shares_memory(tokens.source[3], tokens.source.tokens)
    assert type(tokens.source[3]) is np.ndarray
    assert not tokens.source[3].flags.writeable
    for index in (7, -1):
        with pytest.raises(IndexError):
            tokens.source[index]


def test_lengths_are_narrow() -> None:
    sizes = [3, 0, 65_530]
    rows = TokenRows(np.zeros(sum(sizes), np.uint16), np.array([0, *accumulate(sizes)], dtype=np.int64))
    assert rows.lengths(5).dtype == np.uint16
    assert rows.lengths(6).dtype == np.uint32
    assert rows.lengths(6).tolist() == [9, 6, 65_536]


@settings(max_examples=40, deadline=None)
@given(pairs=ROWS, cut=st.integers(0, 12), surplus=st.integers(0, 12))
def test_what_lies_behind_a_place_is_written_again(
    tmp_path_factory: pytest.TempPathFactory, pairs, cut: int, surplus: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    rows = [source for source, _ in pairs]
    cut = min(cut, len(rows))
    first = SideWriter(folder, "source", token_dtype(100), 0, 0)
    lost = [[77]] * surplus  # written but not noted, as when a process is killed
    for part in (rows[:cut], lost):
        first.append(part, np.array([len(row) for row in part], dtype=np.int64))
    first.close()
    second = SideWriter(folder, "source", token_dtype(100), cut, sum(map(len, rows[:cut])))
    second.append(rows[cut:], np.array([len(row) for row in rows[cut:]], dtype=np.int64))
    second.close()
    assert np.fromfile(folder / "source.tokens", "<u2").tolist() == [index for row in rows for index in row]
    assert np.fromfile(folder / "source.offsets", "<i8").tolist() == [0, *accumulate(map(len, rows))]


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no tokenised corpus"):
        ParallelTokens.open(tmp_path)
    write(tmp_path, [([1, 2], [3])] * 5, [5])
    path = tmp_path / "source.tokens"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"source\.tokens: damaged: has 19 bytes, expected 20; delete the folder"):
        ParallelTokens.open(tmp_path, verify=False)
    path.write_bytes(whole[:-1] + b"\xff")
    with pytest.raises(DataError, match=r"source\.tokens: damaged: its checksum"):
        ParallelTokens.open(tmp_path)
    assert len(ParallelTokens.open(tmp_path, verify=False)) == 5
    path.unlink()
    with pytest.raises(DataError, match=r"source\.tokens: damaged: is missing"):
        ParallelTokens.open(tmp_path)
    with pytest.raises(DataError, match=r"source\.tokens: damaged: has 0 bytes, expected at least 20"):
        SideWriter(tmp_path, "source", token_dtype(9), 5, 10)
    for content in ("{", "[]", '{"format": "regard tokens", "version": 99}'):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(DataError, match=r"manifest\.json: damaged"):
            ParallelTokens.open(tmp_path)
