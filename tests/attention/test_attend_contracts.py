"""What holds of `attend` whatever runs it: alignment, layouts, symmetry, dropout, edge inputs, parity with torch."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from oracles.attention_cases import Case, case_strategy, oracle, sizes_strategy
from oracles.attention_options import BIASES, DTYPES, MASKS, Sizes
from oracles.attention_runners import RUNNERS, run, without_cpu_flash
from oracles.error_rule import assert_as_accurate
from regard.attention import AttentionMap, Causal, Dense, Dot, Padding, attend


def _draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class TestCausal:
    @settings(max_examples=25, deadline=None)
    @given(sizes=sizes_strategy(), seed=st.integers(0, 999))
    def test_last_queries_alone_get_their_rows_of_the_whole(self, sizes: Sizes, seed: int) -> None:
        """A cached step is right: its queries are the last positions."""
        problem = Case(replace(sizes, queries=sizes.keys), mask="causal", seed=seed).make(torch.float64)
        q, k, v = problem.q, problem.k, problem.v
        whole = attend(q, k, v, mask=Causal())
        for steps in (1, sizes.keys // 2, sizes.keys):
            if steps:
                torch.testing.assert_close(attend(q[:, :, -steps:], k, v, mask=Causal()), whole[:, :, -steps:])

    def test_offset_zero_aligns_the_starts(self) -> None:
        q, k, v = _draw(1, 2, 5, 3), _draw(1, 2, 7, 3, seed=1), _draw(1, 2, 7, 3, seed=2)
        context = attend(q, k, v, mask=Causal(offset=0))
        torch.testing.assert_close(context[:, :, 0], v[:, :, 0])
        torch.testing.assert_close(context, attend(q, k[:, :, :5], v[:, :, :5], mask=Causal()))

    def test_offset_is_how_far_ahead_a_query_sees(self) -> None:
        q, k = _draw(5, 3), _draw(7, 3, seed=1)
        visible = AttentionMap(q, k, mask=Causal(1)).dense() > 0
        assert visible.sum(-1).tolist() == [2, 3, 4, 5, 6]

    def test_queries_before_the_first_key_see_nothing(self) -> None:
        q, k, v = _draw(1, 1, 7, 3), _draw(1, 1, 5, 3, seed=1), _draw(1, 1, 5, 3, seed=2)
        context = attend(q, k, v, mask=Causal())
        assert (context[:, :, :2] == 0).all()
        torch.testing.assert_close(context[:, :, 2:], attend(q[:, :, 2:], k, v, mask=Causal()))


class TestLayouts:
    OPTIONS = ("none", "causal", "causal from the start")

    @pytest.mark.parametrize("mask", OPTIONS)
    def test_two_three_four_and_five_axes_agree(self, mask: str) -> None:
        made = MASKS[mask]
        option = None if made is None else made(Sizes(queries=5, keys=7), torch.Generator())[0]
        q, k, v = _draw(2, 3, 4, 5, 11), _draw(2, 3, 2, 7, 11, seed=1), _draw(2, 3, 2, 7, 3, seed=2)
        five, five_lse = attend(q, k, v, mask=option, return_lse=True)
        assert five.shape == (2, 3, 4, 5, 3)
        assert five_lse.shape == (2, 3, 4, 5)
        table = AttentionMap(q, k, mask=option)
        assert table.shape == (2, 3, 4, 5, 7)
        for a in range(2):
            four, four_lse = attend(q[a], k[a], v[a], mask=option, return_lse=True)
            torch.testing.assert_close(five[a], four)
            torch.testing.assert_close(five_lse[a], four_lse)
            torch.testing.assert_close(table[a], AttentionMap(q[a], k[a], mask=option).dense())
            for h in range(4):
                three = attend(q[a, :, h], k[a, :, h // 2], v[a, :, h // 2], mask=option)
                torch.testing.assert_close(four[:, h], three)
                two, two_lse = attend(q[a, 1, h], k[a, 1, h // 2], v[a, 1, h // 2], mask=option, return_lse=True)
                torch.testing.assert_close(three[1], two)
                torch.testing.assert_close(four_lse[1, h], two_lse)

    def test_tables_broadcast_as_usual_in_each_layout(self) -> None:
        q, k, v = _draw(2, 3, 4, 5, 11), _draw(2, 3, 4, 7, 11, seed=1), _draw(2, 3, 4, 7, 3, seed=2)
        for shape in ((2, 3, 4, 5, 7), (3, 1, 5, 7), (2, 1, 1, 1, 7), (4, 5, 7), (4, 1, 1), (5, 7), (5, 1), (7,)):
            visible = _draw(*shape, seed=3) > -0.5
            bias = _draw(*shape, seed=4)
            whole = attend(q, k, v, mask=Dense(visible), bias=bias)
            seen, added = visible.expand(2, 3, 4, 5, 7), bias.expand(2, 3, 4, 5, 7)
            flat = attend(
                q.flatten(0, 2),
                k.flatten(0, 2),
                v.flatten(0, 2),
                mask=Dense(seen.flatten(0, 2)),
                bias=added.flatten(0, 2),
            )
            torch.testing.assert_close(whole.flatten(0, 2), flat)
            table = AttentionMap(q, k, mask=Dense(visible), bias=bias)
            torch.testing.assert_close(table.dense() @ v, whole, atol=1e-5, rtol=1e-5)

    def test_padding_counts_batch_elements_of_several_axes_row_by_row(self) -> None:
        q, k, v = _draw(2, 3, 1, 5, 11), _draw(2, 3, 1, 7, 11, seed=1), _draw(2, 3, 1, 7, 3, seed=2)
        lengths = torch.tensor([1, 2, 3, 4, 5, 7])
        whole = attend(q, k, v, mask=Padding(lengths))
        for i, length in enumerate(lengths.tolist()):
            a, b = divmod(i, 3)
            torch.testing.assert_close(whole[a, b], attend(q[a, b], k[a, b, :, :length], v[a, b, :, :length]))

    def test_one_padding_serves_several_calls(self) -> None:
        padding = Padding(torch.tensor([2, 5, 3]))
        k, v = _draw(3, 7, 5), _draw(3, 7, 3, seed=1)
        for queries, keys in ((5, 7), (1, 7), (2, 5), (5, 7)):
            q = _draw(3, queries, 5, seed=queries)
            expected = [attend(q[b], k[b, :length], v[b, :length]) for b, length in enumerate(padding.lengths.tolist())]
            torch.testing.assert_close(attend(q, k[:, :keys], v[:, :keys], mask=padding), torch.stack(expected))


class TestSymmetry:
    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 999), length=st.sampled_from([2, 3, 7, 13]))
    def test_self_attention_is_permutation_equivariant(self, seed: int, length: int) -> None:
        x = _draw(2, 3, length, 5, seed=seed, dtype=torch.float64)
        order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
        moved = x[:, :, order]
        torch.testing.assert_close(attend(moved, moved, moved), attend(x, x, x)[:, :, order])

    @settings(max_examples=20, deadline=None)
    @given(case=case_strategy())
    def test_the_order_of_keys_does_not_matter(self, case: Case) -> None:
        problem = case.make(torch.float64)
        order = torch.randperm(case.sizes.keys, generator=torch.Generator().manual_seed(case.seed))
        bias, factor = problem.plain_table("bias"), problem.plain_table("factor")
        common = {"score": problem.score, "softcap": problem.softcap, "sink": problem.sink, "return_lse": True}
        context, lse = attend(
            problem.q, problem.k, problem.v, mask=Dense(problem.visible), bias=bias, factor=factor, **common
        )
        moved, moved_lse = attend(
            problem.q,
            problem.k[:, :, order],
            problem.v[:, :, order],
            mask=Dense(problem.visible[..., order]),
            bias=None if bias is None else bias[..., order],
            factor=None if factor is None else factor[..., order],
            **common,
        )
        torch.testing.assert_close(moved, context, atol=1e-10, rtol=1e-8)
        torch.testing.assert_close(moved_lse, lse, atol=1e-10, rtol=1e-8)

    def test_causal_self_attention_is_not_equivariant(self) -> None:
        x = _draw(1, 1, 7, 5)
        flipped = x.flip(2)
        causal = attend(x, x, x, mask=Causal())
        assert not torch.allclose(attend(flipped, flipped, flipped, mask=Causal()), causal.flip(2), atol=1e-2)


class TestDropout:
    @pytest.mark.parametrize("options", [{}, {"softcap": 5.0}], ids=["fused", "reference"])
    def test_the_mean_is_that_without_dropout(self, options: dict[str, float]) -> None:
        torch.manual_seed(0)
        q, k, v = _draw(1, 1, 3, 5), _draw(1, 1, 7, 5, seed=1), _draw(1, 1, 7, 2, seed=2)
        many = (x.expand(4000, *x.shape[1:]) for x in (q, k, v))
        dropped = attend(*many, dropout=0.3, **options)
        error = dropped.std(0) / math.sqrt(4000)
        assert (dropped.std(0) > 0.05).all()
        assert ((dropped.mean(0) - attend(q, k, v, **options)[0]).abs() < 5 * error).all()

    def test_lse_is_that_of_the_weights_before_dropout(self) -> None:
        torch.manual_seed(0)
        q, k, v = _draw(2, 3, 5, 7), _draw(2, 3, 11, 7, seed=1), _draw(2, 3, 11, 2, seed=2)
        context, lse = attend(q, k, v, mask=Causal(), return_lse=True)
        dropped, dropped_lse = attend(q, k, v, mask=Causal(), dropout=0.5, return_lse=True)
        torch.testing.assert_close(dropped_lse, lse)
        assert not torch.allclose(dropped, context)

    @pytest.mark.parametrize("options", [{}, {"softcap": 5.0}, {"mask": Padding(torch.tensor([0, 7]))}], ids=str)
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_probability_one_drops_everything(self, options: dict[str, object], dtype: torch.dtype) -> None:
        q, k, v = (_draw(2, 3, n, 5, seed=n, dtype=dtype).requires_grad_() for n in (3, 7, 7))
        context = attend(q, k, v, dropout=1.0, **options)
        assert (context == 0).all()
        context.sum().backward()
        assert all(x.grad is not None and x.grad.isfinite().all() for x in (q, k, v))

    @pytest.mark.parametrize("options", [{}, {"softcap": 5.0}, {"mask": Padding(torch.tensor([0, 5]))}], ids=str)
    def test_gradient_is_that_of_the_sampled_weights(self, options: dict[str, object]) -> None:
        """With the identity as values, the context is the dropped table, and it is linear in the values."""
        q, k = _draw(2, 1, 3, 5, dtype=torch.float64), _draw(2, 1, 7, 5, seed=1, dtype=torch.float64)
        v = torch.eye(7, dtype=torch.float64).expand(2, 1, 7, 7).clone().requires_grad_()
        torch.manual_seed(5)
        table = attend(q, k, v, dropout=0.4, **options)
        (grad,) = torch.autograd.grad(table[..., 0].sum(), v)
        torch.testing.assert_close(grad[..., 0], table.detach().sum(-2))
        kept = table.detach()
        whole = AttentionMap(q, k, **options).dense()
        torch.testing.assert_close(kept[kept > 0], (whole / 0.6)[kept > 0])
        assert 0 < (kept == 0).sum() < kept.numel()


class TestEdges:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("mask", sorted(MASKS))
    def test_no_query_no_key_no_batch_element(self, mask: str, dtype: torch.dtype) -> None:
        for sizes in (Sizes(queries=0), Sizes(keys=0), Sizes(batch=0), Sizes(queries=0, keys=0)):
            if sizes.batch == 0 and mask.startswith(("dense per head", "dense per key", "dense per query")):
                continue
            problem = Case(sizes, mask=mask).make(dtype).in_dtype(dtype, requires_grad=True)
            context, lse = attend(problem.q, problem.k, problem.v, **problem.options, return_lse=True)
            assert context.shape == (*sizes.table[:3], sizes.value_width)
            assert (context == 0).all()
            assert (lse == -torch.inf).all()
            context.sum().backward()
            assert all(x.grad is None or (x.grad == 0).all() for x in problem.inputs.values())
            table = AttentionMap(problem.q, problem.k, **problem.options)
            assert table.dense().shape == sizes.table
            assert table.entropy().shape == table.lse().shape == table.mass().shape == sizes.table[:3]
            assert (table.received() == 0).all()
            assert table.received().shape == (sizes.batch, sizes.heads, sizes.keys)
            if sizes.keys:
                weights, indices = table.top(3)
                assert weights.shape == indices.shape == (*sizes.table[:3], 3)

    @settings(max_examples=20, deadline=None)
    @given(case=case_strategy(), dtype=st.sampled_from(DTYPES))
    def test_one_key_has_all_the_mass(self, case: Case, dtype: torch.dtype) -> None:
        case = replace(case, sizes=replace(case.sizes, keys=1), mask="none", bias="none", sink="none")
        case = replace(case, factor="none", score="scaled" if case.score == "kernel relu" else case.score)
        problem = case.make(dtype)
        context = attend(problem.q, problem.k, problem.v, **problem.options)
        heads = [h * case.sizes.groups // case.sizes.heads for h in range(case.sizes.heads)]
        expected = problem.v[:, heads].expand_as(context)
        if case.score.startswith("kernel"):  # a quotient of sums, of which both are rounded
            torch.testing.assert_close(context, expected)
        else:
            assert torch.equal(context, expected)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
    @pytest.mark.parametrize("options", ["plain", "softcap", "sink", "causal", "padding"])
    def test_scores_of_ten_thousand(self, options: str, dtype: torch.dtype) -> None:
        case = Case(Sizes(2, 6, 3, 5, 7, 4, 3), score="dot", mask=options if options in MASKS else "none")
        problem = case.make(dtype)
        q, k = problem.q.sign() * 64, (problem.k * 8).round() / 8 * 64
        problem = problem.with_inputs({"q": q, "k": k, "v": problem.v})
        assert 1e4 < float((q.double() @ k[:, [0, 0, 1, 1, 2, 2]].double().transpose(-1, -2)).abs().max()) < 1e5
        if options == "softcap":
            problem = replace(problem, softcap=50.0)
        if options == "sink":
            problem = replace(problem, sink=torch.full((6,), 9e3, dtype=dtype))
        exact, plain = oracle(problem), problem.in_dtype(torch.float32).plain()
        for runner in RUNNERS:
            leaves = problem.in_dtype(dtype, requires_grad=True)
            done = run(runner, leaves)
            if done is None:
                continue
            rounded = plain.context.to(dtype)
            assert_as_accurate(f"{runner}: context", done[0], rounded, exact.context)
            done[0].float().sum().backward()
            assert all(x.grad is not None and x.grad.isfinite().all() for x in leaves.inputs.values())
        table = AttentionMap(problem.q, problem.k, **problem.options)
        torch.testing.assert_close(table.dense().double(), exact.weights, atol=2e-3, rtol=0)
        torch.testing.assert_close(table.lse().double(), exact.lse, atol=1e-6, rtol=1e-6)

    @pytest.mark.parametrize("mask", ["none", "causal", "padding", "dense"])
    @pytest.mark.parametrize("bias", ["none", "full", "per head"])
    def test_layout_in_memory_does_not_matter(self, mask: str, bias: str) -> None:
        problem = Case(Sizes(2, 4, 2, 5, 7, 5, 5), mask=mask, bias=bias).make(torch.float32)
        vectors = {"q": problem.q, "k": problem.k, "v": problem.v}
        for runner in RUNNERS:
            done = run(runner, problem)
            if done is None:  # refused, as the backend for short sequences does with a bias
                continue
            for rearranged in (
                {
                    n: x.transpose(-1, -2).contiguous().transpose(-1, -2)
                    for n, x in problem.inputs.items()
                    if n != "bias"
                },
                {n: x.transpose(1, 2).contiguous().transpose(1, 2) for n, x in vectors.items()},
                {n: torch.stack([x, x], -1)[..., 0] for n, x in problem.inputs.items()},
            ):
                again = run(runner, problem.with_inputs(rearranged))
                assert again is not None
                torch.testing.assert_close(again[0], done[0])

    def test_expanded_tensors(self) -> None:
        q, k, v = _draw(1, 1, 5, 3), _draw(1, 1, 7, 3, seed=1), _draw(1, 1, 7, 1, seed=2)
        bias = _draw(1, 1, 5, 1, seed=3).expand(2, 4, 5, 7)
        leaves = [x.requires_grad_() for x in (q, k, v)]
        spread = (q.expand(2, 4, 5, 3), k.expand(2, 4, 7, 3), v.expand(2, 4, 7, 2))
        expected = attend(q, k, v)
        for context in (attend(*spread), attend(*spread, bias=bias), attend(*spread, softcap=1e6)):
            torch.testing.assert_close(context, expected.expand(2, 4, 5, 2), atol=1e-4, rtol=1e-4)
        grads = torch.autograd.grad(attend(*spread).sum(), leaves)
        whole = torch.autograd.grad(expected.sum() * 16, leaves)
        for grad, wanted in zip(grads, whole, strict=True):
            torch.testing.assert_close(grad, wanted, atol=1e-4, rtol=1e-4)

    def test_width_one_of_odd_stride(self) -> None:
        q, k, v = (_draw(2, 3, 1, n, seed=n).transpose(-1, -2) for n in (5, 7, 7))
        torch.testing.assert_close(
            attend(q, k, v), attend(*(x.clone(memory_format=torch.contiguous_format) for x in (q, k, v)))
        )

    @pytest.mark.parametrize("bias_dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    def test_a_large_negative_bias_of_wider_dtype_stays_finite(
        self, dtype: torch.dtype, bias_dtype: torch.dtype
    ) -> None:
        """−1e30 is no −∞: a row of it alone is still attended."""
        q, k, v = (_draw(1, 2, n, 5, seed=n, dtype=dtype) for n in (3, 7, 7))
        bias = torch.zeros(3, 7, dtype=bias_dtype)
        bias[1], bias[2, 2:] = -1e30, -1e30
        problem = replace(Case(Sizes(1, 2, 2, 3, 7, 5, 5)).make(dtype), dense_bias=bias)
        problem = problem.with_inputs({**problem.inputs, "q": q * 0, "k": k, "v": v})
        for runner in RUNNERS:
            done = run(runner, problem)
            if done is None:  # refused, as the backend for short sequences does with a bias
                continue
            torch.testing.assert_close(done[0][:, :, 1], v.double().mean(2).to(dtype), atol=2e-2, rtol=2e-2)
            torch.testing.assert_close(done[0][:, :, 2], v[:, :, :2].double().mean(2).to(dtype), atol=2e-2, rtol=2e-2)

    @pytest.mark.parametrize("options", [{}, {"softcap": 30.0}, {"dropout": 1e-9}], ids=str)
    def test_autocast_changes_nothing(self, options: dict[str, float]) -> None:
        q, k, v = (_draw(2, 3, n, 5, seed=n) for n in (5, 7, 7))
        expected = attend(q, k, v, **options)
        table = AttentionMap(q, k).dense()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(attend(q, k, v, **options), expected)
            assert torch.equal(AttentionMap(q, k).dense(), table)
        longer = [_draw(1, 2, n, 5, seed=n) for n in (67, 71, 71)]  # past what the backend for short sequences takes
        with torch.autocast("cpu", torch.bfloat16):
            under = attend(*longer)
        assert torch.equal(under, attend(*longer))


class TestParityWithTorch:
    @settings(max_examples=25, deadline=None)
    @given(sizes=sizes_strategy(), mask=st.sampled_from(sorted(MASKS)), bias=st.sampled_from(sorted(BIASES)))
    def test_scaled_dot_product_attention(self, sizes: Sizes, mask: str, bias: str) -> None:
        problem = Case(sizes, mask=mask, bias=bias, seed=3).make(torch.float64)
        added = problem.plain_table("bias")
        added = torch.zeros(sizes.table, dtype=torch.float64) if added is None else added
        table = torch.where(problem.visible, added, -torch.inf)
        alive = (table > -torch.inf).any(-1)
        expected = F.scaled_dot_product_attention(
            problem.q, problem.k, problem.v, attn_mask=table, enable_gqa=sizes.heads != sizes.groups
        )
        context = attend(problem.q, problem.k, problem.v, **problem.options)
        torch.testing.assert_close(context[alive], expected[alive], atol=1e-10, rtol=1e-8)

    @pytest.mark.parametrize(("queries", "keys"), [(7, 7), (5, 11), (11, 5)])
    def test_is_causal_starts_with_the_first_key(self, queries: int, keys: int) -> None:
        q, k, v = _draw(2, 3, queries, 5), _draw(2, 3, keys, 5, seed=1), _draw(2, 3, keys, 2, seed=2)
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        torch.testing.assert_close(attend(q, k, v, mask=Causal(offset=0)), expected)
        if queries == keys:
            torch.testing.assert_close(attend(q, k, v, mask=Causal()), expected)

    def test_scale(self) -> None:
        q, k, v = (_draw(2, 3, n, 5, seed=n) for n in (5, 7, 7))
        torch.testing.assert_close(attend(q, k, v, score=Dot()), F.scaled_dot_product_attention(q, k, v, scale=1.0))

    def test_without_the_private_operator(self) -> None:
        problem = Case(mask="causal & padding").make(torch.float32)
        expected = attend(problem.q, problem.k, problem.v, **problem.options, return_lse=True)
        with without_cpu_flash():
            again = attend(problem.q, problem.k, problem.v, **problem.options, return_lse=True)
        for a, b in zip(again, expected, strict=True):
            torch.testing.assert_close(a, b)
