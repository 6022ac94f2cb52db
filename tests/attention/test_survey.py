"""`AttentionMap.survey`: each statistic of one pass is that of a pass of its own. And the ranking of rows with ties."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.attention_cases import Case, case_id, case_strategy, one_option_cases
from regard.attention import AttentionMap, Causal, Padding
from regard.attention import scoring as scoring_module
from regard.attention import survey as survey_module
from regard.attention.ranking import largest
from regard.errors import ArgumentError


def _check(table: AttentionMap) -> None:
    queries, keys = table.shape[-2:]
    cells, n = (min(3, queries), min(5, keys)), min(4, keys)
    found = table.survey(top=n, cells=cells)
    fresh = AttentionMap.of(table.scoring)
    weights, index = fresh.top(n)
    for got, expected in (
        (found.lse, fresh.lse()),
        (found.entropy, fresh.entropy()),
        (found.received, fresh.received()),
        (found.pooled, fresh.pool(cells)),
        (found.top_weights, weights),
    ):
        assert got.shape == expected.shape and got.dtype == expected.dtype
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(found.top_keys, index)


@pytest.mark.parametrize("case", one_option_cases(), ids=case_id)
def test_one_pass_is_many(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_module, "BLOCK", 11)
    problem = case.make(torch.float32)
    table = AttentionMap(problem.q, problem.k, **problem.options)
    if 0 not in table.shape:
        _check(table)


@settings(max_examples=30, deadline=None)
@given(case=case_strategy())
def test_one_pass_is_many_for_any_case(case: Case) -> None:
    problem = case.make(torch.float64)
    table = AttentionMap(problem.q, problem.k, **problem.options)
    if 0 not in table.shape:
        _check(table)


def test_what_a_survey_found_serves_crops() -> None:
    q, k = torch.randn(2, 4, 61, 8), torch.randn(2, 2, 61, 8)
    table = AttentionMap(q, k, mask=Causal() & Padding(torch.tensor([61, 17])), sink=torch.randn(4))
    before = table[:, :, 7:43, 5:40]
    table.survey(top=3, cells=(4, 4))
    torch.testing.assert_close(table[:, :, 7:43, 5:40], before)
    torch.testing.assert_close(table[1, 2, 43:7:1, :], before.new_empty(0, 61))
    torch.testing.assert_close(table[1, 3, 7:43, 5:40], before[1, 3])


def test_a_crop_stays_differentiable_after_a_survey() -> None:
    q, k = (torch.randn(1, 1, 9, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    table = AttentionMap(q, k)
    table.survey(top=1, cells=(1, 1))
    assert torch.autograd.gradcheck(lambda q, k: _surveyed(q, k)[0, 0, 2:5, 1:4], (q, k))


def _surveyed(q: torch.Tensor, k: torch.Tensor) -> AttentionMap:
    table = AttentionMap(q, k)
    table.survey(top=1, cells=(1, 1))
    return table


def test_threads_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = torch.randn(2, 4, 130, 8), torch.randn(2, 2, 130, 8)
    mask, threads = Causal() & Padding(torch.tensor([130, 77])), torch.get_num_threads()
    monkeypatch.setattr(scoring_module, "BLOCK", 300)
    monkeypatch.setattr(survey_module, "ALONE", 1 << 62)
    alone = AttentionMap(q, k, mask=mask).survey(top=3, cells=(7, 9))
    try:
        torch.set_num_threads(3)
        monkeypatch.setattr(survey_module, "ALONE", 0)
        with torch.inference_mode():
            beside = AttentionMap(q, k, mask=mask).survey(top=3, cells=(7, 9))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    for name, x in vars(alone).items():
        torch.testing.assert_close(getattr(beside, name), x, atol=1e-6, rtol=1e-5)
    assert AttentionMap(q, k).survey().pooled is None


def test_an_error_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(survey_module, "ALONE", 0)
    monkeypatch.setattr(survey_module.Sight, "columns", lambda self: 1 / 0)
    try:
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError):
            AttentionMap(torch.randn(2, 1, 9, 4), torch.randn(2, 1, 9, 4)).received()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_errors() -> None:
    table = AttentionMap(torch.randn(3, 2), torch.randn(4, 2))
    with pytest.raises(ArgumentError, match="n must be an integer from 1 to the number of keys, 4, not 5"):
        table.survey(top=5, cells=(1, 1))
    with pytest.raises(ArgumentError, match="4 × 1 cells"):
        table.survey(top=1, cells=(4, 1))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_largest_are_those_of_a_stable_sort(data: st.DataObject) -> None:
    keys = data.draw(st.integers(1, 700))
    n = data.draw(st.integers(1, min(keys, 11)))
    kinds = data.draw(st.sampled_from([2, 5, 1000, 1 << 24]))  # few different numbers make many ties
    seed = data.draw(st.integers(0, 1 << 30))
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, kinds, (2, 3, keys), generator=generator).float()
    barred = torch.rand((2, 3, keys), generator=generator) < data.draw(st.sampled_from([0.0, 0.5, 0.99]))
    scores.masked_fill_(barred, -torch.inf)
    values, index = largest(scores, n)
    expected, order = scores.sort(dim=-1, descending=True, stable=True)
    assert torch.equal(values, expected[..., :n])
    real = values > -torch.inf
    assert torch.equal(index[real], order[..., :n][real])
    assert torch.equal(scores.gather(-1, index), values)


def test_autocast_does_not_round_statistics() -> None:
    q, k = torch.randn(1, 2, 40, 8), torch.randn(1, 2, 40, 8)
    plain, under = AttentionMap(q, k), AttentionMap(q, k)
    expected = plain.survey(top=2, cells=(3, 3))
    with torch.autocast("cpu", torch.bfloat16):
        found = under.survey(top=2, cells=(3, 3))
        transposed = under.apply_transposed(q)
    assert torch.equal(found.received, expected.received) and torch.equal(found.pooled, expected.pooled)
    assert torch.equal(transposed, plain.apply_transposed(q))
