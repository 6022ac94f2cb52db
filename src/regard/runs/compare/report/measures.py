"""What is measured of each model, summed up over its seeds, and which differences may be called differences."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from regard.runs.compare.report.formats import NONE, duration, fixed, short, significant, size, whole
from regard.runs.compare.results import Comparison, Estimate, Judged, ModelResult, SeedRun

Reading = float | Estimate | None

DECODING = "decoding"
"""The entry of a comparison's setting that says how all models translate."""


@dataclass(frozen=True)
class Summary:
    """A figure over the seeds of a model.

    Attributes:
        value: the mean of the seeds that have it; of `largest` the largest.
        least, most: of the seeds.
        low, high: the ends of the 95 % interval; of several seeds the lowest and the highest end. None without any.
        seeds: how many have the figure, `of` how many.
    """

    value: float
    least: float
    most: float
    low: float | None
    high: float | None
    seeds: int
    of: int

    @property
    def sure(self) -> bool:
        """Whether there is anything to tell how sure the figure is: an interval, or several seeds."""
        return self.seeds > 1 or (self.low is not None and self.high is not None)

    @property
    def range(self) -> tuple[float, float]:
        """Within which another figure may not be told apart: the interval, without one what the seeds span."""
        if self.low is None or self.high is None:
            return self.least, self.most
        return min(self.low, self.least), max(self.high, self.most)


def summarise(readings: Sequence[Reading]) -> Summary | None:
    """Sum up one figure of each seed; None where no seed has it."""
    found = [r if isinstance(r, Estimate) else Estimate(r) for r in readings if r is not None]
    if not found:
        return None
    values = [estimate.value for estimate in found]
    lows = [estimate.low for estimate in found if estimate.low is not None]
    highs = [estimate.high for estimate in found if estimate.high is not None]
    return Summary(
        value=math.fsum(values) / len(values) if all(map(math.isfinite, values)) else sum(values) / len(values),
        least=min(values),
        most=max(values),
        low=min(lows) if len(lows) == len(found) else None,
        high=max(highs) if len(highs) == len(found) else None,
        seeds=len(found),
        of=len(readings),
    )


Over = Callable[[Sequence[Reading]], Summary | None]
"""Sums up the readings of the seeds."""


def largest(readings: Sequence[Reading]) -> Summary | None:
    """Sum up a figure by the largest of the seeds, as of the memory that has to be there."""
    summary = summarise(readings)
    return None if summary is None else replace(summary, value=summary.most)


@dataclass(frozen=True)
class Measure:
    """A row of the verdict.

    Attributes:
        name: in words.
        of: reads it from a run.
        show: writes a value.
        better: 1 if more is better, −1 if less is, 0 if neither.
        missing: stands where no seed has the figure.
        alone: marks the first of models whose figures are of one run and without an interval; none if empty.
        over: sums up the seeds.
    """

    name: str
    of: Callable[[SeedRun], Reading]
    show: Callable[[float], str]
    better: int = 0
    missing: str = NONE
    alone: Literal["", "fastest", "fewest", "lowest"] = ""
    over: Over = summarise

    def summary(self, model: ModelResult) -> Summary | None:
        """Sum up the figure over the seeds of a model."""
        return self.over([self.of(run) for run in model.runs])


def standing(measure: Measure, summaries: Sequence[Summary | None]) -> list[str]:
    """Say of each model whether it is "best", or "level" with the best, or neither ("").

    A model is level with the best one if their ranges overlap or the figures read the same as shown; then the best is
    "level" too, and none is best. A figure that not all seeds reached stands behind those that all reached. Where
    nothing tells how sure a figure is, none is best or level; the first is marked by the measure's `alone`.
    """
    marks = [""] * len(summaries)
    known = [(number, summary) for number, summary in enumerate(summaries) if summary is not None]
    known = [(number, summary) for number, summary in known if summary.seeds == summary.of and not _nan(summary)]
    if measure.better == 0 or len(summaries) < 2 or not known:
        return marks
    first, best = max(known, key=lambda pair: measure.better * pair[1].value)
    if not all(summary.sure for _, summary in known):
        same = [number for number, other in known if measure.show(other.value) == measure.show(best.value)]
        if len(same) == 1:
            marks[first] = measure.alone
        return marks
    level = [number for number, other in known if number != first and _level(measure, best, other)]
    marks[first] = "level" if level else "best"
    for number in level:
        marks[number] = "level"
    return marks


def quality(comparison: Comparison) -> tuple[tuple[str, tuple[Measure, ...]], ...]:
    """Return the measures at the two points at which models are judged: heading, measures."""
    tokens, seconds = comparison.common_tokens, comparison.common_seconds
    return (
        (f"After the same {short(tokens)} target tokens", _judged(lambda run: run.at_tokens)),
        (f"After the same {duration(seconds)} of training", _judged(lambda run: run.at_seconds)),
    )


def cost(comparison: Comparison) -> tuple[Measure, ...]:
    """Return the measures of training and size."""
    target = f"a validation loss of {fixed(comparison.target_loss, 3)}"
    decoding = comparison.setting.get(DECODING)
    translating = f"Sentences a second, translating ({decoding})" if decoding else "Sentences a second, translating"
    return (
        Measure(f"Steps to {target}", lambda run: run.steps_to_target, whole, -1, "not reached", "fewest"),
        Measure(f"Time to {target}", lambda run: run.seconds_to_target, duration, -1, "not reached", "fastest"),
        Measure("Target tokens a second, training", lambda run: run.tokens_per_second, whole, 1, alone="fastest"),
        Measure(translating, lambda run: run.at_tokens.sentences_per_second, significant, 1, alone="fastest"),
        Measure("Peak memory, training", lambda run: run.peak_memory, size, -1, alone="lowest", over=largest),
        Measure("Largest gradient norm", lambda run: run.largest_gradient, significant),
        Measure("Median gradient norm", lambda run: run.median_gradient, significant),
    )


def percent(value: float) -> str:
    """Return a figure that is in per cent."""
    return f"{fixed(value, 1)}\u202f%"


def _judged(at: Callable[[SeedRun], Judged]) -> tuple[Measure, ...]:
    return (
        Measure("BLEU", lambda run: at(run).bleu, lambda v: fixed(v, 1), 1),
        Measure("chrF", lambda run: at(run).chrf, lambda v: fixed(v, 1), 1),
        Measure("Exactly right", lambda run: at(run).exact, percent, 1),
        Measure("Loss of the references", lambda run: at(run).loss, lambda v: fixed(v, 3), -1),
        Measure("Alignment error rate", lambda run: at(run).alignment_error, percent, -1, "no attention"),
        Measure("Judged at step", lambda run: at(run).step, whole),
        Measure("Training time until then", lambda run: at(run).seconds, duration),
        Measure("Target tokens until then", lambda run: at(run).tokens, short),
    )


def _level(measure: Measure, best: Summary, other: Summary) -> bool:
    (low, high), (other_low, other_high) = best.range, other.range
    return (low <= other_high and other_low <= high) or measure.show(best.value) == measure.show(other.value)


def _nan(summary: Summary) -> bool:
    return math.isnan(summary.value)
