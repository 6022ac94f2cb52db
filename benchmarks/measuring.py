"""Time and memory of calls, measured side by side in one run."""

import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LEAST = 2e-3  # seconds; a shorter call is repeated until its clock has run that long


@dataclass(frozen=True)
class Spread:
    """Median, least and most of some numbers."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: list[float]) -> "Spread":
        return Spread(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{_digits(self.median)} ({_digits(self.least)}–{_digits(self.most)})"


def alternate(calls: Mapping[str, Callable[[], object]], rounds: int, budget: float) -> dict[str, list[float]]:
    """Seconds of each call in each round; in a round each is run in turn, so that a change of speed meets all.

    The first round warms up and says how often a short call must be repeated.

    Args:
        calls: by name.
        rounds: how many are counted.
        budget: seconds after which no further round begins; three are always counted, if as many are wanted.
    """
    began = time.perf_counter()
    repeats = {}
    for name, call in calls.items():
        once = _seconds(call, 1)
        if once < 20 * LEAST:  # the first call may be much slower than the next
            once = _seconds(call, 1)
        repeats[name] = math.ceil(LEAST / max(once, 1e-7))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        if number >= 3 and time.perf_counter() - began > budget:
            break
        for name, call in calls.items():
            times[name].append(_seconds(call, repeats[name]) / repeats[name])
    return times


def ratio(times: Mapping[str, list[float]], of: str, to: str) -> Spread:
    """How many times as long `of` takes as `to`, round by round."""
    return Spread.of([a / b for a, b in zip(times[of], times[to], strict=True)])


def peak_growth(prepare: Callable[[], Callable[[], object]]) -> int | None:
    """Bytes by which a call raises the peak of memory, in a fork, whose peak starts where the parent stands.

    The parent must not have used threads.

    Args:
        prepare: makes the inputs, which don't count, and returns the call.

    Returns:
        None if the fork came to nothing, for want of memory for example.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # an error ends the child, and tells what it is
        call = prepare()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        call()
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(writing, str(growth * (1 if sys.platform == "darwin" else 1024)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        growth = answer.read()
    os.waitpid(child, 0)
    return int(growth) if growth else None


def exponent(sizes: Mapping[int, float]) -> float | None:
    """p of growth ~ lengthᵖ, between the shortest and the longest; None with one length, or nothing to measure."""
    short, long = min(sizes), max(sizes)
    if short == long or sizes[short] <= 0 or sizes[long] <= 0:
        return None
    return math.log(sizes[long] / sizes[short]) / math.log(long / short)


def _seconds(call: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - started


def _digits(x: float) -> str:
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"
