"""Calls inside `torch.compile`, on meta tensors and inside the transforms of `torch.func`."""

import warnings
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, hessian, jvp, vmap

from oracles.attention_cases import Case, Mask, case_id, one_option_cases
from regard import AttentionMap, attend, attention_plan
from regard.attention import (
    Additive,
    ALiBi,
    Causal,
    Cosine,
    Dense,
    Document,
    Gaussian,
    GaussianFactor,
    Kernel,
    Padding,
    Prefix,
    RelativeBias,
    Window,
)
from regard.attention.backends.reference import REFERENCE
from regard.attention.operator import build_call

Inputs = tuple[Tensor, Tensor, Tensor]
Options = Callable[["Shape"], dict[str, Any]]


@dataclass(frozen=True)
class Shape:
    """Sizes of one call."""

    batch: int = 2
    queries: int = 5
    keys: int = 7
    heads: int = 4
    groups: int = 2
    width: int = 8
    value_width: int = 3

    def inputs(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> Inputs:
        generator = torch.Generator().manual_seed(seed)

        def draw(heads: int, length: int, width: int) -> Tensor:
            return torch.randn(self.batch, heads, length, width, generator=generator, dtype=torch.float64).to(dtype)

        return (
            draw(self.heads, self.queries, self.width),
            draw(self.groups, self.keys, self.width),
            draw(self.groups, self.keys, self.value_width),
        )

    def draw(self, *size: int) -> Tensor:
        return torch.randn(size, generator=torch.Generator().manual_seed(7))

    def lengths(self) -> Tensor:
        return torch.arange(self.batch) * 3 % self.keys + 1


CALLS: dict[str, Options] = {
    "plain": lambda shape: {},
    "causal": lambda shape: {"mask": Causal()},
    "causal & padding": lambda shape: {"mask": Causal(0) & Padding(shape.lengths())},
    "window & padding": lambda shape: {"mask": Window(2, 1) & Padding(shape.lengths())},
    "documents": lambda shape: {"mask": Document(torch.arange(shape.queries) // 2, torch.arange(shape.keys) // 3)},
    "prefix | causal": lambda shape: {"mask": Prefix(shape.lengths()) | Causal()},
    "causal per batch": lambda shape: {"mask": Causal(shape.lengths())},
    "dense mask": lambda shape: {"mask": Dense(shape.draw(shape.queries, shape.keys) > -0.5)},
    "bias": lambda shape: {"bias": shape.draw(shape.heads, shape.queries, shape.keys)},
    "ALiBi": lambda shape: {"bias": ALiBi(), "mask": Causal()},
    "T5": lambda shape: {"bias": RelativeBias(shape.draw(8, shape.heads), max_distance=6)},
    "soft-cap and sink": lambda shape: {"softcap": 3.0, "sink": shape.draw(shape.heads)},
    "gaussian": lambda shape: {"score": Gaussian(2.0)},
    "additive": lambda shape: {"score": Additive(shape.draw(shape.width))},
    "kernel": lambda shape: {"score": Kernel()},
    "kernel, causal": lambda shape: {"score": Kernel(), "mask": Causal()},
    "factor": lambda shape: {"factor": GaussianFactor(shape.draw(shape.queries), 2.0)},
}


def _close(found: Any, known: Any) -> None:
    torch.testing.assert_close(found, known, atol=2e-6, rtol=2e-5)


class TestCompile:
    BACKWARD_TRACED = ("plain", "soft-cap and sink", "T5")  # it takes twice the time

    @pytest.mark.parametrize("name", CALLS)
    def test_one_graph_gives_the_same(self, name: str) -> None:
        shape = Shape()
        options = CALLS[name](shape)
        tensors = shape.inputs()

        def run(call: Callable[..., Any]) -> tuple[Tensor, ...]:
            leaves = [x.clone().requires_grad_() for x in tensors]
            context = call(*leaves, **options)
            weights = torch.linspace(-1, 1, context.numel()).view_as(context)
            return (context.detach(), *torch.autograd.grad((context * weights).sum(), leaves))

        torch._dynamo.reset()
        backend = "aot_eager" if name in self.BACKWARD_TRACED else "eager"
        _close(run(torch.compile(attend, fullgraph=True, backend=backend)), run(attend))

    def test_with_lse_and_a_mask_that_the_function_makes(self) -> None:
        def call(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            return attend(q, k, v, mask=Causal() & Padding(lengths), return_lse=True)

        torch._dynamo.reset()
        inputs = *Shape().inputs(), torch.tensor([7, 0])
        _close(torch.compile(call, fullgraph=True, backend="eager")(*inputs), call(*inputs))

    @pytest.mark.parametrize("name", ["causal & padding", "documents", "T5"])
    def test_lengths_need_no_graphs_of_their_own(self, name: str) -> None:
        graphs = []

        def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
            graphs.append(graph)
            return graph.forward

        torch._dynamo.reset()
        compiled = torch.compile(attend, fullgraph=True, backend=count)
        for queries, keys in ((40, 70), (45, 80), (51, 95)):
            shape = Shape(queries=queries, keys=keys)
            inputs, options = shape.inputs(), CALLS[name](shape)
            _close(compiled(*inputs, **options), attend(*inputs, **options))
        assert len(graphs) == 2  # these lengths, then any

    def test_with_every_size_unknown(self) -> None:
        shape = Shape()
        options = CALLS["soft-cap and sink"](shape)
        torch._dynamo.reset()
        compiled = torch.compile(attend, fullgraph=True, backend="eager", dynamic=True)
        _close(compiled(*shape.inputs(), **options), attend(*shape.inputs(), **options))

    def test_generated_code(self) -> None:
        torch._dynamo.reset()
        inputs = Shape(queries=30, keys=37).inputs()

        def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attend(q, k, v, mask=Causal(), softcap=4.0)

        _close(torch.compile(call, fullgraph=True)(*inputs), call(*inputs))


def _on_meta(x: Any) -> Any:
    """A mask or bias with its tensors on the meta device."""
    x = copy(x)
    for name, value in vars(x).items():
        if isinstance(value, Tensor):
            object.__setattr__(x, name, value.to("meta"))
        elif isinstance(value, Mask):
            object.__setattr__(x, name, _on_meta(value))
        elif isinstance(value, dict):  # tables that were made
            object.__setattr__(x, name, {})
    return x


@pytest.mark.parametrize("case", one_option_cases(), ids=case_id)
def test_meta_tensors(case: Case) -> None:
    problem = case.make(torch.float16)
    problem = problem.with_inputs({name: x.to("meta") for name, x in problem.inputs.items()})
    problem = replace(problem, mask=None if problem.mask is None else _on_meta(problem.mask))
    options = problem.options
    if options["bias"] is not None and not isinstance(options["bias"], Tensor):
        options["bias"] = _on_meta(options["bias"])
    batch, heads, queries, keys = case.sizes.table

    def check(x: Tensor, dtype: torch.dtype, *shape: int) -> None:
        assert x.is_meta
        assert x.dtype == dtype
        assert x.shape == shape

    context, lse = attend(problem.q, problem.k, problem.v, **options, return_lse=True)
    check(context, torch.float16, batch, heads, queries, case.sizes.value_width)
    check(lse, torch.float32, batch, heads, queries)
    check(attend(problem.q, problem.k, problem.v, **options), torch.float16, *context.shape)
    table = AttentionMap(problem.q, problem.k, **options)
    check(table.dense(), torch.float32, batch, heads, queries, keys)
    check(table.lse(), torch.float32, batch, heads, queries)


SIZES = {"short": Shape(), "longer": Shape(queries=30, keys=41)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CALLS)
class TestFunctionalTransforms:
    def _call(self, name: str, size: str) -> tuple[Callable[..., Tensor], list[Inputs]]:
        """A call of float64 tensors, and three times its inputs."""
        shape = SIZES[size]
        options = CALLS[name](shape)

        def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attend(q, k, v, **options)

        return call, [shape.inputs(torch.float64, seed) for seed in range(3)]

    def test_vmap_is_the_loop(self, name: str, size: str) -> None:
        call, inputs = self._call(name, size)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of an operator that vmap would run in a loop
            found = vmap(call)(*(torch.stack(x) for x in zip(*inputs, strict=True)))
        _close(found, torch.stack([call(*each) for each in inputs]))

    def test_vmap_over_queries_alone(self, name: str, size: str) -> None:
        call, inputs = self._call(name, size)
        _, k, v = inputs[0]
        found = vmap(call, (0, None, None))(torch.stack([q for q, _, _ in inputs]), k, v)
        _close(found, torch.stack([call(q, k, v) for q, _, _ in inputs]))

    def test_gradients_of_each(self, name: str, size: str) -> None:
        call, inputs = self._call(name, size)

        def loss(*x: Tensor) -> Tensor:
            return call(*x).square().sum()

        found = vmap(grad(loss, (0, 1, 2)))(*(torch.stack(x) for x in zip(*inputs, strict=True)))
        known = []
        for each in inputs:
            leaves = [x.clone().requires_grad_() for x in each]
            known.append(torch.autograd.grad(loss(*leaves), leaves))
        for one, others in zip(found, zip(*known, strict=True), strict=True):
            _close(one, torch.stack(others))

    def test_forward_mode(self, name: str, size: str) -> None:
        call, (inputs, tangents, _) = self._call(name, size)
        _, found = jvp(call, inputs, tangents)
        step = 1e-5
        ahead, behind = (
            call(*(x + sign * step * t for x, t in zip(inputs, tangents, strict=True))) for sign in (1, -1)
        )
        torch.testing.assert_close(found, (ahead - behind) / (2 * step), atol=1e-6, rtol=1e-5)
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(x, t) for x, t in zip(inputs, tangents, strict=True)]
            _close(forward_ad.unpack_dual(call(*duals)).tangent, found)


def test_second_derivatives_of_the_plain_computation() -> None:
    shape = Shape(1, 2, 3, 2, 1, 2, 2)
    options = {"score": Cosine(2.0), "mask": Causal(-1), "bias": None, "factor": None, "softcap": 2.0}
    sink = shape.draw(2).double().requires_grad_()
    leaves = [x.requires_grad_() for x in shape.inputs(torch.float64)]

    def call(q: Tensor, k: Tensor, v: Tensor, sink: Tensor) -> tuple[Tensor, Tensor]:
        made = build_call(q, k, v, **options, sink=sink, dropout=0.0, need_lse=True)
        context, lse = REFERENCE.run(made)
        assert lse is not None
        return context, lse[:, :, 1:]  # the first query sees nothing

    assert torch.autograd.gradgradcheck(call, [*leaves, sink])


def test_hessian_at_a_length_of_fused_kernels() -> None:
    q, k, v = Shape(1, 30, 41, 1, 1, 2, 2).inputs(torch.float64)
    found = hessian(lambda x: attend(x, k, v, mask=Causal()).square().sum())(q)
    assert found.shape == q.shape + q.shape
    step = torch.zeros_like(q)
    step[0, 0, 7, 1] = 1e-5
    slope = grad(lambda x: attend(x, k, v, mask=Causal()).square().sum())
    known = (slope(q + step) - slope(q - step)) / 2e-5
    torch.testing.assert_close(found[0, 0, 7, 1], known, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("axis", [0, None])
def test_lengths_may_be_batched(axis: int | None) -> None:
    inputs = tuple(torch.stack([x] * 3) if axis == 0 else x for x in Shape(batch=1).inputs())
    lengths = torch.tensor([7, 0, 3])

    def call(q: Tensor, k: Tensor, v: Tensor, n: Tensor) -> Tensor:
        return attend(q, k, v, mask=Padding(n) & Causal(0))

    found = vmap(call, (axis, axis, axis, 0))(*inputs, lengths)
    known = [call(*(x[i] if axis == 0 else x for x in inputs), n) for i, n in enumerate(lengths)]
    _close(found, torch.stack(known))


def test_a_mask_keeps_nothing_of_a_transform() -> None:
    q, k, v = Shape(queries=30, keys=41).inputs()
    mask = Padding(torch.tensor([41, 5]))
    inside = grad(lambda q: attend(q, k, v, mask=mask).square().sum())(q)
    leaf = q.clone().requires_grad_()
    _close(torch.autograd.grad(attend(leaf, k, v, mask=mask).square().sum(), leaf)[0], inside)
    kept = [x for made in mask._tables.values() for x in vars(made).values() if isinstance(x, Tensor)]
    assert not any(torch._C._functorch.is_functorch_wrapped_tensor(x) for x in kept)


def test_the_plan_tells_what_runs_inside() -> None:
    q, k, v = Shape(queries=300, keys=400).inputs()
    seen = []

    def call(q: Tensor) -> Tensor:
        seen.append(attention_plan(q, k, v, mask=Window(3, 0), softcap=2.0))
        return q.sum()

    grad(call)(q)
    assert seen[0].backend == "reference"
    assert "torch.func" in seen[0].refused["blockwise"]


@pytest.mark.parametrize("name", ["plain", "causal & padding", "soft-cap and sink"])
def test_maps(name: str) -> None:
    shape = SIZES["longer"]
    options = CALLS[name](shape)
    q, k = (torch.stack(x) for x in list(zip(*(shape.inputs(torch.float64, n) for n in range(3)), strict=True))[:2])

    def of(what: str) -> Callable[[Tensor, Tensor], Tensor]:
        def value(q: Tensor, k: Tensor) -> Tensor:
            table = AttentionMap(q, k, **options)
            return table[..., 3:9] if what == "crop" else getattr(table, what)()

        return value

    for what in ("dense", "lse", "crop", "mass"):
        _close(vmap(of(what))(q, k), torch.stack([of(what)(*x) for x in zip(q, k, strict=True)]))
    for what in ("dense", "lse", "crop"):

        def loss(q: Tensor, k: Tensor, what: str = what) -> Tensor:
            x = of(what)(q, k)
            return x.masked_fill(x == -torch.inf, 0.0).square().sum()

        leaf = q[0].clone().requires_grad_()
        known = torch.autograd.grad(loss(leaf, k[0]), leaf)[0]
        _close(vmap(grad(loss))(q, k)[0], known)
