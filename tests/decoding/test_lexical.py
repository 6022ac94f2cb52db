import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from regard.decoding import GNMT, Average, BeamRules, Limits, NoPenalty, WhenBehind, WhenCertain, WhenFull, beam_search
from regard.decoding.constraints import Matcher, needed_length
from regard.decoding.lexical import ConstrainedBeam, constrained_beam_search
from regard.errors import ArgumentError

BOS, EOS = 0, 1
PENALTIES = [NoPenalty(), GNMT(), Average(), Average(-0.7)]
RULES = [WhenFull(), WhenBehind(), WhenCertain()]
ROWS = [13, 2, 5, 2, 17, 19, 23]
CONSTRAINTS = [  # of a sentence each, over tokens 2 to 4
    [],
    [[[2]]],
    [[[2, 3]], [[3, 2]]],  # share a token
    [[[2, 2]], [[2, 2]]],  # twice
    [[[2]], [[2, 3]]],  # one begins the other
    [[[2, 2, 3]]],  # falls back after 2 2 2
    [[[2, 3, 4], [4]], [[3], [2, 2]]],  # spellings
]

phrases = st.lists(st.integers(2, 4), min_size=1, max_size=3)
constraint_lists = st.lists(st.lists(phrases, min_size=1, max_size=2), max_size=3)


def search(model, rows, constraints, **changes):
    given = {"beam": 3, "nbest": 1, "penalty": Average(), "stopping": WhenBehind(), "max_length": 11, "min_length": 0}
    given |= changes
    limits = Limits(BOS, EOS, given.pop("max_length"), given.pop("min_length"), constraints=tuple(constraints))
    return constrained_beam_search(model, model.start(rows), limits, BeamRules(**given))


def plain(model, rows, **changes):
    arguments = {"beam": 3, "bos": BOS, "eos": EOS, "max_length": 11, "penalty": Average(), "stopping": WhenBehind()}
    return beam_search(model, model.start(rows), **(arguments | changes))


def score(penalty, log_prob, length):
    return penalty.score(torch.tensor([log_prob], dtype=torch.float64), length).item()


def occurrences(tokens, constraint):
    """How often one of the spellings appears at most, without two sharing a token."""
    most = [0]
    for end in range(1, len(tokens) + 1):
        ending = [len(p) for p in constraint if len(p) <= end and list(tokens[end - len(p) : end]) == list(p)]
        most.append(max([most[-1], *(most[end - length] + 1 for length in ending)]))
    return most[-1]


def contains(tokens, constraints):
    wanted = Counter(frozenset(map(tuple, constraint)) for constraint in constraints)
    return all(occurrences(tokens, constraint) >= times for constraint, times in wanted.items())


def without_longer(phrases):
    """Those in which no other lies."""
    as_text = {phrase: "".join(map(str, phrase)) for phrase in phrases}
    return [one for one in as_text if not any(other != one and as_text[other] in as_text[one] for other in as_text)]


class Watch:
    """How much of a constraint has appeared, by reading everything again."""

    def __init__(self, constraint, times):
        self.phrases = without_longer([tuple(phrase) for phrase in constraint])
        self.times = times
        self.shortest = min(map(len, self.phrases))

    def read(self, tokens):
        """How often it is still to come, and what of the next time has been said at most by each phrase."""
        times, since = self.times, 0
        for end in range(1, len(tokens) + 1):
            if any(end - len(p) >= since and tokens[end - len(p) : end] == p for p in self.phrases):
                times, since = times - 1, end
        tail = tokens[since:]
        begun = [(n, p) for p in self.phrases for n in range(len(p)) if tail[len(tail) - n :] == p[:n]]
        return max(times, 0), begun

    def missing(self, tokens):
        """Of all times: tokens in full, and how many of the next time have been said."""
        times, begun = self.read(tokens)
        return (times * self.shortest, self.shortest - min(len(p) - n for n, p in begun)) if times else (0, 0)

    def offers(self, tokens):
        times, begun = self.read(tokens)
        if not times:
            return set()
        furthest = max(n for n, _ in begun)
        nearest = min(len(p) - n for n, p in begun)
        return {p[n] for n, p in begun if n == furthest or len(p) - n == nearest}


