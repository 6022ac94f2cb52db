"""FlexAttention: what a kernel is given, checked on the CPU; the kernels themselves need a CUDA device.

torch's own plain implementation of FlexAttention asks the functions of a place everywhere, and doesn't look at tiles.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import flex_attention as torch_flex

from oracles.attention_cases import Case, Problem, case_id, case_strategy, one_option_cases, oracle
from oracles.attention_options import MASKS, Sizes
from oracles.error_rule import assert_as_accurate
from regard.attention import ALiBi, Causal, Dense, Document, Padding, Prefix, ScaledDot, Window, attend, tiles
from regard.attention.backends import flex
from regard.attention.backends.contract import Call
from regard.attention.backends.flex import FLEX, attend_flex, changes, in_tensors, mask_mod
from regard.attention.extent import Extent
from regard.attention.operator import build_call
from regard.attention.visibility import Visibility


@pytest.fixture
def plainly() -> Iterator[None]:
    """Calls run torch's plain implementation, without the compiler."""
    with (
        mock.patch.object(torch_flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True),
        mock.patch.object(flex, "_compiled", lambda: attend_flex),
    ):
        yield


def _call(problem: Problem, need_lse: bool = True) -> Call:
    p = problem
    return build_call(p.q, p.k, p.v, **p.options, dropout=0.0, need_lse=need_lse)


def _taken(case: Case) -> bool:
    return case.factor == "none" and not case.score.startswith(("additive", "kernel"))


CASES = [case for case in one_option_cases(Sizes(2, 6, 3, 7, 5, 11, 3)) if _taken(case)]


