import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.decoding import GNMT, Average, NoPenalty, WhenBehind, WhenCertain, WhenFull, beam_search
from regard.errors import ArgumentError

BOS, EOS = 0, 1
PENALTIES = [NoPenalty(), GNMT(), Average(), Average(-0.7), GNMT(1.9)]
RULES = [WhenFull(), WhenBehind(), WhenCertain()]
ROWS = [13, 2, 5, 2, 17, 19, 23]


def search(model, rows, **changes):
    arguments = {
        "beam": 3,
        "bos": BOS,
        "eos": EOS,
        "max_length": 11,
        "penalty": Average(),
        "stopping": WhenBehind(),
    } | changes
    return beam_search(model, model.start(rows), **arguments)


def score(penalty, log_prob, length):
    return penalty.score(torch.tensor([log_prob], dtype=torch.float64), length).item()


def by_hand(model, row, *, beam, max_length, min_length, penalty, stopping):
    """Beam search with Python lists, one sentence; sorts are stable, so ties go to the earlier."""
    running, ended = [((), 0.0)], []
    for length in range(max_length):
        found = []
        for tokens, total in running:
            for token, log_prob in enumerate(model.log_prob(row, [BOS, *tokens]).tolist()):
                if log_prob > -math.inf and (token != EOS or length >= min_length):
                    found.append(((*tokens, token), total + log_prob))
        found = sorted(found, key=lambda one: -one[1])[: 2 * beam]
        last = length + 1 == max_length
        ended += [(t, score(penalty, p, length + 1)) for t, p in found[:beam] if t[-1] == EOS or last]
        ended = sorted(ended, key=lambda one: -one[1])[:beam]
        running, before = [(t, p) for t, p in found if t[-1] != EOS][:beam], running
        if not running and not ended:
            return [(t, score(penalty, p, length)) for t, p in before]
        if last or not running:
            break
        best = torch.tensor([running[0][1]], dtype=torch.float64)
        worst = torch.tensor([ended[-1][1] if len(ended) == beam else -math.inf], dtype=torch.float64)
        if stopping.done(best, worst, length + 1, torch.tensor([max_length]), penalty).item():
            break
    return ended


def same(results, expected):
    assert [(*one.tokens, EOS) if one.finished else one.tokens for one in results] == [tokens for tokens, _ in expected]
    assert [one.score for one in results] == pytest.approx([value for _, value in expected], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 11),
    st.integers(2, 5),
    st.integers(1, 8),
    st.integers(0, 3),
    st.sampled_from(PENALTIES),
    st.sampled_from(RULES),
)
def test_equals_a_search_written_with_lists(toys, seed, vocabulary, beam, max_length, min_length, penalty, stopping):
    table = toys.markov_table(3, vocabulary, seed, sharpness=1.5)
    if seed % 3 == 0:  # ties in plenty
        table = (2 * table).round() / 2
    if seed % 2:  # impossible tokens
        table[table < table.median()] = -math.inf
    model = toys.Markov(table)
    rules = {"beam": beam, "penalty": penalty, "stopping": stopping, "min_length": min(min_length, max_length)}
    results = search(model, [0, 1, 2], nbest=beam, max_length=max_length, **rules)
    for row in range(3):
        same(results[row], by_hand(model, row, max_length=max_length, **rules))


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("stopping", [WhenCertain(), WhenFull()])
def test_a_beam_as_wide_as_the_space_finds_the_optimum(toys, penalty, stopping):
    model = toys.Hashing(vocabulary=3, eos=EOS)
    limits = {"max_length": 5, "min_length": 1}
    found = search(model, ROWS, beam=97, nbest=97, penalty=penalty, stopping=stopping, **limits)
    for row, results in zip(ROWS, found, strict=True):
        everything = toys.space(model, row, vocabulary=3, bos=BOS, eos=EOS, **limits)
        ranked = sorted(((score(penalty, sum(p), len(p)), t, done) for t, done, p in everything), reverse=True)
        assert len(results) == len(ranked)
        for one, (value, tokens, finished) in zip(results, ranked, strict=True):
            assert (one.tokens, one.finished) == (tokens, finished)
            assert one.score == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("stopping", RULES)
def test_batched_is_one_by_one(toys, stopping):
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=2.0)
    maxima = [11, 3, 7, 5, 2, 17, 1]
    together = search(model, ROWS, nbest=3, stopping=stopping, max_length=torch.tensor(maxima))
    alone = [
        search(model, [row], nbest=3, stopping=stopping, max_length=maximum)[0]
        for row, maximum in zip(ROWS, maxima, strict=True)
    ]
    assert together == alone
    assert all(len(one.tokens) <= maximum for few, maximum in zip(together, maxima, strict=True) for one in few)


@pytest.mark.parametrize("stopping", RULES)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_best_do_not_depend_on_how_many_are_asked_for(toys, penalty, stopping):
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=1.0)
    rules = {"beam": 5, "penalty": penalty, "stopping": stopping}
    five = search(model, ROWS, nbest=5, **rules)
    for nbest in range(1, 5):
        assert search(model, ROWS, nbest=nbest, **rules) == [few[:nbest] for few in five]
    for few in five:
        assert [one.score for one in few] == sorted((one.score for one in few), reverse=True)
        assert len({one.tokens for one in few}) == 5


