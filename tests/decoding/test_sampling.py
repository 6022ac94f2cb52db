"""Sampling against distributions computed exactly, by enumerating every sequence of a small Markov chain."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.decoding import Greedy, Limits, MinP, Sampling, TopK, TopP, sample
from regard.decoding.sampling import gumbel, tempered
from regard.errors import ArgumentError

BOS, EOS = 0, 1
CHOICES = {
    "plain": {},
    "cold": {"temperature": 0.6},
    "hot": {"temperature": 1.9},
    "top-k": {"filters": (TopK(2),)},
    "top-p": {"filters": (TopP(0.75),)},
    "min-p": {"filters": (MinP(0.35),)},
    "all": {"temperature": 1.4, "filters": (TopK(4), TopP(0.85), MinP(0.2))},
}


def draw(model, rows, **changes):
    arguments = {"keys": [7 + row for row in rows], "bos": BOS, "eos": EOS, "max_length": 7} | changes
    return sample(model, model.start(rows), **arguments)


def distribution(log_probs, temperature=1.0, filters=()):
    """What tokens are drawn from, with Python lists; ties are ranked by lower id."""
    weights = [math.exp(value / temperature) if value > -math.inf else 0.0 for value in log_probs]
    for one in filters:
        total = sum(weights)
        weights = [weight / total for weight in weights]
        ranked = sorted(range(len(weights)), key=lambda token: (-weights[token], token))
        if isinstance(one, TopK):
            kept = ranked[: one.k]
        elif isinstance(one, TopP):
            kept = [token for i, token in enumerate(ranked) if sum(weights[t] for t in ranked[:i]) < one.p]
        else:
            kept = [token for token in ranked if weights[token] >= one.p * weights[ranked[0]]]
        weights = [weight if token in kept else 0.0 for token, weight in enumerate(weights)]
    total = sum(weights)
    return [weight / total for weight in weights]


def exact(model, row, *, max_length, min_length=0, **options):
    """The probability of every sequence: tokens, `eos` last if it ended."""
    ended, running = {}, {(): 1.0}
    for length in range(max_length):
        longer = {}
        for tokens, probability in running.items():
            log_probs = model.log_prob(row, [BOS, *tokens]).tolist()
            if length < min_length:
                log_probs[EOS] = -math.inf
            for token, share in enumerate(distribution(log_probs, **options)):
                (ended if token == EOS else longer)[(*tokens, token)] = probability * share
        running = longer
    return {tokens: value for tokens, value in (ended | running).items() if value > 0}


def p_value(counts, probabilities):
    """Pearson's chi-square test: how probable a fit as bad as this one is, if the probabilities are true."""
    total = sum(counts.values())
    assert set(counts) <= set(probabilities)  # what is impossible was never drawn
    # rare sequences together: the test wants some of each class
    classes = [(counts.get(key, 0), total * value) for key, value in probabilities.items()]
    common = [one for one in classes if one[1] >= 5]
    rare = [one for one in classes if one[1] < 5]
    if rare:
        common.append((sum(count for count, _ in rare), sum(expected for _, expected in rare)))
    if len(common) == 1:
        return 1.0
    statistic = sum((count - expected) ** 2 / expected for count, expected in common)
    halves = torch.tensor([(len(common) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(halves[0], halves[1]))


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("model", ["markov", "hashing"])
def test_frequencies_are_the_exact_probabilities(toys, model, choice):
    """Over samples of one sentence, and over sentences of one sample each."""
    options, limits = CHOICES[choice], {"max_length": 3, "min_length": 1}
    count = 6000
    toy = toys.Markov(toys.markov_table(1, 5, 31)) if model == "markov" else toys.Hashing(5, EOS)
    one = draw(toy, [0], samples=count, **options, **limits)[0]
    many = [found for (found,) in draw(toy, [0] * count, keys=range(count), **options, **limits)]
    wanted = exact(toy, 0, **options, **limits)
    assert math.isclose(sum(wanted.values()), 1.0)
    for results in (one, many):
        counts = {}
        for found in results:
            tokens = (*found.tokens, EOS) if found.finished else found.tokens
            counts[tokens] = counts.get(tokens, 0) + 1
        assert p_value(counts, wanted) > 0.001


def test_the_test_of_frequencies_would_notice(toys):
    toy = toys.Markov(toys.markov_table(1, 5, 31))
    counts = {}
    for found in draw(toy, [0], samples=6000, temperature=1.3, max_length=3)[0]:
        tokens = (*found.tokens, EOS) if found.finished else found.tokens
        counts[tokens] = counts.get(tokens, 0) + 1
    assert p_value(counts, exact(toy, 0, max_length=3, temperature=1.3)) > 0.001
    assert p_value(counts, exact(toy, 0, max_length=3)) < 0.001


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=7).filter(any),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.lists(
        st.one_of(
            st.builds(TopK, st.integers(1, 8)),
            st.builds(TopP, st.sampled_from([0.05, 0.3721, 0.71234, 0.9301, 1.0])),
            st.builds(MinP, st.sampled_from([0.1001, 0.3001, 0.7501, 1.0])),
        ),
        max_size=3,
    ),
)
def test_filters_are_those_written_with_lists(weights, temperature, filters):
    log_probs = torch.tensor([weights], dtype=torch.float64).log().log_softmax(1)  # ties, and impossible tokens
    found = tempered(log_probs, temperature, filters)
    assert found.exp()[0].tolist() == pytest.approx(distribution(log_probs[0].tolist(), temperature, filters))
    assert int((found > -torch.inf).sum()) >= 1


