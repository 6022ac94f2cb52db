"""The first reading of a part: how many rows there are, and a random sample of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from regard.data.pairs import PairReader
from regard.data.reservoir import Reservoir
from regard.errors import DataError

SIZE: Final = 20_000
"""Pairs in a sample."""
LONGEST: Final = 5_000
"""Characters of a side that a sample keeps, which bounds its memory."""


@dataclass(frozen=True)
class Sample:
    """A first reading of a part.

    Attributes:
        rows: how many rows the part has.
        pairs: some of those with text on both sides and without a problem, all equally likely.
        problem: why reading ended early, or None.
    """

    rows: int
    pairs: list[tuple[str, str]]
    problem: str | None


def draw(reader: PairReader, seed: int, progress: Callable[[int], None]) -> Sample:
    """Read a part and keep at most `SIZE` pairs.

    Args:
        reader: the part.
        seed: of the draw; the same part and seed give the same sample.
        progress: is told the number of rows read so far.

    Raises:
        DataError: nothing could be read at all.
    """
    reservoir = Reservoir[tuple[str, str]](SIZE, seed)
    rows, problem = 0, None
    try:
        for block in reader.blocks():
            sides = zip(block.sources, block.targets, strict=True)
            pairs = [pair for index, pair in enumerate(sides) if pair[0] and pair[1] and index not in block.problems]
            reservoir.extend(pairs)
            rows += len(block)
            progress(rows)
    except DataError as error:
        if rows == 0:
            raise
        problem = str(error)
    return Sample(rows, [(source[:LONGEST], target[:LONGEST]) for source, target in reservoir.items], problem)
