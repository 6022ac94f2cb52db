"""`Interval` and `Diagonals`, masks and biases in their linear form, against the tables that they stand for.

The oracle's tables have them too: every backend, dtype and combination is checked there.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles.attention_cases import Case
from oracles.attention_options import Sizes
from oracles.attention_runners import RUNNERS, run
from regard.attention import (
    AttentionMap,
    Causal,
    Dense,
    Diagonals,
    Interval,
    Padding,
    RelativeBias,
    attend,
    attention_plan,
)
from regard.attention.operator import build_call
from regard.attention.scores import ScaledDot
from regard.errors import ArgumentError

LENGTHS = [1, 2, 7, 13, 31, 67]


def _draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _toeplitz(values: Tensor, queries: int, keys: int) -> Tensor:
    """The table (H, Q, K) of diagonals, by the definition."""
    rows = [[values[:, j - i + queries - 1] for j in range(keys)] for i in range(queries)]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _table_of(start: Tensor, stop: Tensor, keys: int) -> Tensor:
    j = torch.arange(keys)
    return (j >= start[..., None]) & (j < stop[..., None])


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize(
    "case",
    [
        Case(sizes, mask=mask, bias=bias, seed=3)
        for sizes in (Sizes(2, 6, 2, 13, 7), Sizes(1, 3, 3, 31, 37), Sizes(3, 2, 1, 1, 11))
        for mask, bias in (("intervals per head", "none"), ("none", "diagonals"), ("intervals", "diagonals"))
    ],
    ids=str,
)
def test_every_backend_computes_what_the_table_gives(runner: str, case: Case) -> None:
    problem = case.make(torch.float64)
    result = run(runner, problem, need_lse=True)
    if result is None:
        assert runner in ("factorised", "short", "sdpa, public")  # for other scores, short or plain calls alone
        return
    context, lse = result
    plain = problem.plain()
    torch.testing.assert_close(context, plain.context, atol=1e-12, rtol=1e-10)
    assert lse is not None
    torch.testing.assert_close(lse, plain.lse, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("queries", LENGTHS)
@pytest.mark.parametrize("keys", LENGTHS)
def test_maps_and_crops(queries: int, keys: int) -> None:
    q, k = _draw(2, 4, queries, 8), _draw(2, 2, keys, 8, seed=1)
    values = _draw(4, queries + keys - 1, seed=2)
    start = torch.randint(-1, keys + 1, (2, 1, queries), generator=torch.Generator().manual_seed(3))
    mask = Interval(start, start + keys // 2)
    lean = AttentionMap(q, k, mask=mask, bias=Diagonals(values))
    full = AttentionMap(q, k, mask=Dense(_table_of(mask.start, mask.stop, keys)), bias=_toeplitz(values, queries, keys))
    assert torch.equal(lean.dense(), full.dense())
    for rows, columns in (
        (slice(0, 1), slice(0, keys)),
        (slice(queries // 2, queries), slice(keys // 3, keys // 2 + 1)),
    ):
        crop = lean[1:, 2:, rows, columns]
        torch.testing.assert_close(crop, full.dense()[1:, 2:, rows, columns], atol=1e-6, rtol=1e-5)
    for statistic in ("lse", "entropy", "received", "mass"):
        one, other = (getattr(table, statistic)() for table in (lean, full))
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    for heads in ([3, 0], [1]):
        part = lean.detached(heads)
        torch.testing.assert_close(part.dense(), full.dense()[:, heads])


def test_rows_that_see_nothing() -> None:
    start, stop = torch.tensor([0, 3, 9, 5, -4]), torch.tensor([0, 2, 12, 7, 0])
    q, k, v = (_draw(2, 2, n, 4, seed=n).requires_grad_() for n in (5, 7, 7))
    context, lse = attend(q, k, v, mask=Interval(start, stop), return_lse=True)
    nothing = [0, 1, 2, 4]
    assert (context[:, :, nothing] == 0).all() and (lse[:, :, nothing] == -torch.inf).all()
    assert (context[:, :, 3] != 0).all()
    context.sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (q, k, v))
    table = AttentionMap(q, k, mask=Interval(start, stop))
    assert (table.mass()[:, :, nothing] == 0).all() and (table.top(1)[1][:, :, nothing] == -1).all()


def test_keys_that_no_interval_reaches_never_leak() -> None:
    q, k, v = _draw(1, 2, 3, 4), _draw(1, 2, 9, 4), _draw(1, 2, 9, 4)
    k[:, :, 6:], v[:, :, 6:] = torch.nan, torch.nan
    mask = Interval(torch.tensor([0, 1, 2]), torch.tensor([3, 6, 5]))
    assert attend(q, k, v, mask=mask).isfinite().all()
    assert AttentionMap(q, k, mask=mask).dense().isfinite().all()


@pytest.mark.parametrize("mask", [None, Causal(), Interval(torch.tensor([0, 3, 1]), torch.tensor([3, 0, 5]))], ids=str)
@pytest.mark.parametrize("runner", [None, "sdpa, public", "blockwise", "reference"])
def test_gradients_of_diagonals(runner: str | None, mask: Causal | Interval | None) -> None:
    """By what `attend` chooses, and by every backend that differentiates a bias."""
    q, k, v = (_draw(1, 2, n, 3, seed=n, dtype=torch.float64).requires_grad_() for n in (3, 5, 5))
    values = _draw(2, 7, dtype=torch.float64).requires_grad_()

    def computed(values: Tensor, q: Tensor) -> Tensor:
        options = {"mask": mask, "bias": Diagonals(values)}
        if runner is None:
            return attend(q, k, v, **options)
        backend, setting = RUNNERS[runner]
        with setting():
            call = build_call(q, k, v, ScaledDot(), options["mask"], options["bias"], None, None, None, 0.0, False)
            assert backend.refuses(call) is None
            return backend.run(call)[0]

    assert torch.autograd.gradcheck(computed, (values, q))


def test_gradients_reach_the_diagonals_of_a_map() -> None:
    q, k = _draw(1, 2, 3, 4, dtype=torch.float64), _draw(1, 2, 5, 4, dtype=torch.float64)

    def through(values: Tensor) -> Tensor:
        table = AttentionMap(q, k, bias=Diagonals(values), mask=Causal())
        return torch.cat([table.dense().flatten(), table.lse().flatten(), table[0, 1, 1:, :4].flatten()])

    assert torch.autograd.gradcheck(through, (_draw(2, 7, dtype=torch.float64).requires_grad_(),))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(LENGTHS),
    st.sampled_from(LENGTHS),
    st.booleans(),
    st.integers(-5, 70) | st.none(),
    st.integers(1, 6),
)
def test_a_relative_bias_is_its_diagonals(
    queries: int, keys: int, bidirectional: bool, offset: int | None, heads: int
) -> None:
    relative = RelativeBias(_draw(8, heads), bidirectional, 16, offset)
    q, k = _draw(1, heads, queries, 4), _draw(1, heads, keys, 4, seed=1)
    sizes = AttentionMap(q, k, bias=relative).scoring
    parts = {"table": sizes.operands["bias.table"].tensor}
    first = relative.block(parts, slice(0, queries), slice(0, keys), sizes.extent)[0]  # (H, Q, K)
    values = torch.cat([first[:, :, 0].flip(-1), first[:, 0, 1:]], -1)
    bias = Diagonals(values)
    assert torch.equal(_toeplitz(values, queries, keys), first)
    assert torch.equal(AttentionMap(q, k, bias=bias).dense(), AttentionMap(q, k, bias=relative).dense())


def test_they_need_no_table() -> None:
    q = torch.zeros(1, 2, 2048, 16)
    mask = Interval(torch.zeros(2048, dtype=torch.long), torch.arange(2048) + 1)
    for options in ({"mask": mask}, {"bias": Diagonals(torch.zeros(2, 4095))}):
        plan = attention_plan(q, q, q, **options)
        assert "Q × K" not in plan.how, plan


WRONG: list[tuple[dict[str, object], str]] = [
    ({"bias": lambda: Diagonals(_draw(2, 10))}, r"Diagonals: values are \(2, 10\): expected \(2, 11\)"),
    ({"bias": lambda: Diagonals(_draw(1, 11))}, r"expected \(2, 11\)"),
    ({"bias": lambda: Diagonals(_draw(11))}, "Diagonals: values must be a floating-point tensor"),
    ({"bias": lambda: Diagonals(torch.ones(2, 11, dtype=torch.long))}, "not torch.int64"),
    ({"bias": lambda: Diagonals([1.0])}, "not list"),  # type: ignore[arg-type]
    ({"bias": lambda: Diagonals(_draw(2, 11).to("meta"))}, "values are on meta"),
    ({"mask": lambda: Interval(torch.zeros(5), torch.zeros(5).long())}, "Interval: start must be an integer tensor"),
    ({"mask": lambda: Interval(torch.zeros(5).long(), 7)}, "Interval: stop must be an integer tensor, not int"),  # type: ignore[arg-type]
    ({"mask": lambda: Interval(torch.zeros(4).long(), torch.zeros(5).long())}, "Interval: start is"),
    ({"mask": lambda: Interval(torch.tensor(0), torch.zeros(5).long())}, "expected 1 or 2 or 3 axes"),
    ({"mask": lambda: Interval(torch.zeros(5).long(), torch.zeros(3, 5).long())}, "Interval: stop is"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[message[:50] for _, message in WRONG])
def test_errors(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        AttentionMap(_draw(1, 2, 5, 4), _draw(1, 2, 7, 4), **{name: make() for name, make in options.items()})


def test_they_are_shown_by_their_sizes() -> None:
    assert repr(Diagonals(_draw(2, 11))) == "Diagonals(values=(2, 11))"
    assert repr(Interval(torch.zeros(5).long(), torch.zeros(5).long())) == "Interval((5,), (5,))"


def test_an_interval_keeps_its_own_numbers() -> None:
    start, stop = torch.tensor([0, 0]), torch.tensor([1, 2])
    mask = Interval(start, stop)
    stop.fill_(0)
    assert AttentionMap(_draw(2, 3), _draw(2, 3), mask=mask).mass().tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16])
def test_intervals_of_other_integers(dtype: torch.dtype) -> None:
    start, stop = torch.tensor([1, 0, 2]), torch.tensor([3, 1, 2])
    q, k = _draw(3, 4), _draw(4, 4)
    expected = AttentionMap(q, k, mask=Interval(start, stop) & Padding(torch.tensor(3))).dense()
    got = AttentionMap(q, k, mask=Interval(start.to(dtype), stop.to(dtype)) & Padding(torch.tensor(3))).dense()
    assert torch.equal(got, expected)
