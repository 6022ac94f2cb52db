"""Word alignments from attention, and which layer and head aligns best."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor

from regard.errors import ArgumentError
from regard.insight.alignment import Alignment, AlignmentScore, Link, links, score_links
from regard.insight.reading import Reading, check_alike, numbers
from regard.insight.tokens import Tokens, Word

Place = tuple[str, int | None]
"""A layer and one of its heads; None is the mean of its heads."""


@dataclass(frozen=True)
class HeadScore:
    """How well one head aligns words.

    Attributes:
        layer: name of the attention.
        head: its number in the model, or None: the mean of its heads.
        score: against the gold links of all pairs.
    """

    layer: str
    head: int | None
    score: AlignmentScore


@dataclass(frozen=True)
class HeadRanking:
    """Heads, best first: by alignment error rate, equal ones in the order of the model.

    Attributes:
        heads: every head of every layer, and the means of layers.
        layers: names of the attentions, in the order of the model.
        pairs: how many sentence pairs they were judged on.
        predicting: whether a word's row was the one that predicts it.
    """

    heads: tuple[HeadScore, ...]
    layers: tuple[str, ...]
    pairs: int
    predicting: bool

    @property
    def best(self) -> HeadScore:
        """The one with the lowest alignment error rate."""
        return self.heads[0]

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dump`."""
        return {
            "pairs": self.pairs,
            "predicting": self.predicting,
            "heads": [{"layer": one.layer, "head": one.head, **vars(one.score)} for one in self.heads],
        }


def word_alignments(readings: Sequence[Reading], *, predicting: bool = False) -> dict[Place, Alignment]:
    """Alignments of the words of a pair by every head, and by the mean of each layer's heads.

    Tokens are pooled to words as `pool_to_words` does: summed over a column word's tokens, averaged over a row word's.

    Args:
        readings: attentions between the same two sequences, their words known: rows are target words, columns source
            words.
        predicting: look at the rows that predict a word's tokens instead of those that read them. A decoder's row
            reads one token and predicts the next, so that is one row up; nothing predicts the first token.

    Raises:
        ArgumentError: no readings, readings of different sequences, or words that aren't known.
    """
    first = check_alike(readings)
    down, up = _words(first, first.queries, "rows"), _words(first, first.keys, "columns")
    shift = 1 if predicting else 0
    found: dict[Place, Alignment] = {}
    for one in readings:
        scoring = one.table.scoring
        device, dtype = scoring.extent.device, scoring.dtype
        columns = _indicator(up, scoring.extent.keys, 0).to(device, dtype)  # (K, source words)
        rows = _indicator(down, scoring.extent.queries, shift)
        rows = rows / torch.tensor([max(1, len(word.tokens)) for word in down])
        rows = rows.to(device, dtype)  # (Q, target words)
        pooled = rows.T @ one.table.apply(columns)[0]  # (H, target words, source words)
        for place, head in enumerate((*one.head_numbers, None)):
            weights = pooled.mean(0) if head is None else pooled[place]
            found[one.name, head] = Alignment(
                tuple(word.text for word in up), tuple(word.text for word in down), numbers(weights)
            )
    return found


def rank_heads(
    pairs: Iterable[Sequence[Reading]],
    sure: Sequence[Collection[Link]],
    possible: Sequence[Collection[Link]] | None = None,
    *,
    rule: Literal["argmax", "threshold"] = "argmax",
    threshold: float = 0.0,
    predicting: bool = False,
) -> HeadRanking:
    """Judge every layer and head against gold word alignments; counts are summed over all pairs.

    Args:
        pairs: for each sentence pair its readings, all of the same attentions; taken one by one, so they may be made
            as they are asked for.
        sure: gold links (column word, row word) of each pair, that is (source, target).
        possible: links that aren't wrong either; None: only the sure ones are right.
        rule, threshold: how weights become links, see `links`.
        predicting: see `word_alignments`.

    Raises:
        ArgumentError: no pairs, not as many as gold, gold links outside a pair, pairs of different attentions, or as
            for `word_alignments`.
    """
    predicted: dict[Place, list[set[Link]]] = {}
    count = 0
    for count, readings in enumerate(pairs, 1):
        alignments = word_alignments(readings, predicting=predicting)
        if count > len(sure):
            raise ArgumentError(f"sure has gold links of {len(sure)} pairs, and there are more pairs than that")
        one = next(iter(alignments.values()))
        given = chain(sure[count - 1], () if possible is None else possible[count - 1])
        _check_links(count - 1, given, len(one.source_words), len(one.target_words))
        if count > 1 and alignments.keys() != predicted.keys():
            raise ArgumentError(f"pairs[{count - 1}] has other attentions or heads than pairs[0]")
        for place, alignment in alignments.items():
            predicted.setdefault(place, []).append(links(alignment, rule, threshold))
    if not count or count != len(sure):
        raise ArgumentError(f"pairs has {count} sentence pairs, sure has gold links of {len(sure)}: expected as many")
    scores = [HeadScore(*place, score_links(found, sure, possible)) for place, found in predicted.items()]
    layers = tuple(dict.fromkeys(layer for layer, _ in predicted))
    return HeadRanking(tuple(sorted(scores, key=lambda one: one.score.error_rate)), layers, count, predicting)


def _words(one: Reading, tokens: Tokens | None, side: str) -> tuple[Word, ...]:
    if tokens is None or not tokens.words:
        raise ArgumentError(f"the words at the {side} of {one.name!r} aren't known: there is nothing to align")
    return tokens.words


def _indicator(words: Sequence[Word], length: int, shift: int) -> Tensor:
    """(length, words): 1 at the tokens of each word, moved up by `shift`."""
    marks = torch.zeros(length, len(words))
    for number, word in enumerate(words):
        marks[[at - shift for at in word.tokens if at >= shift], number] = 1.0
    return marks


def _check_links(number: int, given: Iterator[Link], columns: int, rows: int) -> None:
    for i, j in given:
        if not (0 <= i < columns and 0 <= j < rows):
            raise ArgumentError(
                f"gold of pairs[{number}] has link {i}-{j}, outside {columns} source and {rows} target words"
            )
