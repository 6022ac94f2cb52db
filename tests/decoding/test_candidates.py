import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.decoding.candidates import best_continuations, top


def plain(log_probs, totals, k):
    """All sums, sorted stably."""
    sums = (log_probs.view(*totals.shape, -1) + totals[:, :, None]).flatten(1)
    values, index = sums.sort(dim=1, descending=True, stable=True)
    return values[:, :k], index[:, :k] // log_probs.shape[1], index[:, :k] % log_probs.shape[1]


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 5), st.integers(1, 230), st.integers(1, 12), st.integers(0, 999), st.booleans()
)
def test_equals_a_stable_sort_of_everything(sentences, width, vocabulary, k, seed, coarse):
    generator = torch.Generator().manual_seed(seed)
    log_probs = -torch.rand(sentences * width, vocabulary, generator=generator)
    totals = -torch.rand(sentences, width, generator=generator)
    if coarse:  # many ties
        log_probs, totals = (4 * log_probs).round(), (3 * totals).round()
    found = best_continuations(log_probs, totals, k)
    values, parents, tokens = plain(log_probs, totals, k)
    n = values.shape[1]
    assert found.totals.shape == (sentences, k)
    torch.testing.assert_close(found.totals[:, :n], values, rtol=0, atol=0)
    assert torch.equal(found.parents[:, :n], parents)
    assert torch.equal(found.tokens[:, :n], tokens)
    assert torch.isneginf(found.totals[:, n:]).all()
    rows = torch.arange(sentences)[:, None] * width + found.parents
    assert torch.equal(found.log_probs[:, :n], log_probs[rows, found.tokens][:, :n])


def test_hypotheses_that_do_not_exist_give_nothing():
    log_probs = torch.full((3, 7), -1.0)
    totals = torch.tensor([[-5.0, -torch.inf, -torch.inf]])
    found = best_continuations(log_probs, totals, 11)
    assert found.totals[0].tolist() == [-6.0] * 7 + [-torch.inf] * 4
    assert found.tokens[0, :7].tolist() == list(range(7))


def test_the_last_token_counts_once():
    """The last run is shorter than the others: nothing stands in for what it lacks."""
    log_probs = -torch.arange(97.0).flip(0)[None]
    found = best_continuations(log_probs, torch.zeros(1, 1), 5)
    assert found.tokens.tolist() == [[96, 95, 94, 93, 92]]


@pytest.mark.parametrize("place", [0, 6, 52, 96])
def test_nan_comes_out_best(place):
    log_probs = torch.full((2, 97), -1.0)
    log_probs[1, place] = torch.nan
    assert best_continuations(log_probs, torch.zeros(1, 2), 4).totals.isnan().any()


def test_half_precision_is_summed_in_single():
    log_probs = torch.tensor([[-0.5, -0.25, -3.0]], dtype=torch.bfloat16)
    totals = torch.tensor([[-100.0]])
    found = best_continuations(log_probs, totals, 2)
    assert found.totals.tolist() == [[-100.25, -100.5]]
    assert found.totals.dtype == torch.float32


def test_top_breaks_ties_by_index_across_the_border():
    values = torch.tensor([[1.0, 2.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    best, index = top(values, 3)
    assert index.tolist() == [[1, 3, 0], [0, 1, 2]]
    assert best.tolist() == [[2.0, 2.0, 1.0], [0.0, 0.0, 0.0]]
