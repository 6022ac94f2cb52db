import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.decoding import Average, NoPenalty, WhenBehind, WhenCertain, WhenFull, beam_search, greedy
from regard.errors import ArgumentError
from regard.layers.state import State

BOS, EOS = 0, 1
RULES = [WhenFull(), WhenBehind(), WhenCertain()]


def by_hand(model, row, max_length, min_length):
    """Greedy search with Python lists, one sentence."""
    tokens, terms = [], []
    while len(tokens) < max_length:
        log_probs = model.log_prob(row, [BOS, *tokens]).tolist()
        if len(tokens) < min_length:
            log_probs[EOS] = -math.inf
        best = max(range(len(log_probs)), key=log_probs.__getitem__)
        terms.append(log_probs[best])
        if best == EOS:
            return tokens, terms, True
        tokens.append(best)
    return tokens, terms, False


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 13), st.integers(1, 11), st.integers(0, 3), st.sampled_from(RULES))
def test_beam_of_one_is_greedy_is_by_hand(toys, seed, vocabulary, max_length, min_length, rule):
    table = toys.markov_table(5, vocabulary, seed, sharpness=2.0)
    if seed % 2:  # coarse: many ties
        table = (2 * table).round() / 2
    model = toys.Markov(table)
    min_length = min(min_length, max_length)
    limits = {"bos": BOS, "eos": EOS, "max_length": max_length, "min_length": min_length}
    chosen = greedy(model, model.start([0, 1, 2, 3, 4]), **limits)
    # A penalty that favours length: with the exact rule a wider search would go on after the first end.
    penalty = Average(1.7)
    beams = beam_search(model, model.start([0, 1, 2, 3, 4]), beam=1, penalty=penalty, stopping=rule, **limits)
    for one, few in zip(chosen, beams, strict=True):
        score = penalty.score(torch.tensor([one.log_prob], dtype=torch.float64), len(one.token_log_probs)).item()
        assert few == [replace(one, score=score)]  # tokens and numbers alike, to the last bit
    for row, one in enumerate(chosen):
        tokens, terms, finished = by_hand(model, row, max_length, min_length)
        assert (list(one.tokens), list(one.token_log_probs), one.finished) == (tokens, terms, finished)
        assert one.log_prob == one.score == pytest.approx(sum(terms), abs=1e-12)


def test_finished_sentences_leave_the_batch(toys):
    # Sentence s ends after s tokens: from bos to 2 to 3 to ... to eos.
    table = torch.full((5, 7, 7), -9.0, dtype=torch.float64)
    for sentence in range(5):
        path = [BOS, *range(2, 2 + sentence), EOS]
        for here, there in pairwise(path):
            table[sentence, here, there] = -0.1
    model = toys.Markov(table)
    results = greedy(model, model.start([3, 0, 4, 1, 1]), bos=BOS, eos=EOS, max_length=17)
    assert model.seen == [5, 4, 2, 2, 1]
    assert [one.tokens for one in results] == [(2, 3, 4), (), (2, 3, 4, 5), (2,), (2,)]
    assert all(one.finished for one in results)


def test_state_follows_its_hypothesis(toys):
    model = toys.Hashing(vocabulary=11, eos=EOS, eos_bonus=2.5)
    batch = [13, 2, 5, 2, 17, 19]
    results = greedy(model, model.start(batch), bos=BOS, eos=EOS, max_length=23)
    assert len({len(one.tokens) for one in results}) > 2
    assert model.positions == list(range(len(model.positions)))
    assert results[1] == results[3]
    for row, one in zip(batch, results, strict=True):
        tokens, terms, finished = by_hand(model, row, 23, 0)
        assert (list(one.tokens), list(one.token_log_probs), one.finished) == (tokens, terms, finished)
        assert [one] == greedy(model, model.start([row]), bos=BOS, eos=EOS, max_length=23)


