"""Log-probabilities of given translations, a chunk of pairs at a time."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from regard.errors import ArgumentError
from regard.runs.streaming import CHUNK, too_long
from regard.runs.translator import Translator


@dataclass(frozen=True)
class Score:
    """How probable the model finds a translation.

    Attributes:
        line: number of the pair, from 1.
        source, target: the pair.
        log_prob: natural logarithm of the probability of the target and `<eos>`; nan where there is a problem.
        tokens: of the target, `<eos>` last; none where both sides are empty or there is a problem.
        token_log_probs: the terms of the sum.
        problem: why the pair could not be scored, or None.
    """

    line: int
    source: str
    target: str
    log_prob: float
    tokens: tuple[str, ...]
    token_log_probs: tuple[float, ...]
    problem: str | None = None


def pair_problem(translator: Translator, source: str, target: str) -> str | None:
    """Why the model cannot read this pair, or None: a side with more tokens than it has positions."""
    return too_long("source", translator.source_length(source), translator.max_tokens) or too_long(
        "target", len(translator.tokenizers.target.encode(target)), translator.max_tokens
    )


def score_pairs(translator: Translator, sources: Sequence[str], targets: Sequence[str]) -> Iterator[list[Score]]:
    """Score pairs in order, a list at a time; a pair that is too long is given a problem and disturbs no other.

    Raises:
        ArgumentError: unequal numbers.
    """
    if len(sources) != len(targets):
        raise ArgumentError(f"{len(sources)} sources and {len(targets)} targets: expected one for each")
    for start in range(0, len(sources), CHUNK):
        pairs = list(zip(sources[start : start + CHUNK], targets[start : start + CHUNK], strict=True))
        problems = [pair_problem(translator, *pair) for pair in pairs]
        fit = [pair for pair, problem in zip(pairs, problems, strict=True) if problem is None]
        found = iter(translator.score([source for source, _ in fit], [target for _, target in fit]))
        yield [
            _score(translator, line, *pair, next(found))
            if problem is None
            else Score(line, *pair, math.nan, (), (), problem)
            for line, (pair, problem) in enumerate(zip(pairs, problems, strict=True), start=start + 1)
        ]


def _score(translator: Translator, line: int, source: str, target: str, values: list[float]) -> Score:
    ids = [*translator.encode("target", [target])[0], translator.specials.eos]
    tokens = tuple(translator.tokenizers.target.pieces(ids)) if values else ()
    return Score(line, source, target, math.fsum(values), tokens, tuple(values))