def test_the_best_token_is_always_kept_and_ties_go_to_the_lower_id():
    level = torch.full((1, 300), 1 / 300, dtype=torch.float64).log()
    assert TopK(3).kept(level)[0].nonzero().flatten().tolist() == [0, 1, 2]
    assert TopP(0.0101).kept(level)[0].nonzero().flatten().tolist() == [0, 1, 2, 3]
    assert TopP(1e-9).kept(level)[0].nonzero().flatten().tolist() == [0]
    assert int(TopP(0.901).kept(level).sum()) == 271  # more than are ranked at first
    assert TopP(1.0).kept(level).all() and MinP(1.0).kept(level).all() and TopK(999).kept(level).all()


@pytest.mark.parametrize("choice", CHOICES)
def test_a_sample_depends_on_nothing_but_its_sentence_key_and_number(toys, choice):
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=1.5)
    rows, maxima = [13, 2, 5, 2, 17, 19, 23], torch.tensor([11, 3, 7, 5, 2, 17, 1])
    keys = [row + 2**63 for row in rows]
    together = draw(model, rows, keys=keys, samples=5, max_length=maxima, **CHOICES[choice])
    for i, row in enumerate(rows):
        for samples in (1, 3):
            (alone,) = draw(model, [row], keys=[keys[i]], samples=samples, max_length=int(maxima[i]), **CHOICES[choice])
            assert alone == together[i][:samples]
    turned = draw(model, rows[::-1], keys=keys[::-1], samples=5, max_length=maxima.flip(0), **CHOICES[choice])
    assert turned[::-1] == together
    others = [key + 1 for key in keys]
    assert draw(model, rows, keys=others, samples=5, max_length=maxima, **CHOICES[choice]) != together


def test_samples_leave_when_done_and_read_one_memory(toys):
    model = toys.Hashing(vocabulary=11, eos=EOS, eos_bonus=1.0)
    few = draw(model, [3, 5, 8], samples=7, max_length=29)
    assert model.seen[0] == 3 and model.seen[1] <= 21
    assert model.seen[1:] == sorted(model.seen[1:], reverse=True) and len(set(model.seen)) > 3
    assert model.positions == list(range(len(model.positions)))
    assert len(model.seen) == max(len(one.token_log_probs) for row in few for one in row)
    # no slot is kept for a sample when all sentences have one that is done: the last steps are of one or two rows
    assert model.seen[-1] <= 3


def test_log_probabilities_are_the_models_own(toys):
    model = toys.Hashing(vocabulary=7, eos=EOS, eos_bonus=0.5)
    rows = [13, 2, 5]
    results = draw(model, rows, samples=5, max_length=6, temperature=1.7, filters=(TopK(3),))
    assert {one.finished for few in results for one in few} == {True, False}
    for row, few in zip(rows, results, strict=True):
        for one in few:
            whole = [BOS, *one.tokens] + ([EOS] if one.finished else [])
            terms = [model.log_prob(row, whole[:n])[whole[n]].item() for n in range(1, len(whole))]
            assert list(one.token_log_probs) == terms
            assert one.log_prob == one.score == pytest.approx(sum(terms), abs=1e-12)