def test_each_sentence_has_its_own_maximum(toys):
    model = toys.Hashing(vocabulary=11, eos=EOS, eos_bonus=-9.0)
    results = greedy(model, model.start([3, 3, 3]), bos=BOS, eos=EOS, max_length=torch.tensor([5, 1, 2]))
    assert [len(one.tokens) for one in results] == [5, 1, 2]
    assert [len(one.token_log_probs) for one in results] == [5, 1, 2]
    assert not any(one.finished for one in results)
    assert model.seen == [3, 2, 1, 1, 1]


def test_where_nothing_is_possible_the_sequence_is_cut(toys):
    table = torch.full((2, 3, 3), -math.inf, dtype=torch.float64)
    table[0, BOS, 2] = -0.5  # then nothing
    model = toys.Markov(table)
    first, second = greedy(model, model.start([0, 1]), bos=BOS, eos=EOS, max_length=7)
    assert (first.tokens, first.log_prob, first.finished) == ((2,), -0.5, False)
    assert (second.tokens, second.log_prob, second.token_log_probs, second.finished) == ((), 0.0, (), False)


def test_no_sentences(toys):
    model = toys.Hashing(vocabulary=5, eos=EOS)
    assert greedy(model, model.start([]), bos=BOS, eos=EOS, max_length=3) == []
    assert model.seen == []


def test_results_carry_no_gradient_and_plain_numbers(toys):
    table = toys.markov_table(1, 5, 3).requires_grad_()
    model = toys.Markov(table)
    (one,) = greedy(model, model.start([0]), bos=BOS, eos=EOS, max_length=3)
    assert type(one.log_prob) is float and type(one.tokens[0]) is int


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(toys, bad):
    table = toys.markov_table(3, 5, 1)
    table[1, 2:, 4] = bad
    table[:, BOS, 2] = 0.0
    model = toys.Markov(table)
    with pytest.raises(ArgumentError, match=r"NaN or \+inf at step 1"):
        greedy(model, model.start([0, 1, 2]), bos=BOS, eos=EOS, max_length=5)
    with pytest.raises(ArgumentError, match=r"NaN or \+inf at step 1"):
        beam_search(
            model,
            model.start([0, 1, 2]),
            beam=3,
            bos=BOS,
            eos=EOS,
            max_length=5,
            penalty=NoPenalty(),
            stopping=WhenFull(),
        )


@pytest.mark.parametrize(
    ("max_length", "min_length", "message"),
    [
        (0, 0, "max_length is 0"),
        (3, 5, "min_length, 5"),
        (3, -1, "min_length is -1"),
        (torch.tensor([3, 2]), 0, r"shape \(3,\)"),
        (torch.tensor([3, 2, 0]), 0, "max_length has 0"),
        (torch.tensor([3.0, 2.0, 1.0]), 0, "float32"),
    ],
)
def test_limits_are_checked(toys, max_length, min_length, message):
    model = toys.Hashing(vocabulary=5, eos=EOS)
    with pytest.raises(ArgumentError, match=message):
        greedy(model, model.start([0, 1, 2]), bos=BOS, eos=EOS, max_length=max_length, min_length=min_length)


def test_the_starting_state_is_checked(toys):
    model = toys.Hashing(vocabulary=5, eos=EOS)
    with pytest.raises(ArgumentError, match="no tensor"):
        greedy(model, State({}, {}, 0), bos=BOS, eos=EOS, max_length=3)
    wide = State({"seed": torch.zeros(2)}, {"hash": torch.zeros(6)}, 0)
    with pytest.raises(ArgumentError, match="6 hypotheses for 2 sentences"):
        greedy(model, wide, bos=BOS, eos=EOS, max_length=3)


def test_the_models_output_is_checked(toys):
    class Flat(type(toys.Hashing(5, 1))):
        def step(self, tokens, state):
            log_probs, state = super().step(tokens, state)
            return log_probs[:-1], state

    model = Flat(vocabulary=5, eos=EOS)
    with pytest.raises(ArgumentError, match=r"expected floating \(3, vocabulary\)"):
        greedy(model, model.start([0, 1, 2]), bos=BOS, eos=EOS, max_length=3)