def by_hand(model, row, constraints, *, beam, max_length, min_length, penalty, stopping):
    """Dynamic beam allocation with Python lists, one sentence with constraints."""
    wanted = Counter(frozenset(map(tuple, constraint)) for constraint in constraints)
    watches = [Watch(constraint, times) for constraint, times in wanted.items()]
    running, ended = [((), 0.0)], []
    for length in range(max_length):
        left = max_length - length - 1
        everything, kept = [], set()
        for place, (tokens, total) in enumerate(running):
            log_probs = model.log_prob(row, [BOS, *tokens]).tolist()
            if length < min_length or any(watch.missing(tokens)[0] for watch in watches):
                log_probs[EOS] = -math.inf
            everything += [(total + p, place, token) for token, p in enumerate(log_probs) if p > -math.inf]
            offered = set().union(*(watch.offers(tokens) for watch in watches)) or {EOS}
            kept |= {(place, token) for token in {*offered, log_probs.index(max(log_probs))}}
        everything.sort(key=lambda one: (-one[0], one[1], one[2]))
        found = [one for rank, one in enumerate(everything) if rank < 2 * beam or one[1:] in kept]
        banks = {}
        for total, place, token in found:
            tokens = (*running[place][0], token)
            missing = [watch.missing(tokens) for watch in watches]
            least = max(whole - said for whole, said in missing)
            apart = sum(whole for whole, _ in missing) - max(said for _, said in missing)
            if token == EOS or least < left:
                bank = (token != EOS and apart >= left, sum(whole - said for whole, said in missing))
                banks.setdefault(bank, []).append((tokens, total))
        turns = sorted((late, turn, bank) for late, bank in banks for turn in range(len(banks[late, bank])))
        order = [banks[late, bank][turn] for late, turn, bank in turns]
        ended += [(t, score(penalty, p, length + 1)) for t, p in order[:beam] if t[-1] == EOS]
        ended = sorted(ended, key=lambda one: -one[1])[:beam]
        running, before = [(t, p) for t, p in order if t[-1] != EOS][:beam], running
        if not running and not ended:
            return sorted([(t, score(penalty, p, length)) for t, p in before], key=lambda one: -one[1])
        if not running:
            break
        best = torch.tensor([max(p for _, p in running)], dtype=torch.float64)
        worst = torch.tensor([ended[-1][1] if len(ended) == beam else -math.inf], dtype=torch.float64)
        rule = WhenFull() if beam == 1 else stopping
        if rule.done(best, worst, length + 1, torch.tensor([max_length]), penalty).item():
            break
    return ended


def same(results, expected):
    assert [(*one.tokens, EOS) if one.finished else one.tokens for one in results] == [tokens for tokens, _ in expected]
    assert [one.score for one in results] == pytest.approx([value for _, value in expected], abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(constraint_lists, min_size=3, max_size=3),
    st.integers(1, 5),
    st.integers(0, 5),
    st.integers(0, 3),
    st.sampled_from(PENALTIES),
    st.sampled_from(RULES),
)
def test_equals_a_search_written_with_lists(toys, seed, constraints, beam, room, min_length, penalty, stopping):
    table = toys.markov_table(3, 7, seed, sharpness=1.5)
    if seed % 3 == 0:  # ties in plenty
        table = (2 * table).round() / 2
    if seed % 2:  # impossible tokens
        table[table < table.quantile(0.2)] = -math.inf
    model = toys.Markov(table)
    max_length = max(min_length, *map(needed_length, constraints)) + 1 + room
    rules = {"beam": beam, "penalty": penalty, "stopping": stopping, "min_length": min_length}
    results = search(model, [0, 1, 2], constraints, nbest=beam, max_length=max_length, **rules)
    for row, few in enumerate(constraints):
        if few:
            same(results[row], by_hand(model, row, few, max_length=max_length, **rules))
        else:
            same(
                results[row],
                [
                    ((*one.tokens, EOS) if one.finished else one.tokens, one.score)
                    for one in plain(model, [row], nbest=beam, max_length=max_length, **rules)[0]
                ],
            )


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("stopping", RULES)
def test_the_end_is_decided_by_the_best_hypothesis_of_any_bank(toys, stopping, penalty):
    """With room to go on after enough have ended."""
    model = toys.Hashing(vocabulary=7, eos=EOS, eos_bonus=1.5)
    rows, few = list(range(24)), [[[2, 3]], [[4]]]
    rules = {"beam": 3, "penalty": penalty, "stopping": stopping, "min_length": 0, "max_length": 12}
    found = search(model, rows, [few] * len(rows), nbest=3, **rules)
    for row, results in zip(rows, found, strict=True):
        same(results, by_hand(model, row, few, **rules))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100), constraint_lists.filter(bool), st.integers(0, 2), st.sampled_from(PENALTIES))
