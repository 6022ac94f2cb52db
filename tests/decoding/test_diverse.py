import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.decoding import GNMT, Average, BeamRules, Limits, NoPenalty, WhenBehind, WhenCertain, WhenFull, beam_search
from regard.decoding.diverse import DiverseBeam, diverse_beam_search
from regard.errors import ArgumentError

BOS, EOS = 0, 1
PENALTIES = [NoPenalty(), GNMT(), Average(), Average(-0.7)]
RULES = [WhenFull(), WhenBehind(), WhenCertain()]
ROWS = [13, 2, 5, 2, 17, 19, 23]


def search(model, rows, **changes):
    given = {"beam": 6, "nbest": 1, "penalty": Average(), "stopping": WhenBehind()} | changes
    groups, strength = given.pop("groups", 3), given.pop("strength", 0.5)
    limits = Limits(BOS, EOS, given.pop("max_length", 11), given.pop("min_length", 0))
    return diverse_beam_search(model, model.start(rows), limits, BeamRules(**given), groups=groups, strength=strength)


def plain(model, rows, **changes):
    arguments = {"bos": BOS, "eos": EOS, "max_length": 11, "penalty": Average(), "stopping": WhenBehind()} | changes
    return beam_search(model, model.start(rows), **arguments)


def score(penalty, log_prob, length):
    return penalty.score(torch.tensor([log_prob], dtype=torch.float64), length).item()


class Group:
    """One group's beam, with Python lists."""

    def __init__(self, width):
        self.width = width
        self.running = [((), 0.0, 0.0)]  # tokens, log-probability, lowered by
        self.ended = []
        self.done = False

    def step(self, model, row, counts, length, *, max_length, min_length, strength, penalty, stopping):
        found = []
        for tokens, total, lowered in self.running:
            for token, log_prob in enumerate(model.log_prob(row, [BOS, *tokens]).tolist()):
                if log_prob > -math.inf and (token != EOS or length >= min_length):
                    term = strength * counts.get(token, 0)
                    rank = (total - lowered) + (log_prob - term)
                    found.append((rank, (*tokens, token), total + log_prob, lowered + term))
        found = sorted(found, key=lambda one: -one[0])[: 2 * self.width]
        last = length + 1 == max_length
        self.ended += [(t, score(penalty, p, length + 1)) for _, t, p, _ in found[: self.width] if t[-1] == EOS or last]
        self.ended = sorted(self.ended, key=lambda one: -one[1])[: self.width]
        before, self.running = self.running, [one[1:] for one in found if one[1][-1] != EOS][: self.width]
        if not self.running and not self.ended:
            cut = [(t, score(penalty, p, length)) for t, p, _ in before]
            self.ended = sorted(cut, key=lambda one: -one[1])
        self.done = last or not self.running
        if not self.done:
            full = len(self.ended) == self.width
            best = torch.tensor([max(p for _, p, _ in self.running)], dtype=torch.float64)
            worst = torch.tensor([self.ended[-1][1] if full else -math.inf], dtype=torch.float64)
            rule = WhenFull() if self.width == 1 else stopping
            self.done = rule.done(best, worst, length + 1, torch.tensor([max_length]), penalty).item()
        for tokens, _, _ in self.running:
            counts[tokens[-1]] = counts.get(tokens[-1], 0) + 1


