"""Texts longer than a model's positions: what each token is predicted from, alone and in any batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.decoding import (
    Average,
    Beam,
    Ensemble,
    Greedy,
    Limits,
    NoRepeatNgram,
    Prompted,
    Ruled,
    Sampling,
    Sliding,
    TopK,
    WhenCertain,
)
from regard.errors import ArgumentError

V, EOS, ANY, BEGIN = 11, 99, 5, 10


def windows(prompt, said, positions, keep, begin):
    """What each said token is predicted from, by the words of the documentation: (read, fed) as `start` and `step`."""
    read, window, found = [], [*prompt], []
    if len(window) > 0:
        read = window[:-1]
    for token in said:
        found.append((read, window[len(read) :]))
        window = [*window, token]
        if len(window) > positions:
            window = window[-keep:]
            if begin is not None:
                window[0] = begin
            read = window[:-1]
    return found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_each_token_is_predicted_from_its_window(toys, data):
    positions = data.draw(st.integers(2, 9))
    begin = data.draw(st.sampled_from([None, BEGIN]))
    keep = data.draw(st.integers(1 if begin is None else 2, positions))
    prompts = data.draw(
        st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=positions), min_size=1, max_size=4)
    )
    search = data.draw(
        st.sampled_from(
            [Greedy(), Sampling(samples=2), Beam(3, 3, Average(), WhenCertain()), Sampling(0.5, (TopK(3),))]
        )
    )
    toy = toys.Reading(V, positions)
    model = Prompted(Sliding(toy, positions, keep, begin))
    limits = Limits(ANY, EOS, 25, keys=tuple(range(len(prompts))))
    for prompt, few in zip(prompts, search.run(model, model.start(*toys.padded(prompts)), limits), strict=True):
        for one in few:
            assert len(one.tokens) == 25
            # What is read together is remembered apart from what is fed: when a neighbour's window moves, both are
            # read again, and this toy can tell. Batches of one are exact.
            if len(prompts) > 1:
                continue
            for token, term, (read, fed) in zip(
                one.tokens, one.token_log_probs, windows(prompt, one.tokens, positions, keep, begin), strict=True
            ):
                assert term == pytest.approx(float(toy.log_prob(read, fed)[token]), rel=1e-6)


class Whole:
    """A reader that sees no difference between what it read and what it was fed, as a Transformer doesn't."""

    def __init__(self, toy):
        self.toy = toy

    def start(self, prompts, lengths):
        state = self.toy.start(prompts, lengths)
        begun = state.sentence["begin"]
        return type(state)({"begin": torch.zeros_like(begun)}, state.hypothesis | {"fed": begun}, state.position)

    def step(self, tokens, state):
        return self.toy.step(tokens, state)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_is_found_does_not_depend_on_the_batch(toys, data):
    positions = data.draw(st.integers(2, 9))
    keep = data.draw(st.integers(1, positions))
    prompts = data.draw(
        st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=positions), min_size=2, max_size=4)
    )
    longest = data.draw(st.lists(st.integers(1, 20), min_size=len(prompts), max_size=len(prompts)))
    search = data.draw(st.sampled_from([Greedy(), Sampling(samples=3), Beam(3, 3, Average(), WhenCertain())]))
    toy = toys.Reading(V, positions)
    model = Ruled(Prompted(Sliding(Whole(toy), positions, keep)), [NoRepeatNgram(4)])
    keys = tuple(range(len(prompts)))
    together = search.run(model, model.start(*toys.padded(prompts)), Limits(ANY, 1, torch.tensor(longest), keys=keys))
    for number, prompt in enumerate(prompts):
        alone = Limits(ANY, 1, longest[number], keys=(number,))
        (wanted,) = search.run(model, model.start(*toys.padded([prompt])), alone)
        assert [one.tokens for one in together[number]] == [one.tokens for one in wanted]


def test_reading_again_costs_about_a_step_a_token(toys):
    toy = toys.Reading(V, 64)
    model = Prompted(Sliding(toy, 64))
    Greedy().run(model, model.start(*toys.padded([[1, 2]])), Limits(ANY, EOS, 640))
    assert sum(toy.read) <= 640
    cropped = toys.Reading(V, 64)
    model = Prompted(Sliding(cropped, 64, keep=64))
    Greedy().run(model, model.start(*toys.padded([[1, 2]])), Limits(ANY, EOS, 200))
    assert len(cropped.read) == 1 + 200 - 63  # one reading, and one at each step after the positions are full


def test_models_of_different_positions_can_be_an_ensemble(toys):
    model = Prompted(Ensemble([Sliding(toys.Reading(V, 8), 8), Sliding(toys.Reading(V, 5), 5)]))
    ((found,),) = Greedy().run(model, model.start(*toys.padded([[1, 2]])), Limits(ANY, EOS, 30))
    assert len(found.tokens) == 30


def test_empty_batches(toys):
    model = Prompted(Sliding(toys.Reading(V, 8), 8))
    start = model.start(torch.zeros(0, 0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert Greedy().run(model, start, Limits(ANY, EOS, 30)) == []


def test_arguments_are_checked(toys):
    toy = toys.Reading(V, 8)
    with pytest.raises(ArgumentError, match="keep is 9; expected 1 to the positions, 8"):
        Sliding(toy, 8, 9)
    with pytest.raises(ArgumentError, match="keep is 1; expected 2 to the positions, 8"):
        Sliding(toy, 8, 1, begin=0)
    with pytest.raises(ArgumentError, match=r"lengths are \[8\]; expected fewer than 8, the positions"):
        Sliding(toy, 8).start(*toys.padded([[1] * 8]))