def test_a_beam_as_wide_as_the_space_finds_the_best_that_contain_the_phrases(
    toys, row, constraints, min_length, penalty
):
    """Within the smallest maximum that is allowed, and one more: where phrases must share tokens to leave room."""
    model = toys.Hashing(vocabulary=5, eos=EOS)
    smallest = max(needed_length(constraints), min_length) + 1
    assume(smallest <= 5)
    for max_length in range(smallest, 6):
        everything = toys.space(
            model, row, vocabulary=5, bos=BOS, eos=EOS, max_length=max_length, min_length=min_length
        )
        ranked = sorted(
            [(score(penalty, sum(p), len(p)), t) for t, done, p in everything if done and contains(t, constraints)],
            reverse=True,
        )
        limits = {"max_length": max_length, "min_length": min_length}
        [results] = search(model, [row], [constraints], beam=1024, nbest=1024, penalty=penalty, **limits)
        assert [(one.tokens, one.finished) for one in results] == [(tokens, True) for _, tokens in ranked]
        assert [one.score for one in results] == pytest.approx([value for value, _ in ranked], abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 1000),
    st.lists(constraint_lists, min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(0, 4),
    st.sampled_from(RULES),
)
def test_everything_returned_has_ended_and_contains_the_phrases(toys, seed, constraints, beam, room, stopping):
    model = toys.Hashing(vocabulary=6, eos=EOS, eos_bonus=1.0)
    rows = list(range(seed, seed + len(constraints)))
    limits = torch.tensor([needed_length(few) + 1 + room for few in constraints])
    found = search(model, rows, constraints, beam=beam, nbest=beam, max_length=limits, stopping=stopping)
    for results, few, limit in zip(found, constraints, limits.tolist(), strict=True):
        assert results
        for one in results:
            assert one.finished or (not few and len(one.tokens) == limit)
            assert len(one.tokens) + one.finished <= limit
            assert contains(one.tokens, few)
        assert [one.score for one in results] == sorted((one.score for one in results), reverse=True)
        assert len({one.tokens for one in results}) == len(results)


@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("stopping", RULES)
def test_batched_is_one_by_one(toys, stopping, beam):
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=2.0)
    maxima = [11, 3, 7, 5, 4, 17, 8]
    rules = {"beam": beam, "nbest": beam, "stopping": stopping}
    together = search(model, ROWS, CONSTRAINTS, max_length=torch.tensor(maxima), **rules)
    alone = [
        search(model, [row], [few], max_length=maximum, **rules)[0]
        for row, few, maximum in zip(ROWS, CONSTRAINTS, maxima, strict=True)
    ]
    assert together == alone


@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("stopping", RULES)
def test_sentences_without_constraints_are_those_of_beam_search(toys, stopping, beam):
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=1.0)
    rules = {"beam": beam, "nbest": beam, "stopping": stopping, "max_length": torch.tensor([11, 3, 7, 5, 2, 17, 6])}
    expected = plain(model, ROWS, **rules)
    mixed = search(model, ROWS, [[], [], [[[2, 3], [4]]], [], [], [[[5]], [[6, 7]]], []], **rules)
    for row in (0, 1, 3, 4, 6):
        assert mixed[row] == expected[row]
    assert search(model, ROWS, [[]] * 7, **rules) == expected


