"""`attention_plan` tells the truth: the backend it names is the one that runs, with the memory it says."""

from contextlib import ExitStack
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import Tensor

from oracles.attention_cases import Case, case_id, one_option_cases
from oracles.attention_options import Sizes
from oracles.attention_runners import without_cpu_flash
from oracles.flash_spy import watched_flash
from regard.attention import (
    Additive,
    ALiBi,
    AttentionPlan,
    Bias,
    Causal,
    Dense,
    Document,
    Gaussian,
    Kernel,
    Mask,
    Near,
    Padding,
    Prefix,
    RelativeBias,
    Window,
    attend,
    attention_plan,
)
from regard.attention.backends import flash as flash_module
from regard.attention.dispatch import BACKENDS

CASES = one_option_cases()
LONG = 1021  # keys enough that the backend for short sequences doesn't take the call
SETTINGS = [
    {},
    {"return_lse": True},
    {"dropout": 0.5},
    {"dropout": 0.5, "return_lse": True},
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_named_backend_runs(case: Case) -> None:
    for gradient in (False, True):
        problem = case.make(torch.float32).in_dtype(torch.float32, requires_grad=gradient)
        for setting in SETTINGS:
            arguments = (problem.q, problem.k, problem.v)
            told = attention_plan(*arguments, **problem.options, **setting)
            ran = []
            with ExitStack() as stack:
                for backend in BACKENDS:
                    stack.enter_context(mock.patch.object(type(backend), "run", _spy(ran, backend)))
                attend(*arguments, **problem.options, **setting)
            assert ran == [told.backend]
            assert told.how
            before = [backend.name for backend in BACKENDS]
            assert list(told.refused) == before[: before.index(told.backend)]
            assert all(told.refused.values())
            assert str(told).startswith(f"{told.backend}: {told.how}")
            for name, why in told.refused.items():
                assert f"not {name}: {why}" in str(told)


def _spy(ran: list[str], backend: object) -> object:
    original = type(backend).run

    def run(self: object, call: object) -> object:
        ran.append(self.name)
        return original(self, call)

    return run


def test_what_the_fused_backend_refuses() -> None:
    q, k, v = torch.randn(2, 5, 3), torch.randn(2, LONG, 3), torch.randn(2, LONG, 3)
    refusals = {
        "soft-cap": {"softcap": 1.0},
        "dropout": {"dropout": 0.1},
        "gradient to a bias": {"bias": torch.zeros(5, LONG, requires_grad=True)},
        "factor": {"factor": torch.ones(5, LONG)},
        "additive": {"score": Additive(torch.ones(3))},
        "factorised": {"score": Kernel()},
    }
    for word, options in refusals.items():
        told = attention_plan(q, k, v, **options)
        assert told.backend != "sdpa"
        assert word in told.refused["sdpa"]
    with torch.no_grad():
        assert attention_plan(q, k, v, **refusals["gradient to a bias"]).backend == "sdpa"
    assert "zero queries" in attention_plan(q[:, :0], k, v).refused["sdpa"]


def test_what_the_fused_backend_takes() -> None:
    q, k, v = torch.randn(2, 5, 3), torch.randn(2, LONG, 3), torch.randn(2, LONG, 7)
    for x in (q, k, v):
        x.requires_grad_()
    for options in (
        {},
        {"return_lse": True},
        {"sink": torch.zeros(1, requires_grad=True)},
        {"sink": torch.zeros(1), "return_lse": True},
        {"bias": torch.zeros(5, LONG)},
        {"score": Gaussian(2.0), "return_lse": True},
        {"mask": Window(3, 1) | Padding(torch.tensor([3, 67])), "return_lse": True},
    ):
        told = attention_plan(q, k, v, **options)
        assert told.backend == "sdpa", told
        assert "linear" in told.how


PADDING = Padding(torch.tensor([3, 67]))
FLAG_AND_ROW = (None, Causal(), Causal(0), Causal(-3), PADDING, Causal() & PADDING, Window(None, 0), Window(67, 67))
IN_TWO = (Causal(2), Causal(60), Causal(2) & PADDING)
IN_ROWS = (
    Window(2, 1),
    Window(2, 0) & PADDING,
    Prefix(3) | Causal(),
    Document(torch.arange(67) // 9),
    Document(torch.arange(67) % 9),
    Causal(torch.tensor([0, 2])),
    Near(torch.arange(67.0), 3.0),
    Window(1, 1) | PADDING,
    Dense(torch.ones(67, 67, dtype=torch.bool).tril()),
)


@pytest.mark.parametrize("mask", FLAG_AND_ROW + IN_TWO + IN_ROWS, ids=str)
def test_no_table_of_all_queries_and_keys_on_the_cpu(mask: Mask | None) -> None:
    """The operator is given a causal flag and a row of keys for each batch element, or a mask for a few queries."""
    q = k = v = torch.randn(2, 3, 67, 5)
    with watched_flash() as seen, mock.patch.object(flash_module, "ROWS", 8):
        attend(q, k, v, mask=mask)
        told = attention_plan(q, k, v, mask=mask)
    assert "linear" in told.how
    assert "Q × K" not in told.how
    assert ("block of queries" in told.how) == (mask in IN_ROWS)
    assert ("joined" in told.how) == (mask in IN_TWO)
    if mask in IN_ROWS:
        assert 0 < seen.largest <= 2 * 8 * 67
    else:
        assert len(seen.masks) == (2 if mask in IN_TWO else 1)
        assert all(x is None or x.shape[:3] == (2, 1, 1) for x in seen.masks)


@pytest.mark.parametrize(
    "bias", [ALiBi(), RelativeBias(torch.randn(8, 3)), torch.randn(3, 67, 67)], ids=["ALiBi", "T5", "tensor"]
)
def test_a_bias_is_written_out_for_a_few_queries(bias: Bias | Tensor) -> None:
    q = k = v = torch.randn(2, 3, 67, 5)
    with watched_flash() as seen, mock.patch.object(flash_module, "ROWS", 8):
        attend(q, k, v, mask=Causal(), bias=bias)
        told = attention_plan(q, k, v, mask=Causal(), bias=bias)
    assert "linear" in told.how
    assert 0 < seen.largest <= 3 * 8 * 67


def test_short_sequences_have_their_own_backend() -> None:
    q, k, v = torch.randn(2, 7, 5), torch.randn(2, 11, 5), torch.randn(2, 11, 5)
    assert attention_plan(q, k, v, mask=Causal(), dropout=0.1).backend == "short"
    assert attention_plan(q[:, :1], k, v).backend == "sdpa"
    for words, options in {"bias": {"bias": torch.zeros(7, 11)}, "ℓ": {"return_lse": True}}.items():
        assert words in attention_plan(q, k, v, **options).refused["short"]
    assert "float32" in attention_plan(q.half(), k.half(), v.half()).refused["short"]


def test_a_cached_step_needs_no_table() -> None:
    told = attention_plan(torch.randn(2, 3, 1, 5), torch.randn(2, 3, 7, 5), torch.randn(2, 3, 7, 5), mask=Causal())
    assert "linear" in told.how


def test_quadratic_memory_is_admitted() -> None:
    """Only of torch's public function, which runs where the operator for the CPU can't be used."""
    problem = Case(Sizes(queries=67, keys=71), bias="full").make(torch.float32)
    leaves = problem.in_dtype(torch.float32, requires_grad=True)
    q, k, v = problem.q, problem.k, problem.v
    with without_cpu_flash():
        for options in (
            {"bias": problem.options["bias"]},
            {"bias": leaves.options["bias"]},
            {"dropout": 0.1},
            {"mask": Causal()},
            {"mask": Window(3, 3)},
        ):
            told = attention_plan(q, k, v, **options)
            assert told.backend == "sdpa"
            assert "grows with Q × K" in told.how


def test_without_the_private_operator() -> None:
    problem = replace(Case(Sizes(queries=67, keys=67)).make(torch.float32), mask=Causal())
    q, k, v = problem.q, problem.k, problem.v
    with without_cpu_flash():
        told = attention_plan(q, k, v, mask=Causal())
        assert told.backend == "sdpa"
        assert "scaled_dot_product_attention" in told.how
        assert "Q × K" not in told.how
        for options in ({"return_lse": True}, {"sink": torch.zeros(6)}):
            told = attention_plan(q, k, v, mask=Causal(), **options)
            assert told.backend != "sdpa"
            assert "ℓ" in told.refused["sdpa"]
        assert "Q × K" in attention_plan(q, k, v, mask=Causal() & Padding(torch.tensor([3, 67]))).how


def test_a_wrong_private_operator_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a torch whose operator ignores the mask beside the causal flag, or the ℓ that it is given."""
    right = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default

    def ignores_the_mask(*arguments: object, attn_mask: Tensor, scale: float) -> object:
        return right(*arguments, scale=scale)

    def has_no_mask(*arguments: object, **options: object) -> object:
        raise TypeError("unexpected keyword argument attn_mask")

    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default

    def makes_its_own(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *others: object, **options: object) -> object:
        context, lse = right(q, k, v, 0.0, True, **options)
        return backward(grad, q, k, v, context, lse, 0.0, True, **options)

    assert flash_module.cpu_flash.__wrapped__() is not None
    for name, operator in (("", ignores_the_mask), ("", has_no_mask), ("_backward", makes_its_own)):
        with monkeypatch.context() as patch:
            packet = mock.Mock(default=operator)
            patch.setattr(torch.ops.aten, f"_scaled_dot_product_flash_attention_for_cpu{name}", packet)
            assert flash_module.cpu_flash.__wrapped__() is None


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_in_functional_transforms_the_public_function_runs() -> None:
    q, k, v = (torch.randn(5, 3, 67, 7) for _ in range(3))
    expected = attend(q, k, v, mask=Causal(2))
    plans: list[AttentionPlan] = []

    def one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        plans.append(attention_plan(q, k, v, mask=Causal(2)))
        return attend(q, k, v, mask=Causal(2))

    torch.testing.assert_close(torch.func.vmap(one)(q, k, v), expected)
    (told,) = plans
    assert "scaled_dot_product_attention" in told.how
