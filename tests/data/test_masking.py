import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.masking import Masking, keys, uniform
from regard.errors import ArgumentError

MASK, ORDINARY = 99, range(5, 95)


def hide(masking: Masking, tokens: np.ndarray, real: np.ndarray, rows: list[int], epoch: int = 0):
    return masking(tokens, real, masking.count(real.sum(1)), rows, epoch)


def table(rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(0).integers(5, 95, (rows, length))
    return tokens, np.ones((rows, length), dtype=bool)


def test_rates_are_those_of_the_paper() -> None:
    tokens, real = table(400, 200)
    hidden = hide(Masking(MASK, ORDINARY, 1), tokens, real, list(range(400)))
    assert (hidden.chosen.sum(1) == 30).all()  # exactly 15 % of each row
    assert (hidden.tokens[~hidden.chosen] == tokens[~hidden.chosen]).all()
    now, before = hidden.tokens[hidden.chosen], tokens[hidden.chosen]
    assert abs((now == MASK).mean() - 0.8) < 0.01
    stays = 0.1 + 0.1 / len(ORDINARY)  # a random token can be the same
    assert abs((now == before).mean() - stays) < 0.01
    drawn = now[(now != MASK) & (now != before)]
    assert set(drawn.tolist()) == set(ORDINARY)
    assert np.bincount(drawn, minlength=95)[5:].std() < 10
    # places are chosen evenly
    assert np.abs(hidden.chosen.mean(0) - 0.15).max() < 0.1


@settings(max_examples=80, deadline=None)
@given(
    real=st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=5),
    share=st.sampled_from([0.05, 0.15, 0.5, 0.99]),
)
def test_only_what_may_be_is_chosen_and_exactly_so_much(real: list[list[bool]], share: float) -> None:
    allowed = np.array(real)
    masking = Masking(MASK, ORDINARY, 1, share, masked=1.0, random=0.0)
    hidden = hide(masking, np.full(allowed.shape, 7), allowed, list(range(len(real))))
    assert not (hidden.chosen & ~allowed).any()
    many = allowed.sum(1)
    assert hidden.chosen.sum(1).tolist() == [min(max(round(share * int(n)), 1), int(n)) for n in many]
    assert (hidden.tokens == np.where(hidden.chosen, MASK, 7)).all()


def test_what_is_hidden_depends_on_seed_epoch_and_row_alone() -> None:
    tokens, real = table(6, 40)
    masking = Masking(MASK, ORDINARY, 1)
    together = hide(masking, tokens, real, [4, 9, 2, 0, 7, 1])
    alone = hide(masking, tokens[2:3], real[2:3], [2])
    assert (alone.tokens[0] == together.tokens[2]).all()
    wider = hide(masking, np.pad(tokens, ((0, 0), (0, 9))), np.pad(real, ((0, 0), (0, 9))), [4, 9, 2, 0, 7, 1])
    assert (wider.tokens[:, :40] == together.tokens).all()
    for other in (
        hide(masking, tokens, real, [4, 9, 2, 0, 7, 1], epoch=1),
        hide(Masking(MASK, ORDINARY, 2), tokens, real, [4, 9, 2, 0, 7, 1]),
    ):
        assert (other.chosen != together.chosen).any(1).all()


def test_fewer_than_wanted() -> None:
    masking = Masking(MASK, ORDINARY, 1)
    tokens, real = np.full((2, 4), 7), np.array([[True, False, False, False], [False] * 4])
    assert masking(tokens, real, np.array([3, 3]), [0, 1], 0).chosen.tolist() == real.tolist()
    assert masking.count([0, 1, 3, 10, 20]).tolist() == [0, 1, 1, 2, 3]


def test_random_numbers_are_even_and_independent() -> None:
    key = keys(1, 2, np.arange(500), 100)
    assert len(np.unique(key)) == key.size
    a, b = uniform(key, 1), uniform(key, 2)
    assert a.min() >= 0 and a.max() < 1
    for drawn in (a, b):
        counts = np.histogram(drawn, 50, (0, 1))[0]
        assert ((counts - 1000) ** 2 / 1000).sum() < 100  # χ² with 49 degrees of freedom: 74 is its 99 %
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(a[:-1].ravel(), a[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(a[:, :-1].ravel(), a[:, 1:].ravel())[0, 1]) < 0.02
    assert (keys(1, 3, np.arange(500), 100) != key).all()


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match="ordinary: got no ids"):
        Masking(MASK, [], 1)
    with pytest.raises(ArgumentError, match=r"masked \+ random ≤ 1"):
        Masking(MASK, ORDINARY, 1, masked=0.9, random=0.2)
    with pytest.raises(ArgumentError, match="share is 0"):
        Masking(MASK, ORDINARY, 1, share=0)
