"""Searches as objects do what the functions do, and say how wide they are."""

import math

import pytest
import torch

from regard.decoding import (
    GNMT,
    Average,
    Beam,
    ConstrainedBeam,
    DiverseBeam,
    Greedy,
    Limits,
    Sampling,
    WhenBehind,
    WhenFull,
    beam_search,
    greedy,
    sample,
)
from regard.decoding.merged import merged, part
from regard.errors import ArgumentError
from regard.layers import State

BOS, EOS = 0, 1
ROWS = [13, 2, 5, 17]
MAXIMA = torch.tensor([7, 3, 9, 5])
LIMITS = Limits(BOS, EOS, MAXIMA, min_length=2, keys=(4, 3, 2, 1))
GIVEN = {"bos": BOS, "eos": EOS, "max_length": MAXIMA, "min_length": 2}


@pytest.fixture
def model(toys):
    return toys.Hashing(vocabulary=7, eos=EOS, eos_bonus=1.0)


def test_greedy(model):
    wanted = [[one] for one in greedy(model, model.start(ROWS), **GIVEN)]
    assert Greedy().run(model, model.start(ROWS), LIMITS) == wanted


def test_beam(model):
    for search, options in (
        (Beam(3), {"beam": 3, "nbest": 1, "penalty": Average(), "stopping": WhenBehind()}),
        (Beam(4, 2, GNMT(0.7), WhenFull()), {"beam": 4, "nbest": 2, "penalty": GNMT(0.7), "stopping": WhenFull()}),
    ):
        assert search.run(model, model.start(ROWS), LIMITS) == beam_search(model, model.start(ROWS), **options, **GIVEN)


def test_sampling(model):
    wanted = sample(model, model.start(ROWS), keys=LIMITS.keys, temperature=0.7, samples=3, **GIVEN)
    assert Sampling(0.7, samples=3).run(model, model.start(ROWS), LIMITS) == wanted


def test_width_is_the_most_hypotheses_of_a_sentence(model):
    widths = {Greedy(): 1, Beam(3): 3, DiverseBeam(4, 2): 4, ConstrainedBeam(5): 5, Sampling(samples=6): 6}
    for search, width in widths.items():
        model.seen.clear()
        search.run(model, model.start([3]), Limits(BOS, EOS, 5, keys=(1,)))
        assert search.width == width == max(model.seen)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Beam(0), "beam is 0"),
        (lambda: Beam(3, 4), "nbest is 4"),
        (lambda: ConstrainedBeam(0), "beam is 0"),
        (lambda: ConstrainedBeam(2, nbest=0), "nbest is 0"),
        (lambda: DiverseBeam(0, 1), "beam is 0"),
        (lambda: DiverseBeam(4, 3), "groups is 3"),
        (lambda: DiverseBeam(4, 2, strength=math.nan), "strength is nan"),
        (lambda: DiverseBeam(4, 2, nbest=5), "nbest is 5"),
        (lambda: Sampling(samples=0), "samples is 0"),
        (lambda: Sampling(math.nan), "temperature is nan"),
    ],
)
def test_a_search_that_cannot_be_is_refused_where_it_is_made(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_only_a_constrained_beam_takes_constraints():
    searches = [Greedy(), Beam(3), DiverseBeam(4, 2), ConstrainedBeam(3), Sampling()]
    assert [search.takes_constraints for search in searches] == [False, False, False, True, False]


def test_states_within_a_state_come_out_as_they_went_in():
    one = State({"a": torch.arange(2)}, {"b.c": torch.arange(4)}, 3)
    two = State({}, {"b.c": torch.ones(4)}, 3)
    both = merged({"1": one, "11": merged({"1": two})})
    grown = both.select_hypotheses(torch.tensor([1, 0, 3, 2])).select_sentences(torch.tensor([1, 0]))
    assert part(grown, "1").sentence["a"].tolist() == [1, 0]
    assert part(grown, "1").hypothesis["b.c"].tolist() == [1, 0, 3, 2]
    assert set(part(grown, "1").hypothesis) == set(part(part(grown, "11"), "1").hypothesis) == {"b.c"}
    assert part(grown, "11").position == 3 and part(grown, "11").sentence == {}
    with pytest.raises(ArgumentError, match="positions"):
        merged({"1": one, "2": State({}, {}, 2)})
