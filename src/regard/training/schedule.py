"""Learning-rate schedules: pure functions of the step, counted from 1; never of minutes or epochs.

All begin with a linear warm-up: `rate(step) = peak · step / warmup` for `step ≤ warmup`. A budget that is extended
later gives `Cosine` and `Linear` a new `total`: the rate jumps up to the new, longer curve and goes on along it.
"""

import math
from dataclasses import dataclass
from typing import Protocol

from regard.errors import ArgumentError


class Schedule(Protocol):
    """Anything that gives the learning rate of a step."""

    def rate(self, step: int) -> float:
        """The learning rate of `step`, counted from 1."""
        ...


@dataclass(frozen=True)
class Constant:
    """Linear warm-up over `warmup` steps (0: none), then `peak` for ever."""

    peak: float
    warmup: int = 0

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup)

    def rate(self, step: int) -> float:
        """The learning rate of `step`, counted from 1."""
        return self.peak * _warm(step, self.warmup)


@dataclass(frozen=True)
class InverseSqrt:
    """Linear warm-up, then decay with the inverse square root of the step: `peak · min(s / w, √(w / s))`.

    This is Vaswani et al. (2017), equation 3, `E^-½ · min(s^-½, s · w^-3/2)`, written with its highest value
    `peak = (E · w)^-½`, which it reaches at step w. Without warm-up w counts as 1.
    """

    peak: float
    warmup: int

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup)

    def rate(self, step: int) -> float:
        """The learning rate of `step`, counted from 1."""
        _check_step(step)
        warmup = max(1, self.warmup)
        return self.peak * min(step / warmup, math.sqrt(warmup / step))


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine from `peak` down to `floor` at step `total`; `floor` afterwards.

    Loshchilov and Hutter (2017), equation 5, without restarts. `floor` is a learning rate, not a factor.
    """

    peak: float
    warmup: int
    total: int
    floor: float = 0.0

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup, self.total)
        if not 0.0 <= self.floor <= self.peak:
            raise ArgumentError(f"floor is {self.floor}; expected a learning rate from 0 to the peak, {self.peak}")

    def rate(self, step: int) -> float:
        """The learning rate of `step`, counted from 1."""
        if step <= self.warmup:
            return self.peak * _warm(step, self.warmup)
        done = _decayed(step, self.warmup, self.total)
        return self.floor + (self.peak - self.floor) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Linear:
    """Linear warm-up, then a straight line from `peak` down to 0 at step `total`; 0 afterwards."""

    peak: float
    warmup: int
    total: int

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup, self.total)

    def rate(self, step: int) -> float:
        """The learning rate of `step`, counted from 1."""
        if step <= self.warmup:
            return self.peak * _warm(step, self.warmup)
        return self.peak * (1.0 - _decayed(step, self.warmup, self.total))


def _warm(step: int, warmup: int) -> float:
    _check_step(step)
    return min(1.0, step / warmup) if warmup else 1.0


def _decayed(step: int, warmup: int, total: int) -> float:
    """How far the decay has come: 0 at the end of the warm-up, 1 from step `total` on."""
    _check_step(step)
    return min(1.0, (step - warmup) / (total - warmup)) if total > warmup else 1.0


def _check_step(step: int) -> None:
    if step < 1:
        raise ArgumentError(f"step is {step}; steps are counted from 1")


def _check(peak: float, warmup: int, total: int | None = None) -> None:
    if not (math.isfinite(peak) and peak > 0.0):
        raise ArgumentError(f"peak is {peak}; expected a learning rate above 0")
    if warmup < 0:
        raise ArgumentError(f"warmup is {warmup}; expected a number of steps, 0 or more")
    if total is not None and total < 1:
        raise ArgumentError(f"total is {total}; expected a number of steps, 1 or more")