@pytest.mark.usefixtures("plainly")
class TestAgainstOracle:
    @pytest.mark.parametrize("case", CASES, ids=case_id)
    def test_each_option(self, case: Case) -> None:
        problem = case.make(torch.float64)
        exact = oracle(problem)
        context, lse = FLEX.run(_call(problem))
        assert lse is not None
        torch.testing.assert_close(context, exact.context, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(lse, exact.lse, atol=1e-12, rtol=1e-12)

    @settings(max_examples=40, deadline=None)
    @given(
        case=case_strategy().filter(_taken),
        dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
        need_lse=st.booleans(),
    )
    def test_within_twice_the_plain_error(self, case: Case, dtype: torch.dtype, need_lse: bool) -> None:
        problem = case.make(dtype)
        exact, plain = oracle(problem), problem.plain()
        context, lse = FLEX.run(_call(problem, need_lse))
        assert context.dtype == dtype
        assert_as_accurate("context", context, plain.context, exact.context)
        assert (lse is not None) == need_lse
        if lse is not None:
            assert_as_accurate("lse", lse, plain.lse, exact.lse)

    @pytest.mark.parametrize("mask", ["none", "causal", "prefix | causal", "documents mixed", "dense"])
    @pytest.mark.parametrize("bias", ["none", "ALiBi", "T5 per batch", "full"])
    def test_attend_agrees_with_it(self, mask: str, bias: str) -> None:
        problem = Case(Sizes(2, 4, 2, 37, 41, 16, 17), mask=mask, bias=bias).make(torch.float64)
        context, lse = attend(problem.q, problem.k, problem.v, **problem.options, return_lse=True)
        other, other_lse = FLEX.run(_call(problem))
        torch.testing.assert_close(context, other, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(lse, other_lse, atol=1e-12, rtol=1e-12)


COMPILED = [
    Case(mask="(padding | documents) & causal", bias="T5", softcap="tight", sink="per head"),
    Case(mask="near & padding", bias="ALiBi per batch"),
    Case(mask="window | dense", bias="full, some barred", score="gaussian"),
    Case(bias="ALiBi, learned", softcap="tight"),
    Case(mask="prefix | causal", bias="per query"),
]


@pytest.mark.parametrize("case", COMPILED, ids=case_id)
def test_gradients_when_traced_as_one_graph(case: Case) -> None:
    """The compiler takes the call whole; gradients reach all, biases in the functions of a place included."""
    case = replace(case, sizes=Sizes(2, 6, 3, 7, 5, 11, 3), seed=3)
    problem = case.make(torch.float64).in_dtype(torch.float64, requires_grad=True)
    torch._dynamo.reset()
    traced = torch.compile(attend_flex, fullgraph=True, backend="eager")
    with (
        mock.patch.object(flex, "_compiled", lambda: traced),
        # torch has no kernel for gradients on the CPU and says so; its plain implementation has them
        mock.patch.object(torch_flex, "_validate_device", lambda *tensors: None),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        context, lse = FLEX.run(_call(problem))
        exact = problem.plain()
        generator = torch.Generator().manual_seed(5)
        to_context = torch.randn(context.shape, generator=generator, dtype=torch.float64)
        to_lse = torch.randn(exact.lse.shape, generator=generator, dtype=torch.float64)

        def gradients(context: Tensor, lse: Tensor) -> tuple[Tensor, ...]:
            loss = (context * to_context).sum() + (lse.masked_fill(lse == -torch.inf, 0.0) * to_lse).sum()
            return torch.autograd.grad(loss, list(problem.inputs.values()))

        assert lse is not None
        found, known = gradients(context, lse), gradients(exact.context, exact.lse)
    for name, one, other in zip(problem.inputs, found, known, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10, msg=name)


def test_lengths_and_offsets_make_no_kernels_of_their_own() -> None:
    compiled = []

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    traced = torch.compile(attend_flex, fullgraph=True, backend=count)
    for queries, keys, batch in ((130, 140, 2), (150, 170, 3), (131, 260, 5)):
        q, k = torch.randn(batch, 2, queries, 16), torch.randn(batch, 2, keys, 16)
        mask = Window(queries // 2, 3) & Padding(torch.arange(batch) + keys // 2)
        call = build_call(q, k, k, ScaledDot(), mask, ALiBi(), None, None, None, 0.0, False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced(q, k, k, changes(call.scoring), False)
    assert len(compiled) == 2  # the first as it is, then for any length and batch


def _resolved(name: str, sizes: Sizes, seed: int) -> tuple[Visibility, Tensor, Extent]:
    make = MASKS[name]
    assert make is not None
    mask, visible = make(sizes, torch.Generator().manual_seed(seed))
    extent = Extent.of(torch.empty(*sizes.table[:3], 1), torch.empty(sizes.batch, sizes.groups, sizes.keys, 1))
    return mask.resolve(extent), visible, extent


class TestTiles:
    """In tiles of 4 × 4 instead of 128 × 128."""

    @pytest.mark.parametrize("name", [name for name in MASKS if name != "none"])
    @pytest.mark.parametrize(("queries", "keys"), [(13, 11), (8, 12), (3, 17)])
    def test_with_the_function_of_places_they_are_the_mask(self, name: str, queries: int, keys: int) -> None:
        seen, visible, extent = _resolved(name, Sizes(2, 3, 3, queries, keys), 3)
        with mock.patch.object(tiles, "TILE", 4):
            some, whole = tiles.tiles(seen, queries, keys, extent.device)
        asked = torch_flex.create_mask(mask_mod(in_tensors(seen, extent)), 2, 3, queries, keys, "cpu")

        def in_places(x: Tensor) -> Tensor:
            return x.repeat_interleave(4, -2).repeat_interleave(4, -1)[..., :queries, :keys]

        assert not (whole & ~some).any()
        # a kernel asks in tiles that have something, unless all of them is visible
        assert torch.equal((in_places(some) & (in_places(whole) | asked)).expand_as(visible), visible)
        assert torch.equal(asked, visible)

    @pytest.mark.parametrize(
        "name",
        [
            "causal",
            "causal per batch",
            "window",
            "window far off",
            "padding",
            "prefix | causal",
            "dense per head",
            "documents in a row",
            "causal | causal two ahead",
            "padding & dense per key",
            "dense per query",
        ],
    )
    def test_none_is_asked_for_nothing(self, name: str) -> None:
        queries, keys = 21, 19
        seen, visible, extent = _resolved(name, Sizes(2, 2, 2, queries, keys), 5)
        with mock.patch.object(tiles, "TILE", 4):
            some, whole = tiles.tiles(seen, queries, keys, extent.device)
        padded = torch.nn.functional.pad(visible, (0, 1, 0, 3)).reshape(2, 2, 6, 4, 5, 4).transpose(3, 4)
        assert torch.equal(some.expand(2, 2, 6, 5), padded.any(-1).any(-1))
        assert torch.equal(whole.expand(2, 2, 6, 5), padded.all(-1).all(-1))

    def test_documents_that_no_device_may_look_at(self) -> None:
        ids = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, -1]])
        seen = Visibility(documents=((ids[:, None, :, None], ids[:, None, None, :]),))
        with mock.patch.object(tiles, "TILE", 4):
            some, whole = tiles.tiles(seen, 14, 14, ids.device)
        assert some[0, 0].int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
        assert whole[0, 0].int().tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]

    def test_block_mask_lists_them(self) -> None:
        extent = Extent.of(torch.empty(1, 1, 300, 1), torch.empty(1, 1, 400, 1))
        seen = in_tensors(Causal().resolve(extent), extent)
        made = flex.tiled(seen, 300, 400, extent.device)
        known = torch_flex.create_block_mask(mask_mod(seen), 1, 1, 300, 400, "cpu")
        assert made.shape == known.shape == (1, 1, 300, 400)
        assert torch.equal(made.to_dense(), known.to_dense())
        for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
            assert torch.equal(getattr(made, name), getattr(known, name)), name
        for name in ("kv_indices", "full_kv_indices"):
            count = getattr(made, name.replace("indices", "num_blocks"))
            for row in range(3):
                listed = slice(0, int(count[0, 0, row]))
                assert torch.equal(getattr(made, name)[0, 0, row, listed], getattr(known, name)[0, 0, row, listed])


def _on_cuda(call: Call) -> Call:
    """What a call looks like on a CUDA device, as far as can be told without one."""
    return replace(
        call, scoring=replace(call.scoring, extent=replace(call.scoring.extent, device=torch.device("cuda")))
    )


def _refusal(dtype: torch.dtype = torch.float16, width: int = 64, queries: int = 300, **options: Any) -> str | None:
    q = torch.zeros(1, 4, queries, width, dtype=dtype)
    k, v = torch.zeros(1, 2, 400, width, dtype=dtype), torch.zeros(1, 2, 400, 64, dtype=dtype)
    given_options = {"score": ScaledDot(), "mask": None, "bias": None, "factor": None, "softcap": None, "sink": None}
    call = build_call(q, k, v, **(given_options | {"dropout": 0.0, "need_lse": False} | options))
    with mock.patch.object(flex, "_has_triton", lambda: True):
        return FLEX.refuses(_on_cuda(call))


class TestDispatch:
    @pytest.mark.parametrize(
        "options",
        [
            {"softcap": 30.0},
            {"sink": torch.zeros(4)},
            {"need_lse": True},
            {"mask": Window(10, 0)},
            {"mask": Prefix(7) | Causal()},
            {"mask": Document(torch.zeros(300, dtype=torch.long), torch.zeros(400, dtype=torch.long))},
            {"mask": Dense(torch.ones(300, 400, dtype=torch.bool))},
            {"mask": Causal() & Padding(torch.tensor([7]))},
            {"mask": Causal(torch.tensor([3]))},
            {"bias": ALiBi()},
            {"bias": torch.zeros(300, 400, dtype=torch.float16)},
        ],
    )
    def test_takes_what_would_write_out_a_table(self, options: dict[str, Any]) -> None:
        assert _refusal(**options) is None

    @pytest.mark.parametrize("mask", [None, Causal(), Causal(0), Padding(torch.tensor([7]))])
    def test_leaves_to_fused_kernels_what_they_do(self, mask: Any) -> None:
        assert "fused SDPA" in str(_refusal(mask=mask))

    @pytest.mark.parametrize(
        ("reason", "options"),
        [
            ("float64", {"dtype": torch.float64}),
            ("widths", {"width": 8}),
            ("widths", {"width": 512}),
            ("too few", {"queries": 1}),
            ("dropout", {"dropout": 0.1}),
            ("factor", {"factor": torch.ones(300, 400)}),
        ],
    )
    def test_says_why_not(self, reason: str, options: dict[str, Any]) -> None:
        assert reason in str(_refusal(**({"mask": Window(10, 0)} | options)))

    def test_is_for_cuda_devices(self) -> None:
        call = _call(Case(mask="window").make(torch.float32))
        assert "CUDA" in str(FLEX.refuses(call))

    def test_says_how(self) -> None:
        call = _call(Case(mask="window", bias="ALiBi", softcap="loose").make(torch.float32))
        how = FLEX.how(call)
        assert "mask, soft-cap, bias inside the kernel" in how
        assert "linear" in how
