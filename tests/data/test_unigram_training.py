from collections.abc import Iterator
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import unigram_training
from regard.data.unigram_training import _Lattices, learn_unigram

WORDS = st.lists(st.text("abc", min_size=1, max_size=7), min_size=1, max_size=5, unique=True)
PIECES = st.lists(st.text("abc", min_size=2, max_size=4), max_size=9, unique=True).map(
    lambda some: ["a", "b", "c", *some]
)
SCORES = st.lists(st.floats(-9, -0.1), min_size=12, max_size=12)


def ways(word: str, pieces: list[str]) -> Iterator[list[str]]:
    if not word:
        yield []
    for piece in pieces:
        if word.startswith(piece):
            for others in ways(word[len(piece) :], pieces):
                yield [piece, *others]


@settings(max_examples=150, deadline=None)
@given(WORDS, PIECES, SCORES, st.lists(st.integers(1, 99), min_size=5, max_size=5))
def test_expectations_and_best_ways_are_those_of_all_ways(
    words: list[str], pieces: list[str], numbers: list[float], counts: list[int]
) -> None:
    scores, weights = np.array(numbers[: len(pieces)]), np.array(counts[: len(words)], float)
    value = dict(zip(pieces, numbers, strict=False))
    lattices = _Lattices.of(words, pieces, 4)
    expected = dict.fromkeys(pieces, 0.0)
    for word, weight in zip(words, weights, strict=True):
        all_ways = [(way, exp(sum(value[piece] for piece in way))) for way in ways(word, pieces)]
        total = sum(share for _, share in all_ways)
        for way, share in all_ways:
            for piece in way:
                expected[piece] += weight * share / total
    assert np.allclose(lattices.expected(scores, weights), list(expected.values()), rtol=1e-9)
    found: dict[int, list[str]] = {index: [] for index in range(len(words))}
    for which, chosen in lattices.best(scores, np.arange(len(words))):
        for index, piece in zip(which, chosen, strict=True):
            found[int(index)].insert(0, pieces[piece])
    for word, way in zip(words, found.values(), strict=True):
        assert "".join(way) == word
        assert sum(value[p] for p in way) == pytest.approx(max(sum(value[p] for p in w) for w in ways(word, pieces)))


@settings(max_examples=50, deadline=None)
@given(WORDS, PIECES, SCORES, st.lists(st.booleans(), min_size=12, max_size=12))
def test_dropping_pieces_is_building_without_them(
    words: list[str], pieces: list[str], numbers: list[float], chosen: list[bool]
) -> None:
    keep = np.array([True] * 3 + chosen[3 : len(pieces)])
    scores, weights = np.array(numbers[: len(pieces)])[keep], np.ones(len(words))
    kept = [piece for piece, stays in zip(pieces, keep, strict=True) if stays]
    fewer = _Lattices.of(words, pieces, 4).only(keep)
    assert np.allclose(fewer.expected(scores, weights), _Lattices.of(words, kept, 4).expected(scores, weights))


def test_frequent_words_become_pieces_and_scores_are_log_probabilities() -> None:
    # The library's trainer never learns a word that is no part of another one.
    counts = {"▁while": 900, "▁the": 5000, "▁dog": 300, "▁dogs": 200, "▁xyz": 1, "▁zyx": 1}
    alphabet = sorted(set("".join(counts)))
    found = dict(learn_unigram(counts, alphabet, len(alphabet) + 5, 16, 2))
    assert len(found) <= len(alphabet) + 5
    assert set(alphabet) <= set(found)
    assert {"▁while", "▁the", "▁dog"} <= set(found)
    assert sum(exp(score) for score in found.values()) == pytest.approx(1, abs=0.01)
    assert found["▁the"] == pytest.approx(log(5000 / 6600), abs=0.03)
    assert "▁xyz" not in found


def test_memory_is_bounded_by_leaving_out_rare_words(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"aaaa": 9, "abab": 8, "bbbb": 7, "baba": 6}
    everything = learn_unigram(counts, ["a", "b"], 9, 4, 2)
    monkeypatch.setattr(unigram_training, "MOST_CHARACTERS", 8)
    assert learn_unigram(counts, ["a", "b"], 9, 4, 2) != everything
    assert learn_unigram(counts, ["a", "b"], 9, 4, 2) == learn_unigram({"aaaa": 9, "abab": 8}, ["a", "b"], 9, 4, 2)
    assert learn_unigram({}, ["a", "b"], 9, 4, 2) == [("a", 0.0), ("b", 0.0)]
