"""Rules against the same rules written with Python lists, under every search."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regard.decoding import (
    Average,
    Beam,
    Forbidden,
    ForcedPrefix,
    Greedy,
    Limits,
    NoPenalty,
    NoRepeatNgram,
    RepetitionPenalty,
    Ruled,
    Sampling,
    WhenCertain,
)
from regard.errors import ArgumentError

BOS, EOS = 0, 1
RULES = [
    NoRepeatNgram(1),
    NoRepeatNgram(2),
    NoRepeatNgram(3),
    RepetitionPenalty(1.6),
    RepetitionPenalty(0.5),
    Forbidden(((2,), (3, 3), (0, 2, 0))),
]


@dataclass
class ByHand:
    """A toy's log-probabilities after rules, one hypothesis at a time."""

    model: object
    rules: list
    prefixes: dict

    def log_prob(self, row, prefix) -> Tensor:
        own = self.model.log_prob(row, prefix).tolist()
        said, values = prefix[1:], list(own)
        for rule in self.rules:
            for token in range(len(values)):
                longer = [*said, token]
                if isinstance(rule, NoRepeatNgram):
                    grams = [longer[i : i + rule.n] for i in range(len(longer) - rule.n + 1)]
                    banned = bool(grams) and grams[-1] in grams[:-1]
                elif isinstance(rule, Forbidden):
                    banned = any(longer[-len(phrase) :] == list(phrase) for phrase in rule.phrases)
                else:
                    banned = False
                    values[token] *= rule.r if token in said else 1
                if banned:
                    values[token] = -math.inf
        forced = self.prefixes.get(row, ())
        if len(said) < len(forced):
            values = [own[token] if token == forced[len(said)] else -math.inf for token in range(len(own))]
        return torch.tensor(values, dtype=torch.float64)


def best_of_all(toys, model, row, penalty, **limits):
    """The best sequences of the whole space, best first: those that end, and those cut at the greatest length."""
    everything = toys.space(model, row, bos=BOS, eos=EOS, **limits)
    scored = [
        (float(penalty.score(torch.tensor(sum(terms), dtype=torch.float64), len(terms))), tokens, done)
        for tokens, done, terms in everything
    ]
    return sorted((one for one in scored if one[0] > -math.inf), reverse=True)


@pytest.mark.parametrize("penalty", [NoPenalty(), Average()])
@pytest.mark.parametrize(
    ("rules", "prefixes"),
    [*(([rule], {}) for rule in RULES), (RULES[2:4], {0: (2, 2), 1: (3,)}), ([RULES[0]], {0: (2, 2, 2), 2: (3, 0)})],
)
def test_a_beam_as_wide_as_the_space_finds_the_best_that_keeps_the_rules(toys, rules, prefixes, penalty):
    toy = toys.Hashing(vocabulary=4, eos=EOS)
    rows, limits = [0, 1, 2], {"max_length": 4, "min_length": 1}
    forced = ForcedPrefix(tuple(prefixes.get(row, ()) for row in rows))
    model = Ruled(toy, [*rules, forced])
    search = Beam(260, nbest=260, penalty=penalty, stopping=WhenCertain())
    results = search.run(model, model.start(rows), Limits(BOS, EOS, **limits))
    for row, found in zip(rows, results, strict=True):
        wanted = best_of_all(toys, ByHand(toy, rules, prefixes), row, penalty, vocabulary=4, **limits)
        assert [(one.tokens, one.finished) for one in found] == [(tokens, done) for _, tokens, done in wanted]
        assert [one.score for one in found] == pytest.approx([value for value, _, _ in wanted], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.sampled_from(RULES), max_size=3),
    st.dictionaries(st.integers(0, 2), st.lists(st.sampled_from([0, 2, 3, 4]), max_size=5).map(tuple)),
    st.sampled_from([Greedy(), Beam(3, nbest=3), Sampling(temperature=0.8, samples=3)]),
)
def test_every_step_of_every_search_keeps_the_rules(toys, seed, rules, prefixes, search):
    toy = toys.Markov(toys.markov_table(3, 5, seed, sharpness=2.0))
    rows = [0, 1, 2]
    model = Ruled(toy, [*rules, ForcedPrefix(tuple(prefixes.get(row, ()) for row in rows))])
    by_hand = ByHand(toy, rules, prefixes)
    results = search.run(model, model.start(rows), Limits(BOS, EOS, 9, keys=(seed, 1, 2)))
    for row, few in zip(rows, results, strict=True):
        for one in few:
            whole = [BOS, *one.tokens] + ([EOS] if one.finished else [])
            terms = [by_hand.log_prob(row, whole[:n])[whole[n]].item() for n in range(1, len(whole))]
            assert -math.inf not in terms
            assert list(one.token_log_probs) == pytest.approx(terms, abs=1e-12)
            forced = prefixes.get(row, ())
            assert one.tokens[: len(forced)] == forced
    (again,) = search.run(Ruled(toy, rules), Ruled(toy, rules).start([1]), Limits(BOS, EOS, 9, keys=(1,)))
    if not prefixes.get(1):
        assert again == results[1]  # whatever the batch


def test_where_rules_leave_nothing_the_sequence_is_cut(toys):
    model = Ruled(toys.Hashing(vocabulary=3, eos=EOS), [NoRepeatNgram(1), Forbidden(((EOS,),))])
    for search in (Greedy(), Beam(2), Sampling(samples=2)):
        for one in search.run(model, model.start([4]), Limits(BOS, EOS, 9, keys=(5,)))[0]:
            assert sorted(one.tokens) == [0, 2] and not one.finished


