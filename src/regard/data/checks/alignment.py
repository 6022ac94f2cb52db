"""Sides that are shifted against each other: after a stray line, line n of one translates line n + 1 of the other.

Long sentences have long translations, so the lengths of the two sides correlate where they are aligned and do not where
they are not (the observation of Gale and Church 1993, "A Program for Aligning Sentences in Bilingual Corpora"). For
every shift s the products xᵢ·(yᵢ₊ₛ − yᵢ) of standardised logarithms of lengths are below 0 in the mean where the
sides are aligned, by their correlation, and as much above 0 where they are shifted by s. Their cumulative sum, held up
at 0, passes a threshold soon after the shift begins (Page 1954, "Continuous inspection schemes"); where it last left 0
is where the shift begins. A shift is believed only if the correlations of the stretch confirm it.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FARTHEST: Final = 5
"""The largest shift looked for, in lines, in both directions."""
THRESHOLD: Final = 40.0
"""Of the cumulative sum: a stretch of some 60 lines if lengths correlate with 0.8."""
SLACK: Final = 0.15
"""Taken off each product, so that a sum of mere noise falls."""
CORRELATED: Final = 0.3
"""The least correlation of a shifted stretch."""
CLEARER: Final = 0.3
"""By how much it is more than the correlation of the lines as they stand, both after Fisher's transformation."""
CERTAIN: Final = 7.0
"""The same difference in its standard deviations; large, because many places and shifts are tried."""
CHUNK: Final = 1 << 20
"""Rows looked at together, which bounds memory; a stretch goes on over the border."""
SUMMED: Final = 1 << 16
"""Rows whose levels are summed at once for a correlation."""
UNRELATED: Final = 0.1
"""Below this correlation of the whole part there is nothing to go by."""
LEAST: Final = 200
"""Fewest lines of which to say that."""

Levels = NDArray[np.uint8]
_PER_OCTAVE = 12.0


@dataclass(frozen=True)
class Shift:
    """A stretch of rows that are shifted.

    Attributes:
        first, last: its rows, as indices from 0; the ends are certain to within some ten lines.
        by: source i goes with target i + by.
        correlation: of the lengths with that shift.
        as_it_stands: of the lengths without it.
    """

    first: int
    last: int
    by: int
    correlation: float
    as_it_stands: float


def levels(lengths: NDArray[np.int64]) -> Levels:
    """Lengths on a logarithmic scale in a byte each, twelve to the octave."""
    scaled: Levels = np.minimum(np.log2(lengths + 1.0) * _PER_OCTAVE, 255).astype(np.uint8)
    return scaled


def correlation(source: Levels, target: Levels) -> float:
    """The correlation of two columns of levels; 0 where one of them never changes."""
    sums = [0, 0, 0, 0, 0]  # of x, y, x², y², xy, without a copy of whole columns
    for start in range(0, len(source), SUMMED):
        x, y = (column[start : start + SUMMED].astype(np.int32) for column in (source, target))
        for index, values in enumerate((x, y, x * x, y * y, x * y)):
            sums[index] += int(values.sum(dtype=np.int64))
    count, (x_sum, y_sum, x_squares, y_squares, products) = len(source), sums
    variances = (count * x_squares - x_sum**2) * (count * y_squares - y_sum**2)
    return (count * products - x_sum * y_sum) / math.sqrt(variances) if variances else 0.0


def find_shifts(source: Levels, target: Levels) -> list[Shift]:
    """The shifted stretches, in order; they don't overlap.

    Args:
        source, target: `levels` of all rows of a part, (N,) each.
    """
    found: list[Shift] = []
    for start in range(0, len(source), CHUNK):
        for shift in _shifts_of_chunk(source[start : start + CHUNK], target[start : start + CHUNK]):
            here = replace(shift, first=shift.first + start, last=shift.last + start)
            if found and found[-1].by == here.by and here.first - found[-1].last <= THRESHOLD:
                found[-1] = replace(found[-1], last=here.last)
            else:
                found.append(here)
    return found


def _shifts_of_chunk(source: Levels, target: Levels) -> list[Shift]:
    x, y = np.clip(_standardised(source), -3, 3), np.clip(_standardised(target), -3, 3)
    found: list[Shift] = []
    for by in _shifts():
        low, high = max(0, -by), min(len(x), len(x) - by)
        if high - low <= 0:
            continue
        products = x[low:high] * (y[low + by : high + by] - y[low:high]) - SLACK
        for first, last in _rises(products):
            shift = _believed(source, target, low + first, low + last, by)
            if shift is not None:
                found.append(shift)
    return _apart(found)


def _shifts() -> list[int]:
    return [sign * distance for distance in range(1, FARTHEST + 1) for sign in (1, -1)]


def _standardised(values: Levels) -> NDArray[np.float32]:
    """Mean 0, standard deviation 1; all 0 if there is none."""
    numbers = values.astype(np.float32)
    deviation = float(numbers.std()) if len(numbers) else 0.0
    if deviation < 1e-6:
        return np.zeros_like(numbers)
    centred: NDArray[np.float32] = (numbers - numbers.mean()) / np.float32(deviation)
    return centred


def _rises(products: NDArray[np.floating[Any]]) -> list[tuple[int, int]]:
    """Stretches over which the cumulative sum rises by more than the threshold, without falling by as much between."""
    # in front, the empty sum: rise i is what the products before the ith add up to
    total = np.concatenate([[0.0], np.cumsum(products, dtype=np.float64)])
    found: list[tuple[int, int]] = []
    start = 0
    while start < len(total):
        rest = total[start:]
        over = np.flatnonzero(rest - np.minimum.accumulate(rest) > THRESHOLD)
        if not len(over):
            break
        alarm = start + int(over[0])
        first = start + int(np.argmin(total[start : alarm + 1]))
        after = total[alarm:]
        under = np.flatnonzero(np.maximum.accumulate(after) - after > THRESHOLD)
        end = alarm + (int(under[0]) if len(under) else len(after) - 1)
        last = alarm + int(np.argmax(total[alarm : end + 1]))
        found.append((first, last - 1))
        start = end + 1
    return found


def _believed(source: Levels, target: Levels, first: int, last: int, by: int) -> Shift | None:
    low, high = max(first, -by), min(last + 1, len(source) - by)
    shifted = correlation(source[low:high], target[low + by : high + by])
    plain = correlation(source[low:high], target[low:high])
    clearer = np.arctanh(min(shifted, 0.999)) - np.arctanh(min(plain, 0.999))
    deviations = clearer * np.sqrt(max(high - low - 3, 0) / 2)
    if shifted < CORRELATED or clearer < CLEARER or deviations < CERTAIN:
        return None
    return Shift(first, last, by, shifted, plain)


def _apart(shifts: list[Shift]) -> list[Shift]:
    """Of overlapping stretches the better one whole, and of the other what is left if that is most of it."""
    chosen: list[Shift] = []
    for shift in sorted(shifts, key=lambda one: -one.correlation * (one.last - one.first)):
        first, last = shift.first, shift.last
        for other in chosen:
            if first <= other.last and other.first <= last:
                before, behind = other.first - first, last - other.last
                first, last = (first, other.first - 1) if before >= behind else (other.last + 1, last)
        if 2 * (last - first) >= shift.last - shift.first:
            chosen.append(replace(shift, first=first, last=last))
    return sorted(chosen, key=lambda one: one.first)
