"""Searches step by step: what `run` finds, as it comes."""

from __future__ import annotations

import pytest
import torch

from regard.decoding import Beam, Greedy, Limits, Sampling, Stepwise, TopP

BOS, EOS = 0, 1


@pytest.mark.parametrize("search", [Greedy(), Sampling(1.4, (TopP(0.9),), samples=3)], ids=["greedy", "sampling"])
def test_steps_are_what_is_found(toys, search):
    rows, maxima = [13, 2, 5, 2, 17], torch.tensor([11, 3, 7, 5, 1])
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=1.5)
    limits = Limits(BOS, EOS, maxima, min_length=1, keys=(9, 8, 7, 6, 5))
    assert isinstance(search, Stepwise)
    found = search.run(model, model.start(rows), limits)
    said = {}
    for step, one in enumerate(search.steps(model, model.start(rows), limits)):
        for row, number, token, term in zip(
            one.rows.tolist(), one.numbers.tolist(), one.tokens.tolist(), one.log_probs.tolist(), strict=True
        ):
            tokens, terms = said.setdefault((row, number), ([], []))
            assert len(tokens) == step  # no sequence pauses
            tokens.append(token)
            terms.append(term)
    for row, few in enumerate(found):
        for number, one in enumerate(few):
            tokens, terms = said.pop((row, number))
            assert tuple(tokens) == one.tokens + ((EOS,) if one.finished else ())
            assert tuple(terms) == one.token_log_probs
    assert not said


def test_a_step_is_computed_when_it_is_asked_for(toys):
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=-90)
    steps = Greedy().steps(model, model.start([3]), Limits(BOS, EOS, 50))
    assert model.seen == []
    next(steps)
    next(steps)
    assert len(model.seen) == 2


def test_gradients_are_off_within_a_step_and_as_before_between_steps(toys):
    seen = []

    class Watched(toys.Hashing):
        def step(self, tokens, state):
            seen.append(torch.is_grad_enabled())
            return super().step(tokens, state)

    for search in (Greedy(), Sampling()):
        model = Watched(vocabulary=13, eos=EOS, eos_bonus=-90)
        for _ in search.steps(model, model.start([3]), Limits(BOS, EOS, 3, keys=(1,))):
            assert torch.is_grad_enabled()
    assert seen == [False] * 6


def test_a_beam_is_no_search_of_steps():
    assert not isinstance(Beam(2), Stepwise)
