"""The first pass over a corpus: counts, a sample for the tokenizers, and pairs held out for validation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import eq
from typing import Final

from regard.data.pairs import Block, PairReader
from regard.data.reservoir import Reservoir
from regard.errors import DataError

Texts = tuple[str, str]
"""Source and target of a pair."""

Progress = Callable[[str, int, "int | None"], None]
"""Told what is being done, how many rows are done, and of how many, if that is known."""

LEAST_PAIRS: Final = 10
"""With fewer distinct pairs nothing is held out."""

_EXACT = 1000  # up to so many distinct pairs the held-out fraction is met exactly


@dataclass(frozen=True)
class HoldOut:
    """How pairs are held out: a fraction of the distinct ones, at most so many; the seed decides which."""

    fraction: float
    most: int
    seed: int


@dataclass(frozen=True)
class PartCount:
    """What one part of a corpus holds.

    Attributes:
        name: what messages call it.
        rows: pairs read.
        empty: those with an empty side.
    """

    name: str
    rows: int
    empty: int


@dataclass(frozen=True)
class Survey:
    """What a first pass found.

    Attributes:
        parts: counts, in the order of the parts.
        sample: pairs drawn at random for training tokenizers; none is empty or held out.
        held_out: distinct pairs that are to be held out, wherever they occur.
    """

    parts: tuple[PartCount, ...]
    sample: list[Texts]
    held_out: list[Texts]


def survey(
    readers: Sequence[PairReader], *, sample: int, hold_out: HoldOut | None, seed: int, progress: Progress
) -> Survey:
    """Read all parts once.

    Args:
        readers: the parts.
        sample: the most pairs to draw.
        hold_out: how pairs are held out; None: none are.
        seed: of the sample.
        progress: told "reading", rows so far and None.

    Raises:
        DataError: rows that cannot be used (the first, and how many there are), the same text on both sides of more
            than half of a part, nothing but empty pairs, too few pairs to hold out some; and as the readers do.
    """
    reservoir = Reservoir[Texts](sample, seed)
    candidates = _Candidates(hold_out) if hold_out is not None else None
    parts: list[PartCount] = []
    done = 0
    for reader in readers:
        rows = empty = equal = 0
        bad, first_problem = 0, ""
        for block in reader.blocks():
            if block.problems:
                first_problem = first_problem or block.problems[min(block.problems)]
                bad += len(block.problems)
            pairs = _filled(block)
            rows, empty = rows + len(block), empty + len(block) - len(pairs)
            equal += sum(map(eq, block.sources, block.targets)) - _both_empty(block, pairs)
            reservoir.extend(pairs)
            if candidates is not None:
                candidates.extend(pairs)
            done += len(block)
            progress("reading", done, None)
        if bad:
            raise DataError(first_problem + (f" ({bad:,} rows of {reader.name} cannot be used)" if bad > 1 else ""))
        if rows == empty:
            raise DataError(f"{reader.name}: no pair has text on both sides ({rows:,} read)")
        if 2 * equal > rows - empty:
            raise DataError(
                f"{reader.name}: {equal:,} of {rows - empty:,} pairs have the same text on both sides; is the same "
                "file, or the same column, given twice?"
            )
        parts.append(PartCount(reader.name, rows, empty))
    held = candidates.chosen() if candidates is not None else []
    drawn = reservoir.items
    if held:
        left_out = set(held)
        drawn = [pair for pair in drawn if pair not in left_out]
    return Survey(tuple(parts), drawn, held)


def _filled(block: Block) -> list[Texts]:
    """The pairs with text on both sides."""
    pairs = list(zip(block.sources, block.targets, strict=True))
    if "" in block.sources or "" in block.targets:
        return [pair for pair in pairs if pair[0] and pair[1]]
    return pairs


def _both_empty(block: Block, pairs: list[Texts]) -> int:
    if len(pairs) == len(block):
        return 0
    return sum(not source and not target for source, target in zip(block.sources, block.targets, strict=True))


class _Candidates:
    """The distinct pairs with the smallest keyed hashes, which are a random draw that needs no table of all pairs."""

    def __init__(self, hold_out: HoldOut) -> None:
        self._hold_out = hold_out
        self._keep = max(hold_out.most, _EXACT)
        self._key = hold_out.seed.to_bytes(16, "little", signed=False)
        self._pairs: dict[bytes, Texts] = {}
        self._limit = b"\xff" * 9  # above every hash
        self._all = True  # no pair has been forgotten yet

    def extend(self, pairs: list[Texts]) -> None:
        key, limit, kept = self._key, self._limit, self._pairs
        for pair in pairs:
            digest = blake2b("\n".join(pair).encode(), digest_size=8, key=key).digest()
            if digest < limit:
                kept[digest] = pair
        if len(kept) > 2 * self._keep:
            self._shrink()

    def chosen(self) -> list[Texts]:
        """The pairs to hold out, in the order of their hashes."""
        if self._all and len(self._pairs) <= self._keep:
            if len(self._pairs) < LEAST_PAIRS:
                raise DataError(
                    f"{len(self._pairs)} distinct training pairs are too few to hold out a validation part (at least "
                    f"{LEAST_PAIRS}): give one as data.valid_source and data.valid_target, or data.valid_pairs"
                )
            count = int(self._hold_out.fraction * len(self._pairs))
        else:  # hashes are spread evenly, so that this is the fraction but for chance
            limit = int(self._hold_out.fraction * 2**64).to_bytes(8, "big")
            count = sum(digest < limit for digest in self._pairs)
        count = min(max(count, 1), self._hold_out.most)
        return [self._pairs[digest] for digest in sorted(self._pairs)[:count]]

    def _shrink(self) -> None:
        smallest = sorted(self._pairs)[: self._keep]
        self._pairs = {digest: self._pairs[digest] for digest in smallest}
        self._limit, self._all = smallest[-1], False
