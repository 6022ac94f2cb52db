"""An ensemble against the mean of its members' probabilities, sequence by sequence."""

import math

import pytest
import torch

from regard.decoding import Beam, Ensemble, Greedy, Limits, NoPenalty, Ruled, Sampling, WhenCertain
from regard.decoding.ensemble import log_mean
from regard.decoding.rules import NoRepeatNgram
from regard.errors import ArgumentError

BOS, EOS = 0, 1


class Mean:
    """The members' mean, one hypothesis at a time."""

    def __init__(self, members, weights):
        self.members, self.weights = members, weights

    def log_prob(self, row, prefix):
        parts = [
            weight * each.log_prob(row, prefix).exp() for each, weight in zip(self.members, self.weights, strict=True)
        ]
        return sum(parts).log()


@pytest.fixture
def members(toys):
    """Models of different kinds, with states of their own."""
    table = toys.markov_table(5, 4, 3)
    table[:, :, 3] = -math.inf  # impossible for one is not impossible for all
    return [toys.Hashing(4, EOS), toys.Markov(table.log_softmax(2)), toys.Hashing(4, EOS, eos_bonus=2.0)]


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 5.0]])
def test_a_beam_as_wide_as_the_space_finds_the_best_of_the_mean(toys, members, weights):
    model = Ensemble(members, weights)
    mean = Mean(members, [1 / 3] * 3 if weights is None else [1 / 8, 2 / 8, 5 / 8])
    search = Beam(260, nbest=260, penalty=NoPenalty(), stopping=WhenCertain())
    results = search.run(model, model.start([0, 3]), Limits(BOS, EOS, 4))
    for row, found in zip([0, 3], results, strict=True):
        everything = toys.space(mean, row, vocabulary=4, bos=BOS, eos=EOS, max_length=4)
        wanted = sorted(((sum(terms), tokens, done) for tokens, done, terms in everything), reverse=True)
        assert [(one.tokens, one.finished) for one in found] == [(tokens, done) for _, tokens, done in wanted]
        assert [one.score for one in found] == pytest.approx([value for value, _, _ in wanted], abs=1e-12)


@pytest.mark.parametrize("search", [Greedy(), Beam(3, nbest=2), Sampling(samples=3)])
def test_an_ensemble_of_one_model_several_times_is_that_model(toys, search):
    toy = toys.Hashing(7, EOS, eos_bonus=1.0)
    model = Ensemble([toy, toy])
    limits = Limits(BOS, EOS, 9, keys=(1, 2, 3))
    one, two = search.run(toy, toy.start([3, 4, 5]), limits), search.run(model, model.start([3, 4, 5]), limits)
    for few, others in zip(one, two, strict=True):
        assert [found.tokens for found in few] == [found.tokens for found in others]
        assert [found.score for found in few] == pytest.approx([found.score for found in others], abs=1e-12)


def test_ensembles_rules_and_ensembles_of_ensembles_go_together(toys):
    a, b, c = (toys.Hashing(7, EOS, eos_bonus=bonus) for bonus in (0.0, 1.0, 2.0))
    nested = Ruled(Ensemble([Ensemble([a, b]), Ruled(c, [])], [2.0, 1.0]), [NoRepeatNgram(1)])
    flat = Ruled(Ensemble([a, b, c]), [NoRepeatNgram(1)])
    limits = Limits(BOS, EOS, 9)
    (one,), (two,) = (Beam(3).run(model, model.start([5]), limits)[0] for model in (nested, flat))
    assert one.tokens == two.tokens and one.score == pytest.approx(two.score, abs=1e-12)


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
def test_the_mean_is_taken_in_single_precision_at_least(narrow):
    members = [torch.randn(3, 50).log_softmax(1).to(narrow) for _ in range(2)]
    exact = log_mean([each.double() for each in members], [0.3, 0.7])
    mean = log_mean(members, [0.3, 0.7])
    assert mean.dtype == torch.float32 and exact.dtype == torch.float64
    assert (mean - exact).abs().max() < 1e-5


def test_probabilities_are_a_distribution_and_minus_infinity_stays(members):
    model = Ensemble(members, [3.0, 1.0, 1.0])
    log_probs, state = model.step(torch.tensor([BOS, BOS]), model.start([0, 1]))
    assert log_probs.exp().sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert state.position == 1
    nothing = [torch.full((1, 2), -math.inf)] * 2
    assert log_mean(nothing, [0.5, 0.5]).tolist() == [[-math.inf, -math.inf]]


@pytest.mark.parametrize(
    ("count", "weights", "message"),
    [
        (0, None, "0 models"),
        (2, [1.0], "2 models and 1 weights"),
        (2, [1.0, 0.0], "above 0"),
        (2, [1.0, math.inf], "above 0"),
    ],
)
def test_arguments_are_checked(toys, count, weights, message):
    with pytest.raises(ArgumentError, match=message):
        Ensemble([toys.Hashing(5, EOS)] * count, weights)


def test_members_of_different_vocabularies_are_refused(toys):
    model = Ensemble([toys.Hashing(5, EOS), toys.Hashing(6, EOS)])
    with pytest.raises(ArgumentError, match=r"\(1, 5\), \(1, 6\).*equal shapes"):
        model.step(torch.tensor([BOS]), model.start([0]))
