"""Corners that a random draw seldom meets."""

import sys
from dataclasses import dataclass
from subprocess import run
from unittest import mock

import pytest
import torch
from torch import Tensor

from oracles.attention_cases import Case, oracle
from oracles.attention_options import BIASES, FACTORS, MASKS, Sizes
from regard.attention import (
    ALiBi,
    AttentionMap,
    Causal,
    Document,
    Gaussian,
    Kernel,
    Near,
    Padding,
    RelativeBias,
    ScaledDot,
    Score,
    Window,
    attend,
    modes,
)
from regard.attention.scores import Lifted
from regard.errors import ArgumentError


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("grouping", [(3, 3), (4, 2)])
def test_one_query(mask: str, grouping: tuple[int, int]) -> None:
    """A cached step, where torch's public function may run, under every mask."""
    problem = Case(Sizes(2, *grouping, 1, 13, 5, 5), mask=mask, seed=1).make(torch.float32)
    exact = oracle(problem)
    for need_lse in (False, True):
        got = attend(problem.q, problem.k, problem.v, **problem.options, return_lse=need_lse)
        context = got[0] if need_lse else got
        torch.testing.assert_close(context.double(), exact.context, atol=1e-5, rtol=1e-5)
    table = AttentionMap(problem.q, problem.k, **problem.options).dense()
    torch.testing.assert_close(table.double(), exact.weights, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mask", [Causal(0), Window(None, 0, 0), Causal(0) & Padding(torch.tensor([9, 4]))], ids=str)
def test_one_query_at_the_start_sees_one_key(mask: Causal) -> None:
    q, k, v = torch.randn(2, 3, 1, 5), torch.randn(2, 3, 9, 5), torch.randn(2, 3, 9, 5)
    torch.testing.assert_close(attend(q, k, v, mask=mask), v[:, :, :1])


@pytest.mark.parametrize("mean", [0.0, 20.0, 2000.0, -1e5])
def test_a_gaussian_far_from_the_origin(mean: float) -> None:
    """Years as one-dimensional inputs of a Nadaraya–Watson estimate."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 1, 50, 1, generator=generator) * 20 + mean
    y = torch.rand(1, 1, 50, 1, generator=generator) * 20 + mean
    got, exact = AttentionMap(x, y, score=Gaussian(1.0)).dense(), Gaussian(1.0).formula(x.double(), y.double())
    torch.testing.assert_close(got.double(), exact.softmax(-1), atol=1e-4, rtol=1e-3)


def test_a_gaussian_in_float16_with_a_mean() -> None:
    q, k = (torch.randn(1, 2, 7, 64, generator=torch.Generator().manual_seed(i)).half() + 80 for i in range(2))
    got, exact = AttentionMap(q, k, score=Gaussian(8.0)).lse(), Gaussian(8.0).formula(q.double(), k.double())
    torch.testing.assert_close(got.double(), exact.logsumexp(-1), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("radius", [float("inf"), 1e30])
def test_near_with_any_radius(radius: float) -> None:
    q, k = torch.randn(5, 3), torch.randn(7, 3)
    centre = torch.tensor([0.0, 3.0, -1e30, 1e30, 6.0])
    torch.testing.assert_close(
        AttentionMap(q, k, mask=Near(centre, radius)).dense()[:2], AttentionMap(q, k).dense()[:2]
    )


def test_near_with_a_centre_that_is_no_number_sees_nothing() -> None:
    centre = torch.tensor([2.0, float("nan"), 4.0])
    context = attend(torch.randn(3, 2), torch.randn(7, 2), torch.randn(7, 2), mask=Near(centre, 1.0))
    assert (context[1] == 0).all()
    assert context[0].abs().sum() > 0


@pytest.mark.parametrize("sizes", [Sizes(queries=0), Sizes(keys=0), Sizes(batch=0)], ids=["Q", "K", "B"])
@pytest.mark.parametrize("bias", sorted(name for name in BIASES if name.startswith(("ALiBi", "T5", "full", "none"))))
@pytest.mark.parametrize("factor", FACTORS)
def test_maps_without_a_query_key_or_batch_element(sizes: Sizes, bias: str, factor: str) -> None:
    if sizes.batch == 0 and bias.endswith("per batch"):
        return  # there is no offset to give
    problem = Case(sizes, bias=bias, factor=factor).make(torch.float32)
    table = AttentionMap(problem.q, problem.k, **problem.options)
    context, lse = attend(problem.q, problem.k, problem.v, **problem.options, return_lse=True)
    assert context.shape == (*sizes.table[:3], sizes.value_width)
    assert table.dense().shape == sizes.table
    for statistic in (lse, table.entropy(), table.mass(), table.lse()):
        assert statistic.shape == sizes.table[:3]
    assert table.received().shape == (*sizes.table[:2], sizes.keys)


def test_keys_outside_an_empty_band_never_leak() -> None:
    mask = Window(1, None, offset=0) & Causal(offset=-3)
    nothing = torch.full((1, 1, 7, 3), torch.nan)
    assert (attend(torch.randn(1, 1, 5, 3), nothing, nothing, mask=mask) == 0).all()


@pytest.mark.parametrize("options", [{}, {"dropout": 0.5}], ids=["factorised", "reference"])
def test_features_of_padded_keys_never_leak(options: dict[str, float]) -> None:
    q, k, v = (torch.randn(1, 2, n, 3).requires_grad_() for n in (5, 7, 7))
    with torch.no_grad():
        k[:, :, 5:] = 1000.0  # whose exponential is infinite
    attend(q, k, v, score=Kernel(torch.exp), mask=Padding(torch.tensor([5])), **options).sum().backward()
    for x in (q, k, v):
        assert x.grad is not None
        assert x.grad.isfinite().all()


def test_a_large_finite_bias_of_a_wider_dtype_is_the_same_in_the_map() -> None:
    q, k, v = (torch.randn(1, 1, n, 5) for n in (3, 7, 7))
    bias = torch.zeros(3, 7, dtype=torch.float64)
    bias[1] = -1e300
    close = torch.testing.assert_close
    close(AttentionMap(q, k, bias=bias).dense() @ v, attend(q, k, v, bias=bias))
    close(attend(q, k, v, bias=bias)[0, 0, 1], v[0, 0].mean(0))


def test_what_the_map_gives_is_the_callers() -> None:
    table = AttentionMap(torch.randn(5, 3), torch.randn(7, 3))
    with torch.inference_mode():
        expected = table.lse().clone()
    table.lse().zero_()
    torch.testing.assert_close(table.lse(), expected)
    assert not table.lse().is_inference()


def test_documents_without_a_batch_element() -> None:
    ids = torch.zeros(0, 5, dtype=torch.long)
    x = torch.randn(0, 2, 5, 3)
    assert attend(x, x, x, mask=Document(ids)).shape == (0, 2, 5, 3)


@dataclass(frozen=True)
class _Lifting(Score):
    """A score that lifts to what it is told."""

    lifted: Lifted
    form = "inner"

    def formula(self, q: Tensor, k: Tensor) -> Tensor:
        return q @ k.transpose(-1, -2)

    def lift(self, q: Tensor, k: Tensor) -> Lifted:
        return self.lifted


X = torch.randn(1, 1, 5, 3)
WRONG = {
    "a negative scale": (Lifted(X, X, -1.0), "scale must be positive"),
    "another dtype": (Lifted(X, X.double()), "k is .*float64: expected .*float32"),
    "other widths": (Lifted(X, X[..., :2]), r"k is \(1, 1, 5, 2\)"),
    "other lengths": (Lifted(X[:, :, :4], X), r"q is \(1, 1, 4, 3\)"),
    "a weight": (Lifted(X, X, 1.0, torch.ones(1, 1, 1, 3)), "additive form has a weight"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_score_that_lifts_wrongly_is_named(name: str) -> None:
    lifted, message = WRONG[name]
    with pytest.raises(ArgumentError, match=f"_Lifting.lift: (the )?{message}"):
        attend(X, X, X, score=_Lifting(lifted), mask=Causal())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ALiBi([1.0]), "ALiBi: slopes .* list"),
        (lambda: ALiBi(offset=1.5), "ALiBi: offset .* float"),
        (lambda: ALiBi(offset=torch.tensor([0.7])), "ALiBi: offset .*float32"),
        (lambda: RelativeBias([[1.0]]), "RelativeBias: table .* list"),
        (lambda: RelativeBias(torch.ones(32, 4).long()), "RelativeBias: table .*int64"),
        (lambda: RelativeBias(torch.ones(32, 4), max_distance=12.5), "max_distance .* 12.5"),
        (lambda: Gaussian(1e-200), "sigma .* 1e-200"),
    ],
)
def test_numbers_of_another_kind_are_named(call: object, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        call()


def test_on_a_torch_that_does_not_tell_its_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then everything is made of torch's own operators, and is the same."""
    for mask, score in ((Causal() & Padding(torch.tensor([9, 4])), ScaledDot()), (Window(2, 1), Gaussian())):
        q, k, v = torch.randn(2, 3, 9, 5), torch.randn(2, 3, 9, 5), torch.randn(2, 3, 9, 5)
        expected = attend(q, k, v, mask=mask, score=score, return_lse=True)
        with mock.patch.object(modes, "KNOWN", False):
            got = attend(q, k, v, mask=mask, score=score, return_lse=True)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b)


def test_the_import_brings_no_compiler() -> None:
    code = "import sys, regard; assert 'torch._dynamo' not in sys.modules"
    run([sys.executable, "-c", code], check=True)
