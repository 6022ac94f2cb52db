"""The fused path in pieces: they cover the table once, leave out what nobody sees, and join exactly."""

from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import Tensor

from oracles.attention_cases import Case, Problem
from oracles.attention_options import MASKS, Sizes
from oracles.attention_runners import small_blocks
from oracles.error_rule import assert_as_accurate
from oracles.flash_spy import watched_flash
from regard.attention import (
    ALiBi,
    Bias,
    Causal,
    Document,
    Mask,
    Near,
    Padding,
    Prefix,
    RelativeBias,
    ScaledDot,
    Window,
    attend,
)
from regard.attention.backends import flash as flash_module
from regard.attention.backends import sdpa as sdpa_module
from regard.attention.backends.flash import cut
from regard.attention.backends.reference import REFERENCE
from regard.attention.backends.sdpa import SDPA_BACKEND
from regard.attention.extent import Extent
from regard.attention.operator import build_call


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("bias", ["none", "full"])
@pytest.mark.parametrize("queries", [7, 11])
def test_each_visible_place_is_in_one_piece(mask: str, bias: str, queries: int) -> None:
    problem = Case(Sizes(3, 4, 2, queries, 9), mask=mask, bias=bias).make(torch.float32)
    call = build_call(problem.q, problem.k, problem.v, **problem.options, dropout=0.0, need_lse=False)
    for setting in (small_blocks(), mock.patch.object(flash_module, "ROWS", 3)):
        with setting:
            covered = torch.zeros(problem.visible.shape, dtype=torch.long)
            for piece in cut(call.scoring):
                at = piece.region
                inside = torch.ones_like(covered[at.batch, at.heads, at.rows, at.columns])
                covered[at.batch, at.heads, at.rows, at.columns] += inside.tril() if piece.causal else inside
        assert (covered[problem.visible] == 1).all()
        assert (covered <= 1).all()


