"""Alignments between the words of two sentences: soft (weights), hard (links), and how good the hard ones are.

A link is `(i, j)`: source word i, target word j, both from 0, as in the Pharaoh format `i-j`.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from regard.errors import ArgumentError, DataError

Link = tuple[int, int]
Weights = npt.NDArray[np.float32]

MASS_TOLERANCE = 1e-2
"""How far above 1 a row may sum: half-precision attention rounds this much."""

_LINK = re.compile(r"([0-9]{1,9})([-?])([0-9]{1,9})")


@dataclass(frozen=True, eq=False)
class Alignment:
    """How much each target word looked at each source word.

    Attributes:
        source_words: the S source words, in order.
        target_words: the T target words, in order.
        weights: (T, S) float32, read-only; row j holds target word j's weights over the source words. A row sums to
            at most 1: less when part of the mass lay on tokens that belong to no word (end of sentence) or in a sink.

    Raises:
        ArgumentError: the shape does not fit the words, or weights are negative, not finite, or a row sums to over 1.
    """

    source_words: tuple[str, ...]
    target_words: tuple[str, ...]
    weights: Weights

    def __post_init__(self) -> None:
        weights = np.array(self.weights, dtype=np.float32)
        expected = (len(self.target_words), len(self.source_words))
        if weights.shape != expected:
            raise ArgumentError(
                f"weights has shape {weights.shape}, expected {expected}: {expected[0]} target words "
                f"by {expected[1]} source words"
            )
        _check_weights(weights)
        heaviest = float(weights.sum(axis=1).max(initial=0.0))
        if heaviest > 1 + MASS_TOLERANCE:
            raise ArgumentError(f"weights has a row that sums to {heaviest:.4f}, expected at most 1")
        weights.setflags(write=False)
        object.__setattr__(self, "source_words", tuple(self.source_words))
        object.__setattr__(self, "target_words", tuple(self.target_words))
        object.__setattr__(self, "weights", weights)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and strings for `json.dump`; the weights survive exactly (shortest decimal form)."""
        return {
            "source_words": list(self.source_words),
            "target_words": list(self.target_words),
            "weights": [[float(str(weight)) for weight in row] for row in self.weights],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Alignment":
        """Build an alignment from what `to_json` returned.

        Raises:
            DataError: a key is missing, or a value is of the wrong kind or shape.
        """
        missing = [key for key in ("source_words", "target_words", "weights") if key not in data]
        if missing:
            raise DataError(f"alignment lacks {', '.join(missing)}; it has {', '.join(sorted(data)) or 'no keys'}")
        source, target = (_words(data, key) for key in ("source_words", "target_words"))
        try:
            weights = np.array(data["weights"], dtype=np.float32)
            if weights.size == 0 and not (source and target):
                weights = weights.reshape(len(target), len(source))  # JSON cannot tell (0, S) from (0, 0)
            return cls(source, target, weights)
        except ArgumentError as error:
            raise DataError(f"alignment: {error}") from error
        except (TypeError, ValueError) as error:
            raise DataError(f"alignment: weights must be {len(target)} rows of {len(source)} numbers") from error


def pool_to_words(
    weights: npt.ArrayLike,
    source_groups: Sequence[Sequence[int]],
    target_groups: Sequence[Sequence[int]],
) -> Weights:
    """Turn weights between tokens into weights between words.

    A source word gets the sum over its tokens (attention to any part of it is attention to it), a target word the
    mean over its tokens, so rows keep a sum of at most 1. Tokens in no group (begin and end of sentence, separators)
    are dropped and their mass with them: nothing is renormalised, and a row's sum says how much fell on words. A word
    without tokens gets zeros.

    Args:
        weights: (target tokens, source tokens), not negative.
        source_groups: for each source word, the indices of its tokens (columns); no token in two words.
        target_groups: for each target word, the indices of its tokens (rows).

    Returns:
        (target words, source words) float32.

    Raises:
        ArgumentError: weights is not such a matrix, or an index is out of range or used twice.
    """
    table = np.asarray(weights, dtype=np.float32)
    if table.ndim != 2:
        raise ArgumentError(f"weights has shape {table.shape}, expected (target tokens, source tokens)")
    _check_weights(table)
    _check_groups("source_groups", source_groups, table.shape[1])
    _check_groups("target_groups", target_groups, table.shape[0])
    pooled = np.zeros((len(target_groups), len(source_groups)), dtype=np.float32)
    for column, tokens in enumerate(source_groups):
        mass = table[:, list(tokens)].sum(axis=1)  # (target tokens,)
        for row, group in enumerate(target_groups):
            if group:
                pooled[row, column] = mass[list(group)].mean()
    return pooled


def links(alignment: Alignment, rule: Literal["argmax", "threshold"] = "argmax", threshold: float = 0.0) -> set[Link]:
    """Turn weights into links `(source, target)`.

    "argmax" links each target word to its heaviest source word (the first of equals) if that weight is positive and
    at least `threshold`; "threshold" links every pair whose weight is positive and at least `threshold`.

    Raises:
        ArgumentError: an unknown rule.
    """
    if rule not in ("argmax", "threshold"):
        raise ArgumentError(f"rule is {rule!r}, expected 'argmax' or 'threshold'")
    weights = alignment.weights  # (T, S)
    if weights.size == 0:
        return set()
    chosen = (weights > 0) & (weights >= np.float32(threshold))
    if rule == "argmax":
        heaviest = np.zeros_like(chosen)
        heaviest[np.arange(len(weights)), weights.argmax(axis=1)] = True
        chosen &= heaviest
    return {(int(i), int(j)) for j, i in np.argwhere(chosen)}


def to_pharaoh(links: Collection[Link]) -> str:
    """Write links as `i-j i-j …` (source-target, from 0), sorted by source word, then target word."""
    return " ".join(f"{i}-{j}" for i, j in sorted(links))


def parse_pharaoh(line: str, where: str = "alignment") -> set[Link]:
    """Read a line of `i-j` links; an empty line has none.

    Args:
        line: the text.
        where: named in the error, for example "gold.txt, line 7".

    Raises:
        DataError: something else stands there; a possible link `i?j` too, which only `parse_gold` reads.
    """
    sure, possible = parse_gold(line, where)
    if possible != sure:
        i, j = min(possible - sure)
        raise DataError(f"{where}: {i}?{j} is a possible link; expected sure links i-j only")
    return sure


def parse_gold(line: str, where: str = "alignment") -> tuple[set[Link], set[Link]]:
    """Read a line of gold links: sure ones `i-j` and possible ones `i?j`.

    Returns:
        (sure, possible); the possible links include the sure ones, as in Och & Ney (2003).

    Raises:
        DataError: something else stands there.
    """
    sure: set[Link] = set()
    possible: set[Link] = set()
    for item in line.split():
        match = _LINK.fullmatch(item)
        if match is None:
            raise DataError(f"{where}: {item[:40]!r} is not a link; expected source-target such as 0-2, or 0?2")
        link = (int(match[1]), int(match[3]))
        possible.add(link)
        if match[2] == "-":
            sure.add(link)
    return sure, possible


@dataclass(frozen=True)
class AlignmentScore:
    """Predicted links A against sure links S and possible links P ⊇ S, counted over a corpus (Och & Ney 2003).

    Attributes:
        precision: |A ∩ P| / |A|; 1 when nothing was predicted.
        recall: |A ∩ S| / |S|; 1 when nothing is sure.
        error_rate: 1 − (|A ∩ S| + |A ∩ P|) / (|A| + |S|); 0 when both are empty.
        predicted: |A|.
        sure: |S|.
    """

    precision: float
    recall: float
    error_rate: float
    predicted: int
    sure: int


def score_links(
    predicted: Sequence[Collection[Link]],
    sure: Sequence[Collection[Link]],
    possible: Sequence[Collection[Link]] | None = None,
) -> AlignmentScore:
    """Judge predicted links, one collection a sentence, against gold ones; counts are summed before dividing.

    Without `possible` the sure links are the only right ones (then the error rate is 1 − F1).

    Raises:
        ArgumentError: the numbers of sentences differ.
    """
    gold = sure if possible is None else possible
    if not len(predicted) == len(sure) == len(gold):
        raise ArgumentError(
            f"predicted has {len(predicted)} sentences, sure {len(sure)}, possible {len(gold)}; expected as many"
        )
    found = good = proposed = wanted = 0
    for a, s, p in zip((set(x) for x in predicted), (set(x) for x in sure), gold, strict=True):
        found += len(a & s)
        good += len(a & (s | set(p)))
        proposed += len(a)
        wanted += len(s)
    total = proposed + wanted
    return AlignmentScore(
        precision=good / proposed if proposed else 1.0,
        recall=found / wanted if wanted else 1.0,
        error_rate=1 - (found + good) / total if total else 0.0,
        predicted=proposed,
        sure=wanted,
    )


def alignment_error_rate(
    predicted: Sequence[Collection[Link]],
    sure: Sequence[Collection[Link]],
    possible: Sequence[Collection[Link]] | None = None,
) -> float:
    """Return the alignment error rate over a corpus, from 0 (best) to 1; see `AlignmentScore` and `score_links`."""
    return score_links(predicted, sure, possible).error_rate


def _check_weights(weights: Weights) -> None:
    if not np.isfinite(weights).all():
        raise ArgumentError("weights has values that are not finite, expected weights from 0 to 1")
    if weights.min(initial=0.0) < 0:
        raise ArgumentError(f"weights has a value of {weights.min():.4f}, expected none below 0")


def _check_groups(name: str, groups: Sequence[Sequence[int]], count: int) -> None:
    seen: set[int] = set()
    for word, group in enumerate(groups):
        for token in group:
            if not 0 <= token < count:
                raise ArgumentError(f"{name}[{word}] holds token {token}, expected 0 to {count - 1}")
            if token in seen:
                raise ArgumentError(f"{name}[{word}] holds token {token}, which is in {name} already")
            seen.add(token)


def _words(data: dict[str, Any], key: str) -> tuple[str, ...]:
    words = data[key]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DataError(f"alignment: {key} must be a list of strings")
    return tuple(words)
