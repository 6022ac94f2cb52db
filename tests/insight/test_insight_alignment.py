import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.errors import ArgumentError, DataError
from regard.insight.alignment import (
    Alignment,
    alignment_error_rate,
    links,
    parse_gold,
    parse_pharaoh,
    pool_to_words,
    score_links,
    to_pharaoh,
)

index = st.integers(0, 10**9 - 1)
link_sets = st.sets(st.tuples(index, index), max_size=11)


def alignment(rows: list[list[float]]) -> Alignment:
    weights = np.array(rows, dtype=np.float32)
    return Alignment(tuple(f"s{i}" for i in range(weights.shape[1])), tuple(f"t{j}" for j in range(len(rows))), weights)


def test_pooling_sums_source_tokens_and_averages_target_tokens() -> None:
    # source tokens: [bos] half past-1 past-2 [eos]; target tokens: a-1 a-2 b
    weights = [[0.1, 0.2, 0.3, 0.1, 0.3], [0.0, 0.4, 0.1, 0.1, 0.4], [0.5, 0.0, 0.0, 0.25, 0.25]]
    pooled = pool_to_words(weights, [[1], [2, 3]], [[0, 1], [2]])
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, [[0.3, 0.3], [0.0, 0.25]], atol=1e-7)


def test_pooling_gives_zeros_to_words_without_tokens() -> None:
    pooled = pool_to_words(np.full((2, 3), 0.25), [[0], [], [1, 2]], [[], [0, 1]])
    np.testing.assert_allclose(pooled, [[0, 0, 0], [0.25, 0, 0.5]])


@given(st.data())
def test_pooling_all_tokens_keeps_the_mass(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    raw = np.random.default_rng(data.draw(st.integers(0, 99))).random((rows, columns)) + 1e-3
    weights = raw / raw.sum(axis=1, keepdims=True)
    cut = data.draw(st.integers(0, columns))
    pooled = pool_to_words(weights, [list(range(cut)), list(range(cut, columns))], [list(range(rows))])
    np.testing.assert_allclose(pooled.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "target", "names"),
    [([[3]], [[0]], "source_groups"), ([[0]], [[-1]], "target_groups"), ([[0], [1, 0]], [[0]], "source_groups")],
)
def test_pooling_refuses_wrong_groups(source: list[list[int]], target: list[list[int]], names: str) -> None:
    with pytest.raises(ArgumentError, match=names):
        pool_to_words(np.zeros((2, 3)), source, target)


def test_argmax_links_each_target_word_once_ties_to_the_first() -> None:
    table = alignment([[0.1, 0.7, 0.2], [0.4, 0.2, 0.4], [0.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.0, 0.1, 0.05]])
    assert links(table) == {(1, 0), (0, 1), (2, 3), (1, 4)}
    assert links(table, threshold=0.4) == {(1, 0), (0, 1), (2, 3)}
    assert links(table, rule="threshold", threshold=0.4) == {(1, 0), (0, 1), (2, 1), (2, 3)}
    with pytest.raises(ArgumentError, match="rule"):
        links(table, rule="best")  # type: ignore[arg-type]


def test_no_words_no_links() -> None:
    assert links(Alignment((), ("a", "b"), np.zeros((2, 0)))) == set()


def test_error_rate_by_hand() -> None:
    # Two sentences. |A| = 3 + 1, |S| = 2 + 2, |A ∩ S| = 1 + 1, |A ∩ P| = 2 + 1.
    predicted = [{(0, 0), (1, 1), (2, 2)}, {(0, 1)}]
    sure = [{(0, 0), (3, 3)}, {(0, 1), (1, 0)}]
    possible = [{(1, 1), (5, 5)}, set[tuple[int, int]]()]
    assert alignment_error_rate(predicted, sure, possible) == pytest.approx(1 - (2 + 3) / (4 + 4))
    score = score_links(predicted, sure, possible)
    assert (score.precision, score.recall) == (pytest.approx(3 / 4), pytest.approx(2 / 4))
    assert (score.predicted, score.sure) == (4, 4)
    # without possible links: 1 - 2 · 2 / 8, which is 1 - F1
    assert alignment_error_rate(predicted, sure) == pytest.approx(0.5)


