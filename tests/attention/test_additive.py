"""Additive scores: every kernel against the formula in float64, gradients, memory, and the compiled kernel."""

from collections.abc import Callable, Iterator
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from oracles.error_rule import assert_as_accurate
from regard.attention import Additive, additive, additive_compiled, additive_kernels, attend, attention_plan
from regard.attention.additive import additive_scores
from regard.attention.additive_compiled import compile_kernels
from regard.errors import UnsupportedError

Draw = Callable[[torch.Generator, tuple[int, ...]], Tensor]


def _normal(spread: float) -> Draw:
    return lambda generator, shape: torch.randn(shape, generator=generator, dtype=torch.float64) * spread


def _by_dimension(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """Some dimensions small, some usual, some huge: each kernel has its share."""
    spread = torch.tensor([0.01, 1.0, 300.0, 0.1, 5.0]).repeat(shape[-1])[: shape[-1]]
    return _normal(1.0)(generator, shape) * spread


def _far_apart(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """±10⁴, so that sums of two are near 0 or far from it."""
    sign = torch.rand(shape, generator=generator, dtype=torch.float64).sub(0.5).sign()
    return sign * 1e4 + _normal(1.0)(generator, shape)


NUMBERS: dict[str, Draw] = {
    "usual": _normal(1.0),
    "small": _normal(0.01),
    "tiny": _normal(1e-6),
    "large": _normal(8.0),
    "by dimension": _by_dimension,
    "far apart": _far_apart,
}
WEIGHTS: dict[str, Draw] = {
    "usual": _normal(0.1),
    "heavy": _normal(1.0),
    "of one sign": lambda generator, shape: 1.0 + torch.rand(shape, generator=generator, dtype=torch.float64),
}
# B, H, G, Q, K, D; heads of the weight
SIZES = {
    "usual": (2, 1, 1, 13, 11, 67, 1),
    "grouped": (2, 6, 3, 5, 7, 31, 1),
    "grouped, a weight for each head": (3, 6, 2, 7, 5, 31, 6),
    "one query": (7, 2, 2, 1, 17, 61, 2),
    "one key": (3, 1, 1, 17, 1, 61, 1),
    "width 1": (2, 3, 3, 11, 13, 1, 1),
    "wide": (1, 1, 1, 5, 7, 1031, 1),
}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles of rows, keys and units even in small cases."""
    monkeypatch.setattr(additive, "SMALL", 0)
    monkeypatch.setattr(additive_kernels, "TILE", 999)
    monkeypatch.setattr(additive_kernels, "TILE_KEYS", 5)


def formula(q: Tensor, k: Tensor, weight: Tensor) -> Tensor:
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    return (torch.tanh(q.unsqueeze(3) + k.unsqueeze(2)) * weight.unsqueeze(3)).sum(-1)


def draw(sizes: str, numbers: str = "usual", weights: str = "usual", seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, groups, queries, keys, width, own = SIZES[sizes]
    generator = torch.Generator().manual_seed(seed)
    q = NUMBERS[numbers](generator, (batch, heads, queries, width))
    k = NUMBERS[numbers](generator, (batch, groups, keys, width))
    return q, k, WEIGHTS[weights](generator, (1, own, 1, width))


def _with_gradients(function: Callable[..., Tensor], inputs: tuple[Tensor, ...], arriving: Tensor) -> list[Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    scores = function(*leaves)
    return [scores.detach(), *torch.autograd.grad(scores, leaves, arriving.to(scores.dtype))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("sizes", SIZES)
def test_scores_and_gradients_within_twice_the_plain_error(
    sizes: str, numbers: str, weights: str, dtype: torch.dtype
) -> None:
    inputs = tuple(x.to(dtype) for x in draw(sizes, numbers, weights))
    exact_inputs = tuple(x.double() for x in inputs)
    arriving = torch.randn(formula(*inputs).shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    arriving = arriving.to(dtype).double()
    for readable in (True, False):  # False: as on a graphics processor, where numbers aren't looked at
        with mock.patch.object(additive, "readable", lambda x, readable=readable: readable):
            got = _with_gradients(additive_scores, inputs, arriving)
        plain = _with_gradients(formula, inputs, arriving)
        exact = _with_gradients(formula, exact_inputs, arriving)
        for name, *three in zip(("scores", "q", "k", "weight"), got, plain, exact, strict=True):
            assert three[0].dtype == dtype
            assert_as_accurate(name, *three, slack=1 if name == "scores" else 4)  # gradients: sums that cancel


@pytest.mark.parametrize("numbers", ["usual", "by dimension"])
@pytest.mark.parametrize("sizes", ["grouped", "grouped, a weight for each head", "one query"])
def test_gradcheck(sizes: str, numbers: str) -> None:
    q, k, weight = (x[:1, ..., :3] for x in draw(sizes, numbers, "heavy"))
    q, k = q[:, :, :3], k[:, :, :3]
    q[..., 2] /= 100  # a difference quotient sees nothing of the tanh of huge numbers
    assert torch.autograd.gradcheck(additive_scores, [x.clone().requires_grad_() for x in (q, k, weight)])


def test_every_kernel_has_its_share() -> None:
    """What decides is how large the numbers of a dimension are, how few the rows, and how heavy the weight."""

    def chosen(numbers: str, weights: str = "heavy", sizes: str = "usual") -> set[str]:
        q, k, weight = draw(sizes, numbers, weights)
        return {type(kernel).__name__ for kernel, _ in additive._chosen(q[:, 0].float(), k[:, 0].float(), weight)}

    assert chosen("usual") == chosen("large") == {"Logistic"}
    assert chosen("small") == {"Addition"}
    assert chosen("far apart") == {"Direct"}
    assert chosen("by dimension") == {"Logistic", "Addition", "Direct"}
    assert chosen("usual", "usual", "one query") == {"Direct"}
    assert chosen("usual", "heavy", "one query") == {"Definition"}


def test_a_second_derivative_is_refused() -> None:
    inputs = [x.requires_grad_() for x in draw("grouped")]
    (grad,) = torch.autograd.grad(additive_scores(*inputs).square().sum(), inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad.sum().backward()


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_a_number_stays_in_its_row(poison: float) -> None:
    q, k, weight = (x.float() for x in draw("usual"))
    clean = additive_scores(q, k, weight)
    q[1, 0, 3, 5] = poison
    got = additive_scores(q, k, weight)
    others = torch.arange(13) != 3
    torch.testing.assert_close(got[1, 0, others], clean[1, 0, others])
    torch.testing.assert_close(got[0], clean[0])
    torch.testing.assert_close(got[1, 0, 3], formula(q, k, weight)[1, 0, 3], equal_nan=True)


class _Largest(TorchDispatchMode):
    """The most numbers of any tensor that an operator returns and that has a memory of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):  # type: ignore[no-untyped-def]
        result = operator(*arguments, **(options or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, Tensor):
                self.numbers = max(self.numbers, x.untyped_storage().nbytes() // x.element_size())
        return result


@pytest.mark.parametrize("sizes", ["usual", "grouped, a weight for each head", "one query"])
def test_no_table_of_pairs_and_width_is_written(sizes: str) -> None:
    inputs = [x.requires_grad_() for x in draw(sizes, "by dimension")]
    with _Largest() as largest:
        scores = additive_scores(*inputs)
        scores.backward(torch.ones_like(scores))
    assert largest.numbers <= max(999, scores.numel(), *(x.numel() for x in inputs))


def test_non_contiguous_and_expanded_inputs() -> None:
    q, k, weight = draw("grouped")
    odd_q = q.transpose(1, 2).contiguous().transpose(1, 2)
    odd_k = k[:1].expand(2, -1, -1, -1)
    odd_weight = weight[..., :1].expand_as(weight)
    arriving = torch.randn(2, 6, 5, 7, dtype=torch.float64).transpose(0, 0)
    leaves = [x.requires_grad_() for x in (odd_q, odd_k, odd_weight)]
    got = torch.autograd.grad(additive_scores(*leaves), leaves, arriving.expand(2, 6, 5, 7))
    for x, y in zip(got, torch.autograd.grad(formula(*leaves), leaves, arriving), strict=True):
        torch.testing.assert_close(x, y)


def test_attend_takes_it_in_half_precision_under_autocast() -> None:
    q, k, v = (torch.randn(1, 2, 40, 32) for _ in range(3))
    score = Additive(torch.randn(32))
    calm = attend(q, k, v, score=score)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(attend(q, k, v, score=score), calm)


def test_transforms_of_torch_func() -> None:
    q, k, weight = draw("usual")
    got = torch.func.vmap(lambda x, y: additive_scores(x[None], y[None], weight)[0])(q, k)
    torch.testing.assert_close(got, formula(q, k, weight))
    got = torch.func.grad(lambda x: additive_scores(x, k, weight).sum())(q)
    leaf = q.clone().requires_grad_()
    torch.testing.assert_close(got, torch.autograd.grad(formula(leaf, k, weight).sum(), leaf)[0])


def test_meta_tensors() -> None:
    q, k, weight = (x.to("meta").requires_grad_() for x in draw("grouped"))
    scores = additive_scores(q, k, weight)
    scores.sum().backward()
    assert scores.shape == (2, 6, 5, 7)
    assert q.grad is not None
    assert q.grad.shape == q.shape


def test_a_compiled_call_is_right() -> None:
    """A compiled model calls the kernels, whatever the lengths."""
    generator = torch.Generator().manual_seed(0)

    def call(q: Tensor, k: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        return attend(q, k, v, score=Additive(weight))

    q, k, v = (torch.randn(2, n, 31, generator=generator) for n in (19, 23, 23))
    inputs = (q, k, v, torch.randn(31, generator=generator))
    arriving = torch.randn(2, 19, 31, generator=generator)
    got = _with_gradients(torch.compile(call, fullgraph=True), inputs, arriving)
    exact = _with_gradients(call, tuple(x.double() for x in inputs), arriving)
    for x, y in zip(got, exact, strict=True):
        torch.testing.assert_close(x.double(), y, atol=2e-5, rtol=2e-5)


def test_the_operator_for_compiled_models_is_declared_right() -> None:
    inputs = [x.requires_grad_() for x in draw("grouped")]
    torch.library.opcheck(additive._scores_op, tuple(inputs))


@pytest.fixture
def compiled() -> Iterator[None]:
    with compile_kernels():
        yield


@pytest.mark.usefixtures("compiled")
def test_compiled_kernels_are_right_and_compiled_once() -> None:
    from torch._dynamo.utils import counters

    before, generator = counters["stats"]["unique_graphs"], torch.Generator().manual_seed(0)
    assert type(additive.active.logistic) is additive_compiled._Compiled
    for large in (1, 1 << 18):  # each unit by itself, or all together
        with mock.patch.object(additive_compiled, "LARGE", large):
            for sizes in SIZES:
                for numbers in ("usual", "by dimension"):
                    inputs = tuple(x.float() for x in draw(sizes, numbers))
                    arriving = torch.randn(formula(*inputs).shape, generator=generator)
                    got = _with_gradients(additive_scores, inputs, arriving)
                    plain = _with_gradients(formula, inputs, arriving)
                    exact = _with_gradients(formula, tuple(x.double() for x in inputs), arriving)
                    for name, *three in zip(("scores", "q", "k", "weight"), got, plain, exact, strict=True):
                        # a gradient is a sum of terms that cancel, each of them rounded
                        assert_as_accurate(f"{sizes}, {numbers}: {name}", *three, slack=1 if name == "scores" else 4)
                    with torch.inference_mode():
                        torch.testing.assert_close(additive_scores(*inputs), got[0])
    assert counters["stats"]["unique_graphs"] == before


def test_compiled_kernels_are_taken_back() -> None:
    kernel = additive.active.logistic
    with mock.patch.object(additive_compiled, "_kept", [mock.sentinel.compiled]):
        with compile_kernels():
            assert additive.active.logistic is mock.sentinel.compiled
        assert additive.active.logistic is kernel
        compile_kernels().undo()
        assert additive.active.logistic is kernel


def test_without_a_compiler_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **options: object) -> object:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(additive_compiled, "_kept", [])
    monkeypatch.setattr(torch, "compile", lambda function, **options: fails)
    kernel = additive.active.logistic
    with pytest.raises(UnsupportedError, match=r"without it: no C\+\+ compiler"):
        compile_kernels()
    assert additive.active.logistic is kernel


def test_the_plan_of_a_long_call() -> None:
    q, k = torch.randn(1, 1031, 3), torch.randn(1, 1031, 3)
    told = attention_plan(q, k, k, score=Additive(torch.randn(3)))
    assert told.backend == "blockwise"
    assert "linear" in told.how