def test_the_best_do_not_depend_on_how_many_are_asked_for(toys):
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=1.0)
    five = search(model, ROWS, CONSTRAINTS, beam=5, nbest=5)
    for nbest in range(1, 5):
        assert search(model, ROWS, CONSTRAINTS, beam=5, nbest=nbest) == [few[:nbest] for few in five]


def test_scores_are_the_models_own(toys):
    model = toys.Hashing(vocabulary=7, eos=EOS, eos_bonus=0.5)
    results = search(model, ROWS, CONSTRAINTS, beam=4, nbest=4)
    assert model.positions == list(range(len(model.positions)))
    for row, few in zip(ROWS, results, strict=True):
        for one in few:
            whole = [BOS, *one.tokens] + ([EOS] if one.finished else [])
            terms = [model.log_prob(row, whole[:n])[whole[n]].item() for n in range(1, len(whole))]
            assert list(one.token_log_probs) == terms
            assert one.log_prob == pytest.approx(sum(terms), abs=1e-12)
            assert one.score == pytest.approx(sum(terms) / len(terms), abs=1e-12)


def test_the_models_tensor_is_left_alone(toys):
    """`eos` is impossible until all is met, but a model may return a table that it needs again."""
    table = toys.markov_table(1, 5, 3)

    class Constant(toys.Markov):
        def step(self, tokens, state):
            super().step(tokens, state)
            return self.table[0, : tokens.shape[0]], state

    before = table.clone()
    search(Constant(table), [0], [[[[2, 3]]]])
    assert torch.equal(table, before)


def test_a_phrase_comes_where_it_fits_best(toys):
    """3 must appear. It is unlikely at first and likely after 2: a beam of two finds that."""
    table = torch.full((1, 4, 4), -math.inf, dtype=torch.float64)
    table[0, BOS, 2], table[0, BOS, 3] = math.log(0.99), math.log(0.01)
    table[0, 2, EOS], table[0, 2, 3] = math.log(0.6), math.log(0.4)
    table[0, 3, EOS] = 0.0
    model = toys.Markov(table)
    assert plain(model, [0], penalty=NoPenalty())[0][0].tokens == (2,)
    found = search(model, [0], [[[[3]]]], beam=2, nbest=2, penalty=NoPenalty())[0]
    assert [one.tokens for one in found] == [(2, 3), (3,)]
    assert found[0].log_prob == pytest.approx(math.log(0.99 * 0.4))


def test_what_is_impossible_is_returned_cut(toys):
    table = toys.markov_table(2, 6, 3)
    table[0, :, 5] = -math.inf
    one, two = search(toys.Markov(table), [0, 1], [[[[5]]], [[[5]]]], beam=3, nbest=3, max_length=4)
    assert all(not hypothesis.finished and 5 not in hypothesis.tokens for hypothesis in one)
    assert all(hypothesis.finished and 5 in hypothesis.tokens for hypothesis in two)
    [beyond] = search(toys.Markov(table), [0], [[[[6]]]], max_length=4)
    assert not any(hypothesis.finished for hypothesis in beyond)


def test_finished_sentences_leave_the_batch(toys):
    model = toys.Hashing(vocabulary=11, eos=EOS, eos_bonus=3.0)
    search(model, ROWS, CONSTRAINTS, beam=4, max_length=29, stopping=WhenFull())
    assert model.seen[0] == 7 and all(rows % 4 == 0 for rows in model.seen[1:])
    assert model.seen[1:] == sorted(model.seen[1:], reverse=True) and len(set(model.seen[1:])) > 2