def test_error_rate_of_extremes() -> None:
    gold = [{(0, 1), (1, 0)}]
    assert alignment_error_rate(gold, gold) == 0
    assert alignment_error_rate([set()], gold) == 1
    assert alignment_error_rate([set()], [set()]) == 0
    with pytest.raises(ArgumentError, match="2 sentences"):
        alignment_error_rate([set(), set()], gold)


@given(link_sets)
def test_pharaoh_round_trip(chosen: set[tuple[int, int]]) -> None:
    line = to_pharaoh(chosen)
    assert parse_pharaoh(line) == chosen
    assert parse_pharaoh(f"  {line}\n") == chosen
    assert to_pharaoh(parse_pharaoh(line)) == line


def test_pharaoh_is_sorted_by_number() -> None:
    assert to_pharaoh({(10, 1), (2, 3), (2, 0)}) == "2-0 2-3 10-1"


@pytest.mark.parametrize("line", ["0-", "a-b", "0-1,1-2", "-1-2", "0--1", "1", "0-٣", "1" * 5000 + "-1"])
def test_rubbish_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(DataError, match=r"gold\.txt, line 7"):
        parse_pharaoh(line, "gold.txt, line 7")


def test_possible_links() -> None:
    assert parse_gold("0-1 2?3 4-4") == ({(0, 1), (4, 4)}, {(0, 1), (2, 3), (4, 4)})
    with pytest.raises(DataError, match=r"2\?3"):
        parse_pharaoh("0-1 2?3")


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 99))
def test_json_round_trip_is_exact(source: int, target: int, seed: int) -> None:
    weights = np.random.default_rng(seed).random((target, source), dtype=np.float32) / 7
    before = Alignment(tuple("世界" * source)[:source], tuple("a<'\"" * target)[:target], weights)
    after = Alignment.from_json(json.loads(json.dumps(before.to_json())))
    assert (after.source_words, after.target_words) == (before.source_words, before.target_words)
    np.testing.assert_array_equal(after.weights, before.weights)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"source_words": ["a"], "weights": []}, "target_words"),
        ({"source_words": "a", "target_words": ["b"], "weights": [[1]]}, "source_words"),
        ({"source_words": ["a"], "target_words": ["b"], "weights": [[0.5, 0.5]]}, "weights"),
        ({"source_words": ["a"], "target_words": ["b", "c"], "weights": [[1], [0.5, 0.5]]}, "weights"),
        ({"source_words": ["a"], "target_words": ["b"], "weights": [["x"]]}, "weights"),
        ({"source_words": ["a"], "target_words": ["b"], "weights": [[2.0]]}, "weights"),
    ],
)
def test_wrong_json_names_the_key(data: dict[str, object], names: str) -> None:
    with pytest.raises(DataError, match=names):
        Alignment.from_json(data)


@pytest.mark.parametrize("rows", [[[0.7, 0.7]], [[-0.1, 0.2]], [[float("nan"), 0.0]]])
def test_weights_are_checked(rows: list[list[float]]) -> None:
    with pytest.raises(ArgumentError, match="weights"):
        alignment(rows)


def test_weights_are_an_own_frozen_copy() -> None:
    weights = np.array([[0.5, 0.25]], dtype=np.float32)
    table = Alignment(("a", "b"), ("c",), weights)
    weights[0, 0] = 0
    assert table.weights[0, 0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        table.weights[0, 0] = 1
    with pytest.raises(ArgumentError, match=r"\(1, 2\), expected \(2, 1\)"):
        Alignment(("a",), ("b", "c"), weights)