def test_states_follow_their_hypotheses(toys):
    model = toys.Hashing(vocabulary=7, eos=EOS, eos_bonus=0.5)
    results = search(model, ROWS, beam=5, nbest=5, max_length=13)
    assert model.positions == list(range(len(model.positions)))
    assert {one.finished for few in results for one in few} == {True, False}
    for row, few in zip(ROWS, results, strict=True):
        for one in few:
            whole = [BOS, *one.tokens] + ([EOS] if one.finished else [])
            terms = [model.log_prob(row, whole[:n])[whole[n]].item() for n in range(1, len(whole))]
            assert list(one.token_log_probs) == terms
            assert one.log_prob == pytest.approx(sum(terms), abs=1e-12)
            assert one.score == pytest.approx(sum(terms) / len(terms), abs=1e-12)


def test_lengths_are_obeyed(toys):
    model = toys.Hashing(vocabulary=7, eos=EOS, eos_bonus=3.0)
    for few in search(model, ROWS, nbest=3, min_length=4, max_length=6):
        assert all(4 <= len(one.tokens) <= 6 for one in few)
        assert all(EOS not in one.tokens for one in few)
    assert any(len(few[0].tokens) < 4 for few in search(model, ROWS, max_length=6))
    assert [few[0].tokens == () for few in search(model, ROWS, max_length=1)].count(True) > 0
    # A sentence's own maximum is stronger than the minimum of all.
    short, long = search(model, ROWS[:2], min_length=4, max_length=torch.tensor([2, 9]))
    assert len(short[0].tokens) == 2 and not short[0].finished and len(long[0].tokens) >= 4


def test_finished_sentences_leave_the_batch_with_all_their_hypotheses(toys):
    model = toys.Hashing(vocabulary=11, eos=EOS, eos_bonus=-20.0)
    search(model, ROWS, beam=3, max_length=torch.tensor([5, 1, 3, 3, 2, 5, 4]))
    assert model.seen == [7, 6 * 3, 5 * 3, 3 * 3, 2 * 3]
    model = toys.Hashing(vocabulary=11, eos=EOS, eos_bonus=1.0)
    search(model, ROWS, beam=3, max_length=29, stopping=WhenFull())
    assert model.seen[1:] == sorted(model.seen[1:], reverse=True) and len(set(model.seen[1:])) > 2
    assert all(rows % 3 == 0 for rows in model.seen[1:])


def test_sequences_of_probability_zero_are_not_returned(toys):
    table = torch.full((3, 5, 5), -math.inf, dtype=torch.float64)
    table[0, BOS, 2], table[0, BOS, 3] = math.log(0.6), math.log(0.4)
    table[0, 2, EOS] = 0.0  # 3 leads nowhere: one sequence exists
    table[1, BOS, 2], table[1, BOS, 3] = math.log(0.3), math.log(0.7)  # both lead nowhere: both are cut
    model = toys.Markov(table)  # sentence 2 has no beginning at all
    one, two, none = search(model, [0, 1, 2], beam=3, nbest=3)
    assert [(h.tokens, h.finished) for h in one] == [((2,), True)]
    assert [(h.tokens, h.finished) for h in two] == [((3,), False), ((2,), False)]
    assert two[0].token_log_probs == (math.log(0.7),)
    assert [(h.tokens, h.finished, h.score, h.log_prob) for h in none] == [((), False, 0.0, 0.0)]
    # `eos` forbidden where nothing else is possible: cut as well.
    assert [(h.tokens, h.finished) for h in search(model, [0], beam=3, min_length=2)[0]] == [((2,), False)]


def test_cut_sequences_are_their_own_after_others_have_left(toys):
    table = torch.full((5, 11, 11), -math.inf, dtype=torch.float64)
    for row in range(5):
        table[row, BOS, 2 + row], table[row, 2 + row, 3 + row] = -0.1, -0.2  # then nothing
    results = search(toys.Markov(table), [0, 1, 2, 3, 4], nbest=3, max_length=torch.tensor([2, 7, 1, 7, 7]))
    assert [[one.tokens for one in few] for few in results] == [[(2, 3)], [(3, 4)], [(4,)], [(5, 6)], [(6, 7)]]
    assert not any(one.finished for few in results for one in few)


def test_copied_tokens_come_back(toys):
    """A model may offer ids beyond its vocabulary, and more at some steps than at others."""

    class Copying(type(toys.Hashing(5, EOS))):
        def step(self, tokens, state):
            log_probs, state = super().step(tokens % self.vocabulary, state)
            extra = torch.full((tokens.shape[0], state.position), -0.01 * state.position)
            return torch.cat((log_probs, extra.double()), 1), state

    model = Copying(vocabulary=5, eos=EOS)
    for few in search(model, [3, 7], beam=3, max_length=3):
        assert all(5 <= token < 5 + n for n, token in enumerate(few[0].tokens, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beam": 0}, "beam is 0"),
        ({"nbest": 4}, "nbest is 4.*beam, 3"),
        ({"nbest": 0}, "nbest is 0"),
        ({"max_length": 0}, "max_length is 0"),
    ],
)
def test_arguments_are_checked(toys, changes, message):
    model = toys.Hashing(vocabulary=5, eos=EOS)
    with pytest.raises(ArgumentError, match=message):
        search(model, ROWS, **changes)
    assert model.seen == []


def test_no_sentences(toys):
    assert search(toys.Hashing(vocabulary=5, eos=EOS), []) == []


def test_single_precision_is_near_double(toys):
    table = toys.markov_table(5, 17, 3)
    double = search(toys.Markov(table), [0, 1, 2, 3, 4], beam=5, nbest=5)
    single = search(toys.Markov(table.float()), [0, 1, 2, 3, 4], beam=5, nbest=5)
    for exact, near in zip(double, single, strict=True):
        assert [one.tokens for one in exact] == [one.tokens for one in near]
        assert [one.score for one in exact] == pytest.approx([one.score for one in near], abs=1e-5)