@given(st.lists(st.lists(st.integers(2, 4), min_size=1, max_size=4).map(tuple), min_size=1, max_size=3), st.data())
def test_the_automaton_knows_what_has_begun(phrases, data):
    matcher = Matcher(phrases)
    begun, read = (), ()
    for token in data.draw(st.lists(st.integers(2, 5), max_size=12)):
        read = (*read, token)
        ended = any(read[-len(phrase) :] == phrase for phrase in phrases)
        following = matcher.follow(begun, token)
        assert (following is None) == ended
        if following is None:
            begun, read = (), ()
            continue
        begun = following
        starts = [
            n for phrase in without_longer(phrases) for n in range(len(phrase)) if read[len(read) - n :] == phrase[:n]
        ]
        assert len(begun) == max(starts) and begun == read[len(read) - len(begun) :]
        # Some offered token brings the end one nearer; no token brings it nearer than that.
        after = [matcher.follow(begun, token) for token in matcher.offers(begun)]
        assert min(0 if one is None else matcher.missing(one) for one in after) == matcher.missing(begun) - 1


def test_as_an_object(toys):
    model = toys.Hashing(vocabulary=13, eos=EOS, eos_bonus=1.0)
    beam = ConstrainedBeam(5, nbest=2, penalty=GNMT(), stopping=WhenFull())
    limits = Limits(BOS, EOS, 9, 2)
    rules = {"beam": 5, "nbest": 2, "penalty": GNMT(), "stopping": WhenFull(), "max_length": 9, "min_length": 2}
    assert beam.run(model, model.start(ROWS), limits) == plain(model, ROWS, **rules)
    found = beam.run(model, model.start(ROWS), replace(limits, constraints=tuple(CONSTRAINTS)))
    assert found == search(model, ROWS, CONSTRAINTS, **rules)
    assert ConstrainedBeam(4) == ConstrainedBeam(4, 1, Average(), WhenBehind())


def test_no_sentences(toys):
    assert search(toys.Hashing(vocabulary=5, eos=EOS), [], []) == []


def test_single_precision_is_near_double(toys):
    table = toys.markov_table(7, 17, 3)
    double = search(toys.Markov(table), range(7), CONSTRAINTS, beam=5, nbest=5)
    single = search(toys.Markov(table.float()), range(7), CONSTRAINTS, beam=5, nbest=5)
    for exact, near in zip(double, single, strict=True):
        assert [one.tokens for one in exact] == [one.tokens for one in near]
        assert [one.score for one in exact] == pytest.approx([one.score for one in near], abs=1e-5)


@pytest.mark.parametrize(
    ("constraints", "changes", "message"),
    [
        ([[]], {}, "for 1 sentences.*expected one list for each, 2"),
        ([[], [[[2], []]]], {}, r"sentence 1: constraint 0 has the spelling \[\]"),
        ([[], [[[2]], []]], {}, "sentence 1: constraint 1 has no spelling"),
        ([[[[2, EOS]]], []], {}, r"sentence 0: constraint 0 has the spelling \[2, 1\].*end symbol, 1"),
        ([[[[2, -3]]], []], {}, r"spelling \[2, -3\].*none negative"),
        ([[], [[[2, 3]], [[3, 4]]]], {"max_length": 4}, "sentence 1: max_length is 4; expected at least 5.*4 tokens"),
        ([[[[2]]], []], {"max_length": 3, "min_length": 3}, "sentence 0: max_length is 3; expected at least 4"),
        ([[[[2]]], []], {"max_length": torch.tensor([1, 9])}, "sentence 0: max_length is 1; expected at least 2"),
        ([[], []], {"beam": 0}, "beam is 0"),
        ([[], []], {"nbest": 4}, "nbest is 4.*beam, 3"),
        ([[], []], {"max_length": 0}, "max_length is 0"),
    ],
)
def test_arguments_are_checked(toys, constraints, changes, message):
    model = toys.Hashing(vocabulary=5, eos=EOS)
    with pytest.raises(ArgumentError, match=message):
        search(model, ROWS[:2], constraints, **changes)
    assert model.seen == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_log_probabilities_are_checked(toys, bad):
    table = toys.markov_table(1, 7, 3)
    table[0, 2:, 5] = bad
    with pytest.raises(ArgumentError, match=r"NaN or \+inf at step 1"):
        search(toys.Markov(table), [0], [[[[2, 3]]]])
