import math

import pytest

from regard.errors import ArgumentError
from regard.training import Constant, Cosine, InverseSqrt, Linear


def test_inverse_sqrt_is_equation_3_of_vaswani():
    width, warmup = 512, 4001
    schedule = InverseSqrt(peak=(width * warmup) ** -0.5, warmup=warmup)
    for step in (1, 7, 4000, 4001, 4002, 100_003):
        expected = width**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert schedule.rate(step) == pytest.approx(expected, rel=1e-12)
    assert schedule.rate(warmup) == schedule.peak
    assert InverseSqrt(0.3, 0).rate(1) == 0.3 and InverseSqrt(0.3, 0).rate(4) == 0.15


@pytest.mark.parametrize("schedule", [Constant(0.7, 7), InverseSqrt(0.7, 7), Cosine(0.7, 7, 31), Linear(0.7, 7, 31)])
def test_warm_up_is_a_line_from_zero_to_the_peak(schedule):
    assert [schedule.rate(step) for step in range(1, 8)] == pytest.approx([0.1 * step for step in range(1, 8)])
    assert schedule.rate(8) <= 0.7


def test_cosine_goes_from_peak_to_floor_and_stays():
    schedule = Cosine(peak=2.0, warmup=3, total=23, floor=0.5)
    assert schedule.rate(3) == 2.0
    assert schedule.rate(8) == pytest.approx(0.5 + 1.5 * (1 + math.cos(math.pi / 4)) / 2)
    assert schedule.rate(13) == pytest.approx(1.25)
    assert schedule.rate(23) == schedule.rate(1000) == pytest.approx(0.5)


def test_linear_ends_at_zero():
    schedule = Linear(peak=2.0, warmup=3, total=23)
    assert [schedule.rate(step) for step in (3, 8, 13, 23, 24)] == pytest.approx([2.0, 1.5, 1.0, 0.0, 0.0])


def test_no_warm_up_starts_at_the_peak():
    assert Constant(0.5).rate(1) == 0.5 == Constant(0.5).rate(999)
    assert Linear(1.0, 0, 10).rate(1) == pytest.approx(0.9)


def test_warm_up_as_long_as_the_run_is_allowed():
    assert Cosine(1.0, 10, 10).rate(10) == 1.0
    assert Linear(1.0, 20, 10).rate(10) == 0.5


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Constant(-1.0), "peak"),
        (lambda: Constant(math.nan), "peak"),
        (lambda: InverseSqrt(1.0, -1), "warmup"),
        (lambda: Linear(1.0, 0, 0), "total"),
        (lambda: Cosine(1.0, 0, 10, floor=2.0), "floor"),
        (lambda: InverseSqrt(1.0, 10).rate(0), "step"),
    ],
)
def test_wrong_numbers_are_named(make, word):
    with pytest.raises(ArgumentError, match=word):
        make()