def by_hand(model, row, *, beam, groups, max_length, **rules):
    all_groups = [Group(beam // groups) for _ in range(groups)]
    for length in range(max_length):
        counts = {}
        for group in all_groups:
            if not group.done:
                group.step(model, row, counts, length, max_length=max_length, **rules)
    different = {}
    for tokens, value in [one for group in all_groups for one in group.ended]:
        different.setdefault(tokens, value)
    return sorted(different.items(), key=lambda one: -one[1])


def same(results, expected):
    assert [(*one.tokens, EOS) if one.finished else one.tokens for one in results] == [tokens for tokens, _ in expected]
    assert [one.score for one in results] == pytest.approx([value for _, value in expected], abs=1e-12)


def test_an_example_by_hand(toys):
    """Two groups of one. 2 is the better beginning for both, until the second is kept from it."""
    table = torch.full((1, 5, 5), -math.inf, dtype=torch.float64)
    table[0, BOS, 2], table[0, BOS, 3] = math.log(0.6), math.log(0.4)
    table[0, 2, 4], table[0, 2, EOS] = math.log(0.7), math.log(0.3)
    table[0, 3, 4], table[0, 3, EOS] = math.log(0.55), math.log(0.45)
    table[0, 4, EOS] = 0.0
    model = toys.Markov(table)

    def found(strength):
        results = search(model, [0], beam=2, groups=2, nbest=2, strength=strength, penalty=NoPenalty())[0]
        return [(one.tokens, one.finished, one.log_prob) for one in results]

    first = ((2, 4), True, pytest.approx(math.log(0.6 * 0.7)))
    # log 0.6 - 0.3 is more than log 0.4: it takes 2 too; log 0.7 - 0.3 is more than log 0.3: and 4.
    assert found(0.3) == [first]
    # log 0.6 - 0.5 is less than log 0.4: it takes 3. log 0.55 - 0.5 is less than log 0.45: it ends.
    assert found(0.5) == [first, ((3,), True, pytest.approx(math.log(0.4 * 0.45)))]


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 9),
    st.sampled_from([(2, 2), (3, 3), (4, 2), (6, 3), (6, 2)]),
    st.integers(1, 7),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.5, 1.0, 8.0, 0.3]),
    st.sampled_from(PENALTIES),
    st.sampled_from(RULES),
)
def test_equals_a_search_written_with_lists(
    toys, seed, vocabulary, widths, max_length, min_length, strength, penalty, stopping
):
    table = toys.markov_table(3, vocabulary, seed, sharpness=1.5)
    if seed % 3 == 0 and strength != 0.3:  # ties in plenty, in numbers without rounding
        table = (2 * table).round() / 2
    if seed % 2:  # impossible tokens
        table[table < table.median()] = -math.inf
    model = toys.Markov(table)
    beam, groups = widths
    rules = {"penalty": penalty, "stopping": stopping, "min_length": min(min_length, max_length), "strength": strength}
    results = search(model, [0, 1, 2], beam=beam, groups=groups, nbest=beam, max_length=max_length, **rules)
    for row in range(3):
        same(results[row], by_hand(model, row, beam=beam, groups=groups, max_length=max_length, **rules))


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("stopping", RULES)
def test_the_end_is_decided_by_the_models_own_log_probabilities(toys, stopping, penalty):
    """With room to go on after enough have ended."""
    model = toys.Hashing(vocabulary=7, eos=EOS, eos_bonus=1.5)
    rules = {"strength": 1.7, "penalty": penalty, "stopping": stopping, "min_length": 0, "max_length": 12}
    found = search(model, list(range(24)), nbest=6, beam=6, groups=2, **rules)
    for row, results in enumerate(found):
        same(results, by_hand(model, row, beam=6, groups=2, **rules))


@pytest.mark.parametrize("beam", [1, 4])
def test_one_group_is_beam_search(toys, beam):
    model = toys.Hashing(vocabulary=11, eos=EOS, eos_bonus=1.0)
    assert search(model, ROWS, beam=beam, groups=1, nbest=beam, strength=3.0) == plain(
        model, ROWS, beam=beam, nbest=beam
    )


@pytest.mark.parametrize("stopping", RULES)
@pytest.mark.parametrize("width", [1, 2, 5])
def test_without_strength_every_group_is_a_beam_search(toys, width, stopping):
    model = toys.Hashing(vocabulary=11, eos=EOS, eos_bonus=1.0)
    expected = plain(model, ROWS, beam=width, nbest=width, stopping=stopping)
    assert search(model, ROWS, beam=3 * width, nbest=3 * width, strength=0.0, stopping=stopping) == expected


@pytest.mark.parametrize("stopping", RULES)
def test_the_first_group_is_a_beam_search(toys, stopping):
    model = toys.Hashing(vocabulary=11, eos=EOS, eos_bonus=1.0)
    first = plain(model, ROWS, beam=2, nbest=2, stopping=stopping)
    merged = search(model, ROWS, nbest=6, stopping=stopping)
    assert all(set(few) <= set(many) for few, many in zip(first, merged, strict=True))
    assert all(len(many) > 2 for many in merged)


def test_a_great_strength_makes_all_beginnings_different(toys):
    model = toys.Hashing(vocabulary=13, eos=EOS)
    results = search(model, ROWS, beam=5, groups=5, nbest=5, strength=1000.0, min_length=3, max_length=3)
    for few in results:
        for place in range(3):
            assert len({one.tokens[place] for one in few}) == 5


@pytest.mark.parametrize("stopping", RULES)
def test_batched_is_one_by_one(toys, stopping):
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=2.0)
    maxima = [11, 3, 7, 5, 2, 17, 1]
    together = search(model, ROWS, nbest=6, stopping=stopping, max_length=torch.tensor(maxima))
    alone = [
        search(model, [row], nbest=6, stopping=stopping, max_length=maximum)[0]
        for row, maximum in zip(ROWS, maxima, strict=True)
    ]
    assert together == alone


