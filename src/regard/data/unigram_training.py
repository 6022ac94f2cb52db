"""Learning a unigram model of subwords (Kudo 2018, "Subword Regularization", section 3.2), as SentencePiece does.

The trainer of the `tokenizers` library looks for candidates among the *different* words, so that a word like `while`,
which is no part of another, is never one, and texts come out longer. It also adds numbers in the order of a hash map,
so that two processes learn two models. Here words are counted, and everything is arrays in a fixed order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MOST_CHARACTERS: Final = 2_000_000
"""The most characters in the different words that are learned from, the most frequent words first: bounds memory."""
MOST_SEEDS: Final = 400_000
"""The most candidates at the start."""

_SHRINK = 0.75  # what remains of the pieces after each pruning
_ROUNDS = 2  # of expectation and maximisation between two prunings
_LEAST_EXPECTED = 0.5  # a piece that is expected less often is dropped
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # of a polynomial hash


def learn_unigram(
    counts: Mapping[str, int], alphabet: Sequence[str], size: int, longest: int, least: int
) -> list[tuple[str, float]]:
    """Return pieces and the logarithms of their probabilities.

    Candidates are all substrings of words. In turn, their probabilities are fitted by expectation and maximisation
    over all ways to cut the words, and those are dropped whose loss would cost the least likelihood.

    Args:
        counts: the words and how often they are seen.
        alphabet: the characters of all words; they are pieces whatever their probability.
        size: the most pieces, the alphabet included.
        longest: characters of the longest piece.
        least: a piece of several characters is not learned if it is seen less often than this.
    """
    words = _most_frequent(counts)
    if not words:
        return [(character, 0.0) for character in alphabet]
    weights = np.array([counts[word] for word in words], np.float64)
    pieces, scores = _candidates(words, weights, alphabet, longest, least)
    text = _Lattices.of(words, pieces, longest)
    # Each piece is a word too, of which the best way to cut it says what stands in its place when it is dropped.
    pieces_cut = _Lattices.of(pieces, pieces, longest).without_whole_words()
    fixed = len(alphabet)  # these are the first pieces
    alive = np.arange(len(pieces))
    desired = max(size * 11 // 10, fixed)
    while True:
        for _ in range(_ROUNDS):
            expected = text.expected(scores, weights)
            expected[:fixed] = np.maximum(expected[:fixed], _LEAST_EXPECTED)
            keep = expected >= _LEAST_EXPECTED
            scores = _maximised(expected[keep])
            alive, text, pieces_cut = alive[keep], text.only(keep), pieces_cut.only(keep)
        if len(alive) <= desired:
            break
        losses = _losses(scores, text, weights, pieces_cut, alive, fixed)
        keep = np.zeros(len(alive), bool)
        keep[np.argsort(-losses, kind="stable")[: max(desired, int(len(alive) * _SHRINK))]] = True
        keep &= losses > -np.inf
        scores, alive, text, pieces_cut = scores[keep], alive[keep], text.only(keep), pieces_cut.only(keep)
    found = [(pieces[index], float(score)) for index, score in zip(alive, scores, strict=True)]
    others = sorted(found[fixed:], key=lambda pair: (-pair[1], pair[0]))
    return found[:fixed] + others[: size - fixed]


def _most_frequent(counts: Mapping[str, int]) -> list[str]:
    """The words to learn from."""
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    ends = np.cumsum([len(word) for word in ranked])
    return ranked[: int(np.searchsorted(ends, MOST_CHARACTERS, side="right"))]


def _maximised(expected: Floats) -> Floats:
    """The scores after a step of variational Bayes (as SentencePiece), which makes rare pieces rarer."""
    counts = torch.from_numpy(np.append(expected, expected.sum()))
    logarithms: Floats = torch.special.digamma(counts).numpy()
    scores: Floats = logarithms[:-1] - logarithms[-1]
    return scores


def _losses(
    scores: Floats, text: "_Lattices", weights: Floats, pieces_cut: "_Lattices", alive: Ints, fixed: int
) -> Floats:
    """How much likelihood the text loses without each piece; infinite for the first ones, −infinite for unused ones."""
    count = len(scores)
    frequency = np.zeros(count)
    for words, pieces in text.best(scores, np.arange(len(weights))):
        frequency += np.bincount(pieces, weights[words], minlength=count)
    total = frequency.sum()
    place = np.zeros(int(alive[-1]) + 1, np.int64)
    place[alive] = np.arange(count)
    others, log_others = np.zeros(count), np.zeros(count)
    with np.errstate(divide="ignore", invalid="ignore"):  # the logarithm of 0, for a piece that isn't used
        for words, pieces in pieces_cut.best(scores, alive[fixed:]):
            piece = place[words]
            others[piece] += 1
            log_others[piece] += np.log(frequency[pieces] + frequency[piece])
        log_others -= others * np.log(total + frequency * (others - 1))
        losses: Floats = frequency * (np.log(frequency) - np.log(total) - log_others)
    losses[frequency == 0] = -np.inf
    losses[:fixed] = np.inf
    return losses


def _windows(words: Sequence[str], longest: int) -> Iterator[tuple[int, Ints, npt.NDArray[np.uint64]]]:
    """For each length: where the substrings of words begin in the joined words, and a hash of each."""
    codes = np.frombuffer("".join(words).encode("utf-32-le"), np.uint32).astype(np.uint64) + np.uint64(1)
    sizes = np.array([len(word) for word in words])
    left = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(codes))
    hashes = codes
    for length in range(1, longest + 1):
        begins = np.flatnonzero(left >= length)
        yield length, begins, hashes[begins]
        hashes = hashes[:-1] * _FACTOR + codes[length:]


def _candidates(
    words: Sequence[str], weights: Floats, alphabet: Sequence[str], longest: int, least: int
) -> tuple[list[str], Floats]:
    """The pieces at the start, characters first, and their scores."""
    joined = "".join(words)
    sizes = [len(word) for word in words]
    seen = np.repeat(weights, sizes)
    singles = dict.fromkeys(alphabet, 1.0)
    found: list[tuple[Floats, Ints, int]] = []  # frequency times length, a place where it stands, length
    shorter: Floats = np.zeros(0)
    for length, begins, hashes in _windows(words, longest):
        if not len(begins):
            break
        _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        frequency = np.bincount(which, seen[begins])
        if length == 1:
            singles |= {joined[begins[at]]: float(times) for at, times in zip(first, frequency, strict=True)}
        else:
            # A piece that always goes on in the same way is none: the longer one says it all.
            whole: Floats = np.zeros(len(joined))
            whole[begins] = frequency[which]
            if found:
                gain, places, _ = found[-1]
                going_on = whole[places] == shorter
                found[-1] = (gain[~going_on], places[~going_on], length - 1)
            chosen = frequency >= least
            places = begins[first[chosen]]
            shorter = frequency[chosen].astype(np.float64)
            found.append((shorter * length, places, length))
    gains = np.concatenate([np.zeros(0), *(gain for gain, _, _ in found)])
    begins = np.concatenate([np.zeros(0, np.int64), *(places for _, places, _ in found)])
    lengths = np.repeat([length for _, _, length in found], [len(places) for _, places, _ in found])
    best = np.argsort(-gains, kind="stable")[:MOST_SEEDS]
    names = [joined[begins[index] : begins[index] + lengths[index]] for index in best]
    weight = np.array([*singles.values(), *gains[best]])
    return [*singles, *names], np.log(weight / weight.sum())


@dataclass(frozen=True)
class _Lattices:
    """All ways to cut some words into pieces: a node for each place in a word, an edge for each piece that fits.

    Edges lie in groups in which all have the same place in their word and the same length, so that no two begin or end
    in the same node, and a group comes after those whose edges lead to it.
    """

    first: Ints  # (words,) the node at the start of each word
    last: Ints  # (words,)
    word: npt.NDArray[np.int32]  # (nodes,)
    start: npt.NDArray[np.int32]  # (edges,) a node
    end: npt.NDArray[np.int32]  # (edges,)
    piece: npt.NDArray[np.int32]  # (edges,)
    bounds: Ints  # (groups + 1,)

    @classmethod
    def of(cls, words: Sequence[str], pieces: Sequence[str], longest: int) -> "_Lattices":
        """Build them."""
        sizes = np.array([len(word) for word in words])
        last = np.cumsum(sizes + 1) - 1
        first = last - sizes
        word = np.repeat(np.arange(len(words), dtype=np.int32), sizes + 1)
        node = np.delete(np.arange(len(word), dtype=np.int32), last)  # of each character
        known = {length: (hashes, ids) for length, hashes, ids in _hashed(pieces, longest)}
        parts = []
        for length, begins, hashes in _windows(words, longest):
            table, ids = known[length]
            if len(table) and len(begins):
                at = np.minimum(np.searchsorted(table, hashes), len(table) - 1)
                fits = table[at] == hashes
                parts.append((node[begins[fits]], ids[at[fits]].astype(np.int32), length))
        start = np.concatenate([nodes for nodes, _, _ in parts])
        piece = np.concatenate([ids for _, ids, _ in parts])
        reach = np.concatenate([np.full(len(nodes), size, np.int32) for nodes, _, size in parts])
        group = (start - first[word[start]]) * (longest + 1) + reach
        order = np.argsort(group, kind="stable")
        group = group[order]
        bounds = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
        return cls(first, last, word, start[order], (start + reach)[order], piece[order], bounds)

    def only(self, keep: npt.NDArray[np.bool_]) -> "_Lattices":
        """The lattices with some of the pieces, whose numbers move up."""
        return self._chosen(keep[self.piece], np.cumsum(keep, dtype=np.int32) - 1)

    def without_whole_words(self) -> "_Lattices":
        """The lattices without the edges that are a word of more than one character."""
        word = self.word[self.start]
        whole = (self.start == self.first[word]) & (self.end == self.last[word]) & (self.end - self.start > 1)
        return self._chosen(~whole, None)

    def _chosen(self, edges: npt.NDArray[np.bool_], numbers: npt.NDArray[np.int32] | None) -> "_Lattices":
        piece = self.piece[edges]
        bounds = np.concatenate([[0], np.cumsum(edges)])[self.bounds]
        return replace(
            self,
            start=self.start[edges],
            end=self.end[edges],
            piece=piece if numbers is None else numbers[piece],
            bounds=bounds,
        )

    def _groups(self) -> list[slice]:
        return [slice(a, b) for a, b in zip(self.bounds[:-1], self.bounds[1:], strict=True) if a < b]

    def expected(self, scores: Floats, weights: Floats) -> Floats:
        """How often each piece is expected, over all ways to cut the words (forward and backward algorithm)."""
        forward = np.full(len(self.word), -np.inf)
        backward = forward.copy()
        forward[self.first] = 0
        backward[self.last] = 0
        groups = self._groups()
        for group in groups:
            start, end = self.start[group], self.end[group]
            forward[end] = np.logaddexp(forward[end], forward[start] + scores[self.piece[group]])
        total = forward[self.last]
        expected = np.zeros(len(scores))
        for group in reversed(groups):
            start, end, piece = self.start[group], self.end[group], self.piece[group]
            onward = backward[end] + scores[piece]
            backward[start] = np.logaddexp(backward[start], onward)
            word = self.word[start]
            expected += np.bincount(piece, np.exp(forward[start] + onward - total[word]) * weights[word], len(scores))
        return expected

    def best(self, scores: Floats, words: Ints) -> Iterator[tuple[Ints, Ints]]:
        """The pieces of the best way to cut each word, from its end: words, each at most once, with a piece of each."""
        value = np.full(len(self.word), -np.inf)
        value[self.first] = 0
        edge = np.zeros(len(self.word), np.int64)
        for group in self._groups():
            end = self.end[group]
            found = value[self.start[group]] + scores[self.piece[group]]
            better = np.flatnonzero(found > value[end])
            value[end[better]] = found[better]
            edge[end[better]] = better + group.start
        node = self.last[words]
        while len(words):
            edges = edge[node]
            yield words, self.piece[edges].astype(np.int64)
            node = self.start[edges].astype(np.int64)
            going_on = node != self.first[words]
            words, node = words[going_on], node[going_on]


def _hashed(pieces: Sequence[str], longest: int) -> Iterator[tuple[int, npt.NDArray[np.uint64], Ints]]:
    """For each length: the hashes of the pieces of that length, rising, and their numbers."""
    sizes = np.array([len(piece) for piece in pieces])
    firsts = np.cumsum(sizes) - sizes
    for length, begins, hashes in _windows(pieces, longest):
        numbers = np.flatnonzero(sizes == length)
        own = hashes[np.searchsorted(begins, firsts[numbers])]
        order = np.argsort(own)
        yield length, own[order], numbers[order]