@pytest.mark.parametrize("options", [{"temperature": 1e-300}, {"filters": (TopK(1),)}, {"filters": (TopP(1e-9),)}])
def test_cold_or_strict_sampling_is_greedy(toys, options):
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=1.0)
    rows = [13, 2, 5, 17]
    limits = Limits(BOS, EOS, 9, min_length=2, keys=(1, 2, 3, 4))
    greedy = Greedy().run(model, model.start(rows), limits)
    assert Sampling(**options).run(model, model.start(rows), limits) == greedy


def test_lengths_are_obeyed(toys):
    model = toys.Hashing(vocabulary=7, eos=EOS, eos_bonus=3.0)
    for few in draw(model, [3, 4, 5], samples=9, min_length=4, max_length=6):
        assert all(4 <= len(one.tokens) <= 6 for one in few)
    short, long = draw(model, [3, 4], samples=4, min_length=4, max_length=torch.tensor([2, 9]))
    assert all(len(one.tokens) == 2 and not one.finished for one in short)
    assert all(len(one.tokens) >= 4 for one in long)


def test_where_nothing_is_possible_the_sequence_is_cut(toys):
    table = torch.full((2, 4, 4), -math.inf, dtype=torch.float64)
    table[0, BOS, 2], table[0, BOS, 3] = math.log(0.5), math.log(0.5)  # then nothing
    model = toys.Markov(table)
    some, none = draw(model, [0, 1], samples=9, filters=(TopP(0.9),))
    assert {(one.tokens, one.log_prob, one.finished) for one in some} == {
        ((2,), math.log(0.5), False),
        ((3,), math.log(0.5), False),
    }
    assert {(one.tokens, one.log_prob, one.token_log_probs, one.finished) for one in none} == {((), 0.0, (), False)}


def test_a_vocabulary_that_grows_gives_the_same_noise_to_the_same_tokens(toys):
    few, many = gumbel([5, 9], [0, 2], 3, 10), gumbel([5, 9], [0, 2], 3, 17)
    assert torch.equal(few, many[:, :10])
    assert torch.equal(gumbel([9], [2], 3, 17)[0], many[1])


def test_noise_is_gumbel_and_the_same_for_ever():
    # If these change, so do all texts that were ever drawn with a seed.
    drawn = gumbel([5], [1], 2, 3)[0].tolist()
    raw = np.random.Philox(key=[5, 1], counter=[0, 2, 0, 0]).random_raw(3)
    assert drawn == pytest.approx([-math.log(-math.log(((int(x) >> 12) + 0.5) / 2**52)) for x in raw], rel=1e-12)
    noise = gumbel([2**64 - 1], [0], 0, 100_000)[0]
    assert bool(noise.isfinite().all())
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, abs=0.03)


def test_no_sentences(toys):
    assert draw(toys.Hashing(vocabulary=5, eos=EOS), []) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(toys, bad):
    table = toys.markov_table(2, 5, 1)
    table[1, :, 4] = bad
    with pytest.raises(ArgumentError, match=r"NaN or \+inf at step 0"):
        draw(toys.Markov(table), [0, 1], samples=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0}, "temperature is 0.*greedy"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"samples": 0}, "samples is 0"),
        ({"keys": [1]}, "keys: 1 for 2 sentences"),
        ({"keys": [1, -1]}, "from 0 to"),
        ({"max_length": 0}, "max_length is 0"),
    ],
)
def test_arguments_are_checked(toys, changes, message):
    model = toys.Hashing(vocabulary=5, eos=EOS)
    with pytest.raises(ArgumentError, match=message):
        draw(model, [0, 1], **changes)
    assert model.seen == []


@pytest.mark.parametrize("make", [lambda: TopK(0), lambda: TopP(0.0), lambda: TopP(1.1), lambda: MinP(-0.1)])
def test_filters_check_their_numbers(make):
    with pytest.raises(ArgumentError, match="expected"):
        make()
