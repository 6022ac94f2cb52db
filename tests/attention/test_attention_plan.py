"""`attention_plan` tells the truth: the backend it names is the one that runs, with the memory it says."""

from contextlib import ExitStack
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import Tensor

from oracles.attention_cases import Case, Sizes, case_id, one_option_cases
from oracles.attention_runners import without_cpu_flash
from regard.attention import Causal, Padding, attend, attention_plan
from regard.attention.backends import sdpa as sdpa_module
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
    assert attention_plan(q, k, v).backend == "sdpa"
    assert attention_plan(q, k, v, return_lse=True).backend == "sdpa"
    refusals = {
        "soft-cap": {"softcap": 1.0},
        "sink": {"sink": torch.zeros(1)},
        "dropout": {"dropout": 0.1, "return_lse": True},
    }
    for word, options in refusals.items():
        told = attention_plan(q, k, v, **options)
        assert told.backend == "reference"
        assert word in told.refused["sdpa"]
    told = attention_plan(q.requires_grad_(), k, v, return_lse=True)
    assert "gradient" in told.refused["sdpa"]
    with torch.no_grad():
        assert attention_plan(q, k, v, return_lse=True).backend == "sdpa"


@pytest.mark.parametrize(
    ("mask", "linear"),
    [
        (None, True),
        (Causal(), True),
        (Padding(torch.tensor([3, 67])), True),
        (Causal() & Padding(torch.tensor([3, 67])), True),
        (Causal(2), False),
    ],
    ids=str,
)
def test_no_table_is_written_for_causal_and_padding_on_the_cpu(mask: object, linear: bool) -> None:
    """The operator is given a causal flag and at most one row of keys for each batch element."""
    q = k = v = torch.randn(2, 3, 67, 5)
    operator = sdpa_module.cpu_flash()
    assert operator is not None, "this torch has no fused operator for the CPU that takes mask and causal at once"
    given: list[Tensor | None] = []

    def spy(*arguments: object, attn_mask: Tensor | None, **options: object) -> object:
        given.append(attn_mask)
        return operator(*arguments, attn_mask=attn_mask, **options)

    with mock.patch.object(sdpa_module, "cpu_flash", lambda: spy):
        attend(q, k, v, mask=mask)
        told = attention_plan(q, k, v, mask=mask)
    (attn_mask,) = given
    assert (attn_mask is None or attn_mask.shape == (2, 1, 1, 67)) == linear
    assert ("linear" in told.how) == linear
    assert ("grows with Q × K" in told.how) != linear


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
    problem = Case(Sizes(queries=67, keys=71), bias="full").make(torch.float32)
    leaves = problem.in_dtype(torch.float32, requires_grad=True)
    q, k, v = problem.q, problem.k, problem.v
    for told in (
        attention_plan(q, k, v, bias=problem.options["bias"]),
        attention_plan(q, k, v, bias=leaves.options["bias"]),
        attention_plan(q, k, v, dropout=0.1),
        attention_plan(q, k, v, softcap=1.0),
    ):
        assert "Q × K" in told.how


def test_without_the_private_operator() -> None:
    problem = replace(Case(Sizes(queries=67, keys=67)).make(torch.float32), mask=Causal())
    q, k, v = problem.q, problem.k, problem.v
    with without_cpu_flash():
        told = attention_plan(q, k, v, mask=Causal())
        assert told.backend == "sdpa"
        assert "scaled_dot_product_attention" in told.how
        assert "dropout" not in told.how
        assert attention_plan(q, k, v, mask=Causal(), return_lse=True).backend == "reference"
        assert "Q × K" in attention_plan(q, k, v, mask=Causal() & Padding(torch.tensor([3, 67]))).how


def test_a_wrong_private_operator_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a torch whose operator ignores the mask beside the causal flag."""
    right = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default

    def ignores_the_mask(*arguments: object, attn_mask: Tensor, scale: float) -> object:
        return right(*arguments, scale=scale)

    def has_no_mask(*arguments: object, **options: object) -> object:
        raise TypeError("unexpected keyword argument attn_mask")

    for operator in (ignores_the_mask, has_no_mask):
        packet = mock.Mock(default=operator)
        monkeypatch.setattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", packet)
        assert sdpa_module.cpu_flash.__wrapped__() is None
