from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import open_reader
from regard.data.reservoir import Reservoir
from regard.data.survey import HoldOut, Survey, survey
from regard.errors import DataError


def put(folder: Path, name: str, rows: list[tuple[str, str]]) -> None:
    (folder / name).write_text("".join(f"{a}\t{b}\n" for a, b in rows), "utf-8")


def quiet(what: str, done: int, total: int | None) -> None:
    assert what == "reading" and total is None


def found(folder: Path, *parts: list[tuple[str, str]], sample: int = 10**6, hold_out: HoldOut | None = None) -> Survey:
    for number, rows in enumerate(parts):
        put(folder, f"part{number}", rows)
    readers = [open_reader(folder, pairs=f"part{number}") for number in range(len(parts))]
    return survey(readers, sample=sample, hold_out=hold_out, seed=1, progress=quiet)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=9), st.integers(0, 12), st.integers(0, 3))
def test_a_reservoir_does_not_depend_on_how_items_come(sizes: list[int], size: int, seed: int) -> None:
    items = list(range(sum(sizes)))
    whole, divided = Reservoir[int](size, seed), Reservoir[int](size, seed)
    whole.extend(items)
    for number, count in enumerate(sizes):
        divided.extend(items[sum(sizes[:number]) :][:count])
    assert divided.items == whole.items
    assert len(set(whole.items)) == len(whole.items) == min(size, len(items))
    if len(items) <= size:
        assert whole.items == items


def test_a_reservoir_draws_all_items_equally_often() -> None:
    drawn: Counter[int] = Counter()
    for seed in range(4000):
        reservoir = Reservoir[int](3, seed)
        reservoir.extend(range(12))
        drawn.update(reservoir.items)
    # 4000 draws of 3 in 12: 1000 each, give or take five standard deviations of 27
    assert all(abs(drawn[item] - 1000) < 137 for item in range(12))
    large = Reservoir[int](50, 1)
    large.extend(range(10**6))
    assert 3.5e5 < sum(large.items) / 50 < 6.5e5


def test_counts_and_sample(tmp_path: Path) -> None:
    first = [("a", "b"), ("", "c"), ("d", ""), ("", ""), ("e", "f")]
    result = found(tmp_path, first, [(f"s{i}", f"t{i}") for i in range(3)])
    assert [(part.rows, part.empty) for part in result.parts] == [(5, 3), (3, 0)]
    assert [part.name for part in result.parts] == [str(tmp_path / "part0"), str(tmp_path / "part1")]
    assert result.sample == [("a", "b"), ("e", "f"), ("s0", "t0"), ("s1", "t1"), ("s2", "t2")]
    assert result.held_out == []
    assert found(tmp_path, first, sample=0).sample == []
    assert len(set(found(tmp_path, [(f"s{i}", f"t{i}") for i in range(99)], sample=7).sample)) == 7


def test_equal_pairs_are_held_out_together(tmp_path: Path) -> None:
    rows = [(f"s{i % 100}", f"t{i % 100}") for i in range(1000)]
    result = found(tmp_path, rows, hold_out=HoldOut(0.1, 50, seed=3))
    assert len(set(result.held_out)) == len(result.held_out) == 10  # of 100 distinct pairs
    assert not set(result.sample) & set(result.held_out)
    assert len(result.sample) == 900
    assert found(tmp_path, rows[::-1], hold_out=HoldOut(0.1, 50, seed=3)).held_out == result.held_out
    assert found(tmp_path, rows[:500], rows[500:], hold_out=HoldOut(0.1, 50, seed=3)).held_out == result.held_out
    assert found(tmp_path, rows, hold_out=HoldOut(0.1, 50, seed=4)).held_out != result.held_out
    assert len(found(tmp_path, rows, hold_out=HoldOut(0.5, 7, seed=3)).held_out) == 7
    assert len(found(tmp_path, rows[:10], hold_out=HoldOut(0.001, 7, seed=3)).held_out) == 1


def test_held_out_fraction_of_many_pairs(tmp_path: Path) -> None:
    rows = [(f"s{i}", f"t{i}") for i in range(9000)]
    held = found(tmp_path, rows, hold_out=HoldOut(0.02, 2000, seed=3)).held_out
    assert 130 < len(held) < 240  # 180 expected, standard deviation 13
    assert set(held) < set(rows)
    assert len(found(tmp_path, rows, hold_out=HoldOut(0.02, 40, seed=3)).held_out) == 40
    assert found(tmp_path, rows[::-1], hold_out=HoldOut(0.02, 2000, seed=3)).held_out == held


def test_what_cannot_be_right_is_refused(tmp_path: Path) -> None:
    good = [(f"s{i}", f"t{i}") for i in range(20)]
    with pytest.raises(DataError, match="9 distinct training pairs are too few to hold out"):
        found(tmp_path, good[:9] * 3, hold_out=HoldOut(0.1, 50, seed=3))
    with pytest.raises(DataError, match=r"part1: 11 of 20 pairs have the same text on both sides"):
        found(tmp_path, good, [("x", "x")] * 11 + good[:9] + [("", "")] * 50)
    assert found(tmp_path, [("x", "x")] * 10 + good[:10])
    with pytest.raises(DataError, match=r"part1: no pair has text on both sides \(3 read\)"):
        found(tmp_path, good, [("x", "")] * 3)
    with pytest.raises(DataError, match=r"part0: no pair has text on both sides \(0 read\)"):
        found(tmp_path, [])
    (tmp_path / "bad").write_bytes(b"a\tb\n\xff\tc\nno tab\n")
    with pytest.raises(DataError, match=r"bad, line 2: not valid UTF-8.*\(2 rows of .*bad cannot be used\)"):
        survey([open_reader(tmp_path, pairs="bad")], sample=9, hold_out=None, seed=1, progress=quiet)