def test_no_rules_change_nothing(toys):
    toy = toys.Hashing(vocabulary=7, eos=EOS, eos_bonus=1.0)
    model = Ruled(toy, [ForcedPrefix(((), ()))])
    limits = Limits(BOS, EOS, 9)
    assert Beam(3, nbest=3).run(model, model.start([3, 4]), limits) == Beam(3, nbest=3).run(
        toy, toy.start([3, 4]), limits
    )


def test_rules_can_be_put_around_rules(toys):
    toy = toys.Hashing(vocabulary=7, eos=EOS)
    inner = Ruled(toy, [NoRepeatNgram(2), ForcedPrefix(((2, 3), (4,)))])
    outer, flat = Ruled(inner, [Forbidden(((5,),))]), Ruled(toy, [*inner.rules, Forbidden(((5,),))])
    limits = Limits(BOS, EOS, 9)
    assert Beam(3).run(outer, outer.start([3, 4]), limits) == Beam(3).run(flat, flat.start([3, 4]), limits)


@pytest.mark.parametrize("search", [Greedy(), Beam(3, nbest=2), Sampling(samples=2)])
def test_rules_do_not_mind_where_positions_begin(toys, search):
    """A model that has read a prompt begins at another position than 0."""
    toy = toys.Hashing(vocabulary=7, eos=EOS)

    class Prompted(type(toy)):
        def start(self, batch):
            return replace(super().start(batch), position=5)

    rules = [NoRepeatNgram(1), ForcedPrefix(((2, 3), ()))]
    wanted, found = (
        search.run(model, model.start([3, 4]), Limits(BOS, EOS, 6, keys=(1, 2)))
        for model in (Ruled(toy, rules), Ruled(Prompted(7, EOS), rules))
    )
    assert found == wanted and all(one.tokens[:2] == (2, 3) for one in found[0])


def test_a_maximum_cuts_a_prefix(toys):
    model = Ruled(toys.Hashing(vocabulary=7, eos=EOS), [ForcedPrefix(((2, 3, 4), ()))])
    found = Beam(2).run(model, model.start([3, 4]), Limits(BOS, EOS, torch.tensor([2, 5])))
    assert found[0][0].tokens == (2, 3) and not found[0][0].finished


def test_a_prefix_may_end_within_a_longer_token(toys):
    """Place 1 asks for token 4, or for any of 2, 5 and 6, whose ranks are 3 to 5: then the hypothesis is free."""
    table = toys.markov_table(2, 7, 5)
    toy = toys.Markov(table)
    ranks = torch.tensor([0, 1, 3, 2, 6, 4, 5])
    rule = ForcedPrefix(((3, 4, 3), ()), (((0, 0), (3, 6), (0, 0)), ()), ranks)
    model = Ruled(toy, [rule])
    limits = Limits(BOS, EOS, 3)
    found, free = Beam(400, nbest=400, penalty=NoPenalty(), stopping=WhenCertain()).run(
        model, model.start([0, 1]), limits
    )
    begins = {(3, 4, 3)} | {(3, second, third) for second in (2, 5, 6) for third in (0, 2, 3, 4, 5, 6)}
    ends = {(3, second) for second in (2, 5, 6)}
    assert {one.tokens for one in found if not one.finished} == begins
    assert {one.tokens for one in found if one.finished} == ends
    assert len(free) == 1 + 6 + 36 + 216
    for one in found:
        whole = [BOS, *one.tokens] + ([EOS] if one.finished else [])
        own = [table[0, a, b].item() for a, b in pairwise(whole)]
        assert list(one.token_log_probs) == pytest.approx(own)


def test_tokens_copied_from_the_source_disturb_no_rule(toys):
    """A model may offer ids beyond its vocabulary, and more at some steps than at others."""

    class Copying(type(toys.Hashing(5, EOS))):
        def step(self, tokens, state):
            log_probs, state = super().step(tokens % self.vocabulary, state)
            extra = torch.full((tokens.shape[0], 3 if state.position % 2 else 0), -0.001)
            return torch.cat((log_probs, extra.double()), 1), state

    rules = [NoRepeatNgram(1), RepetitionPenalty(2.0), Forbidden(((6,), (5, 2)))]
    model = Ruled(Copying(vocabulary=5, eos=EOS), [*rules, ForcedPrefix(((7,),), (((0, 0),),), torch.arange(5))])
    (few,) = Beam(3, nbest=3).run(model, model.start([3]), Limits(BOS, EOS, 6))
    for one in few:
        assert one.tokens[0] == 7 and 6 not in one.tokens and len(set(one.tokens)) == len(one.tokens)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoRepeatNgram(0), "n is 0"),
        (lambda: RepetitionPenalty(0.0), "r is 0"),
        (lambda: RepetitionPenalty(math.nan), "r is nan"),
        (lambda: RepetitionPenalty(math.inf), "r is inf"),
        (lambda: Forbidden(((2,), ())), "a phrase is empty"),
        (lambda: Forbidden(((2,), (3, -1))), r"a phrase is \(3, -1\); expected tokens, 0 or more"),
        (lambda: ForcedPrefix(((), (2, -1))), r"a prefix is \(2, -1\); expected tokens, 0 or more"),
        (lambda: ForcedPrefix(((2,),), (((0, 1),),)), "together"),
        (lambda: ForcedPrefix(((2,),), (((0, 1), (0, 1)),), torch.arange(3)), "a range for each"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_prefix_for_another_number_of_sentences_is_refused(toys):
    model = Ruled(toys.Hashing(vocabulary=5, eos=EOS), [ForcedPrefix(((2,),))])
    with pytest.raises(ArgumentError, match=r"ForcedPrefix is for .* 1.* the batch has 2"):
        model.start([3, 4])