PADDING = Padding(torch.tensor([701, 1301]))
LONG: dict[str, Mask] = {
    "causal": Causal(),
    "causal, more queries than keys seen": Causal(-150),
    "causal & padding that ends before the triangle": Causal() & PADDING,
    "causal & padding without a key": Causal() & Padding(torch.tensor([0, 1301])),
    "wide window": Window(700, 3),
    "narrow window": Window(30, 0) & PADDING,
    "window per batch": Window(100, 20, torch.tensor([37, 900])),
    "prefix | causal": Prefix(torch.tensor([37, 1100])) | Causal(),
    "documents": Document(torch.arange(331) // 53, torch.arange(1301) // 211),
    "documents per batch": Document(
        torch.stack([torch.arange(331) // 53, torch.arange(331) // 97]), (torch.arange(1301) // 211).expand(2, -1)
    ),
    "near, seen after a thousand keys": Near(torch.full((331,), 1200.0), 9.0),
}
"""Masks beyond one block of the operator, 512 keys, and of queries, 256; in some a query's first blocks are masked."""


Results = Callable[[Problem], tuple[Tensor, Tensor]]


def _fused(problem: Problem) -> tuple[Tensor, Tensor]:
    call = build_call(problem.q, problem.k, problem.v, **problem.options, dropout=0.0, need_lse=True)
    assert SDPA_BACKEND.refuses(call) is None
    context, lse = SDPA_BACKEND.run(call)
    assert lse is not None
    return context, lse


def _plain(problem: Problem) -> tuple[Tensor, Tensor]:
    result = problem.plain()
    return result.context, result.lse


def _with_gradients(results: Results, problem: Problem, dtype: torch.dtype) -> dict[str, Tensor]:
    """Context, ℓ and the gradients that arrive through both."""
    leaves = problem.in_dtype(dtype, requires_grad=True)
    context, lse = results(leaves)
    generator = torch.Generator().manual_seed(5)
    to_context, to_lse = (torch.randn(x.shape, generator=generator).bfloat16() for x in (context, lse))
    loss = (context * to_context.to(dtype)).sum()
    loss = loss + (lse.masked_fill(lse == -torch.inf, 0.0) * to_lse.to(lse.dtype)).sum()
    inputs = {name: x for name, x in leaves.inputs.items() if not name.startswith("bias")}
    found = torch.autograd.grad(loss, list(inputs.values()))
    return {"context": context.detach(), "lse": lse.detach()} | dict(zip(inputs, found, strict=True))


def _compare(problem: Problem, dtype: torch.dtype) -> None:
    rounded = problem.in_dtype(dtype)
    exact = _with_gradients(_plain, rounded, torch.float64)
    plain = _with_gradients(_plain, rounded, dtype)
    with mock.patch.object(sdpa_module, "_learned_bias", lambda call: False):
        found = _with_gradients(_fused, rounded, dtype)
    for name, got in found.items():
        assert_as_accurate(name, got, plain[name], exact[name], slack=4)


def _masked(case: Case, mask: Mask) -> Problem:
    """The problem of a case with another mask."""
    problem = case.make(torch.float64)
    extent = Extent.of(problem.q, problem.k)
    visible = mask.block(slice(0, extent.queries), slice(0, extent.keys), extent).expand(problem.visible.shape)
    return replace(problem, mask=mask, visible=visible)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", LONG)
def test_long_rows_and_many_keys(mask: str, dtype: torch.dtype) -> None:
    _compare(_masked(Case(Sizes(2, 4, 2, 331, 1301, 5, 3)), LONG[mask]), dtype)


@pytest.mark.parametrize("bias", ["ALiBi", "T5", "per pair, some barred"])
def test_many_keys_with_a_bias_and_sinks(bias: str) -> None:
    case = Case(Sizes(2, 4, 2, 67, 601, 5, 3), score="gaussian", bias=bias, sink="per head")
    with mock.patch.object(flash_module, "ROWS", 16):
        _compare(_masked(case, Causal() & Padding(torch.tensor([550, 601]))), torch.float32)


def test_a_window_costs_what_it_sees() -> None:
    """Rows × columns handed to the operator, forward and back: the window and a block of it more, not Q × K."""
    x = torch.randn(1, 2, 4099, 4, requires_grad=True)
    with watched_flash() as seen:
        attend(x, x, x, mask=Window(100, 0)).sum().backward()
    assert sum(seen.scores) <= 2 * 2 * 4099 * (100 + flash_module.ROWS)
    with watched_flash() as seen:
        attend(x, x, x, mask=Document(torch.arange(4099) // 100)).sum().backward()
    assert sum(seen.scores) <= 2 * 2 * 4099 * (2 * 100 + flash_module.ROWS)


def test_batch_elements_with_their_own_limits_are_gone_through_one_by_one() -> None:
    x = torch.randn(2, 2, 1031, 4)
    offsets = torch.tensor([0, 900])
    with watched_flash() as seen:
        attend(x[:, :, :131], x, x, mask=Window(9, 0, offsets))
    assert len(seen.scores) >= 2
    assert sum(seen.scores) <= 2 * 2 * 131 * (9 + flash_module.ROWS)


@pytest.mark.parametrize(
    ("mask", "bias"),
    [
        (Window(100, 0), None),
        (Prefix(torch.tensor([5, 7])) | Causal(), None),
        (None, ALiBi()),
        (Causal(), RelativeBias(torch.randn(32, 2))),
    ],
    ids=["window", "prefix | causal", "ALiBi", "T5"],
)
def test_masks_grow_with_the_length(mask: Mask | None, bias: Bias | None) -> None:
    largest = []
    for length in (1031, 2062):
        x = torch.randn(2, 2, length, 4, requires_grad=True)
        with watched_flash() as seen:
            attend(x, x, x, mask=mask, bias=bias).sum().backward()
        largest.append(seen.largest)
    assert 0 < largest[0] <= 2 * 2 * flash_module.ROWS * 1031
    assert largest[1] <= 2.1 * largest[0]


def test_a_mask_for_each_head_and_element_is_written_out_for_some_of_them() -> None:
    q, k = torch.randn(5, 6, 13, 4), torch.randn(5, 3, 17, 4)
    with watched_flash() as seen, mock.patch.object(flash_module, "TABLE", 2 * 2 * 13 * 17):
        context = attend(q, k, k, bias=torch.zeros(5, 6, 13, 17), return_lse=True)[0]
    assert seen.largest == 2 * 2 * 13 * 17
    torch.testing.assert_close(context, attend(q, k, k))


def test_only_one_result_needs_a_gradient() -> None:
    """The gradient of ℓ alone, and an expanded one of the context alone, as sum() makes it."""
    for mask in (None, Causal(2), Window(3, 1)):
        for which in (0, 1):  # context, ℓ
            grads = []
            for backend in (SDPA_BACKEND, REFERENCE):
                q, k, v = (torch.randn(2, 3, 41, 6, generator=torch.Generator().manual_seed(1)) for _ in range(3))
                call = build_call(
                    q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), ScaledDot(), mask,
                    None, None, None, None, 0.0, True,
                )  # fmt: skip
                result = backend.run(call)[which]
                assert result is not None
                found = torch.autograd.grad(result.sum(), (q, k, v), allow_unused=True)
                grads.append([torch.zeros_like(q) if x is None else x for x in found])
            torch.testing.assert_close(*grads)


@pytest.mark.parametrize("mask", [None, Causal(-3)], ids=["the operator's own gradient", "in pieces"])
def test_a_second_derivative_is_an_error(mask: Mask | None) -> None:
    x = torch.randn(1, 1, 41, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(attend(x, x, x, mask=mask).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"derivative|differentiat"):
        grad.sum().backward()


@pytest.mark.parametrize("mask", [None, Causal(), PADDING], ids=str)
def test_one_query_under_autocast_keeps_its_dtype(mask: Mask | None) -> None:
    q, k = torch.randn(2, 3, 1, 5), torch.randn(2, 3, 1301, 5)
    expected = attend(q, k, k, mask=mask)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(attend(q, k, k, mask=mask), expected)


def test_a_piece_that_is_the_whole_table_needs_no_copy() -> None:
    """The operator's own gradient then runs; with more pieces, or a gradient of ℓ, this package's."""
    x = torch.randn(1, 1, 41, 3, requires_grad=True)
    names = {}
    for name, mask in (("whole", Window(9, 9)), ("pieces", Causal(-3))):
        names[name] = type(attend(x, x, x, mask=mask).grad_fn).__name__
    assert "ScaledDotProductFlashAttentionForCpu" in names["whole"]
    assert "_Pieces" in names["pieces"]
