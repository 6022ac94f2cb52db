import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.decoding import GNMT, Average, NoPenalty, WhenBehind, WhenCertain, WhenFull
from regard.errors import ArgumentError

PENALTIES = [NoPenalty(), GNMT(), GNMT(1.3), GNMT(-0.5), Average(), Average(0.0), Average(2.0), Average(-1.0)]


def test_numbers_worked_by_hand():
    log_prob = torch.tensor([-6.0], dtype=torch.float64)
    assert NoPenalty().score(log_prob, 7).item() == -6.0
    assert Average().score(log_prob, 3).item() == -2.0
    assert Average(0.0).score(log_prob, 3).item() == -6.0
    assert Average(-1.0).score(log_prob, 3).item() == -18.0
    assert GNMT(1.0).score(log_prob, 7).item() == -3.0
    assert GNMT(0.6).score(log_prob, 1).item() == -6.0
    assert GNMT(0.6).score(log_prob, 19).item() == pytest.approx(-6 / 4**0.6, abs=1e-14)


@pytest.mark.parametrize("kind", [Average, GNMT])
@pytest.mark.parametrize("alpha", [math.nan, math.inf, -math.inf, 10.1, -1000.0])
def test_a_strength_that_leaves_no_scores_is_refused(kind, alpha):
    with pytest.raises(ArgumentError, match=f"{kind.__name__}: alpha is {alpha}; expected a number from -10 to 10"):
        kind(alpha)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_length_may_be_a_tensor_in_full_precision(penalty):
    log_prob = torch.tensor([-3.0, -5.0], dtype=torch.float64)
    together = penalty.score(log_prob, torch.tensor([7, 11]))
    alone = [penalty.score(log_prob[i : i + 1], n).item() for i, n in enumerate((7, 11))]
    assert together.dtype == torch.float64
    assert together.tolist() == alone


@pytest.mark.parametrize("penalty", PENALTIES)
def test_an_empty_sequence_has_a_score(penalty):
    assert penalty.score(torch.zeros(1), 0).item() == 0.0


@pytest.mark.parametrize("penalty", PENALTIES)
@settings(max_examples=40, deadline=None)
@given(st.floats(-50, 0), st.floats(-20, 0), st.integers(1, 30), st.integers(0, 30), st.integers(0, 30))
def test_the_bound_holds(penalty, log_prob, more, length, longer, room):
    now = torch.tensor([log_prob], dtype=torch.float64)
    end = penalty.score(now + more, length + longer).item()
    bound = penalty.best_possible(now, length, torch.tensor([length + longer + room])).item()
    assert end <= bound + 1e-12 * abs(bound)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_bound_is_reached(penalty):
    now = torch.tensor([-4.0], dtype=torch.float64)
    reachable = max(penalty.score(now, n).item() for n in range(3, 12))
    assert penalty.best_possible(now, 3, 11).item() == reachable


def test_stopping_rules_differ_where_they_should():
    running = torch.tensor([-3.0, -3.0, -3.0, -3.0])
    worst = torch.tensor([-math.inf, -0.4, -0.2, -0.25])
    limits = torch.tensor([20, 20, 20, 11])
    arguments = (running, worst, 5, limits, Average())
    # At length 5 the running one has -0.6; at 20 it could still have -0.15, at 11 -0.27.
    assert WhenFull().done(*arguments).tolist() == [False, True, True, True]
    assert WhenBehind().done(running, torch.tensor([-math.inf, -0.7, -0.6, -0.2]), 5, limits, Average()).tolist() == [
        False,
        False,
        True,
        True,
    ]
    assert WhenCertain().done(*arguments).tolist() == [False, False, False, True]