def test_the_best_do_not_depend_on_how_many_are_asked_for(toys):
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=1.0)
    six = search(model, ROWS, nbest=6)
    for nbest in range(1, 6):
        assert search(model, ROWS, nbest=nbest) == [few[:nbest] for few in six]
    for few in six:
        assert [one.score for one in few] == sorted((one.score for one in few), reverse=True)
        assert len({one.tokens for one in few}) == len(few)


def test_scores_are_the_models_own(toys):
    model = toys.Hashing(vocabulary=7, eos=EOS, eos_bonus=0.5)
    results = search(model, ROWS, nbest=6, strength=0.7, max_length=13)
    assert model.positions == list(range(len(model.positions)))
    for row, few in zip(ROWS, results, strict=True):
        for one in few:
            whole = [BOS, *one.tokens] + ([EOS] if one.finished else [])
            terms = [model.log_prob(row, whole[:n])[whole[n]].item() for n in range(1, len(whole))]
            assert list(one.token_log_probs) == terms
            assert one.log_prob == pytest.approx(sum(terms), abs=1e-12)
            assert one.score == pytest.approx(sum(terms) / len(terms), abs=1e-12)


def test_one_call_of_step_for_all_groups(toys):
    model = toys.Hashing(vocabulary=11, eos=EOS, eos_bonus=-20.0)
    search(model, ROWS, max_length=torch.tensor([5, 1, 3, 3, 2, 5, 4]))
    assert model.seen == [7 * 3, 6 * 6, 5 * 6, 3 * 6, 2 * 6]


def test_a_group_that_is_stuck_is_cut_where_it_is(toys):
    table = torch.full((1, 6, 6), -math.inf, dtype=torch.float64)
    table[0, BOS, 2], table[0, BOS, 3] = math.log(0.5), math.log(0.5)  # 3 leads nowhere
    table[0, 2, 4], table[0, 4, 5], table[0, 5, EOS] = 0.0, 0.0, 0.0
    results = search(toys.Markov(table), [0], beam=2, groups=2, nbest=2, strength=1.0, penalty=NoPenalty())[0]
    assert [(one.tokens, one.finished) for one in results] == [((2, 4, 5), True), ((3,), False)]


def test_as_an_object(toys):
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=1.0)
    object_ = DiverseBeam(6, 3, strength=0.9, nbest=4, penalty=GNMT(), stopping=WhenFull())
    found = object_.run(model, model.start(ROWS), Limits(BOS, EOS, 9, 2))
    assert found == search(
        model, ROWS, strength=0.9, nbest=4, penalty=GNMT(), stopping=WhenFull(), max_length=9, min_length=2
    )
    assert DiverseBeam(4, 2) == DiverseBeam(4, 2, 0.5, 1, Average(), WhenBehind())


def test_no_sentences(toys):
    assert search(toys.Hashing(vocabulary=5, eos=EOS), []) == []


def test_single_precision_is_near_double(toys):
    table = toys.markov_table(5, 17, 3)
    double = search(toys.Markov(table), [0, 1, 2, 3, 4], nbest=6)
    single = search(toys.Markov(table.float()), [0, 1, 2, 3, 4], nbest=6)
    for exact, near in zip(double, single, strict=True):
        assert [one.tokens for one in exact] == [one.tokens for one in near]
        assert [one.score for one in exact] == pytest.approx([one.score for one in near], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beam": 0}, "beam is 0"),
        ({"groups": 0}, "groups is 0"),
        ({"groups": 4}, "groups is 4.*divisor of the beam, 6"),
        ({"strength": -0.1}, "strength is -0.1"),
        ({"strength": math.nan}, "strength is nan"),
        ({"strength": math.inf}, "strength is inf"),
        ({"nbest": 7}, "nbest is 7.*beam, 6"),
        ({"nbest": 0}, "nbest is 0"),
        ({"max_length": 0}, "max_length is 0"),
    ],
)
def test_arguments_are_checked(toys, changes, message):
    model = toys.Hashing(vocabulary=5, eos=EOS)
    with pytest.raises(ArgumentError, match=message):
        search(model, ROWS, **changes)
    assert model.seen == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_log_probabilities_are_checked(toys, bad):
    table = toys.markov_table(1, 7, 3)
    table[0, 2:, 5] = bad
    with pytest.raises(ArgumentError, match=r"NaN or \+inf at step 1"):
        search(toys.Markov(table), [0], min_length=3)
