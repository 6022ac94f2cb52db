"""Maps that are kept own what they are made of: `AttentionMap.detached`, and recordings of every option."""

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oracles.attention_cases import Case, case_id, one_option_cases
from oracles.layer_options import LAYER_SCORES, randomised
from regard import AttentionMap, record
from regard.attention import Causal, Dense, Document, GaussianFactor, Mask, Padding, RelativeBias
from regard.errors import ArgumentError
from regard.layers import (
    AdditiveScore,
    Attend,
    LearnedSink,
    MultiHeadAttention,
    RelativePositionBias,
    SelfAttention,
    additive_attention,
)

B, Q, K, H, D = 2, 5, 7, 6, 3
E = H * D


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tensors(x: Any) -> Iterator[Tensor]:
    """Every tensor that an object of the package holds, however deep."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, (list, tuple, dict)):
        for part in x.values() if isinstance(x, dict) else x:
            yield from tensors(part)
    elif type(x).__module__.startswith("regard.") and not isinstance(x, nn.Module):
        yield from tensors(vars(x))


def stored(x: Any) -> int:
    """Bytes of all storage that an object holds."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors(x)}.values())


def assert_owned(table: AttentionMap, given: list[Tensor]) -> None:
    """No graph, and no storage of what was given."""
    others = {x.untyped_storage().data_ptr() for x in given if x.numel()}
    found = list(tensors(table))
    assert found
    for x in found:
        assert not x.requires_grad and x.grad_fn is None
        assert not x.numel() or x.untyped_storage().data_ptr() not in others


OPTION_CASES = one_option_cases() + [
    replace(case, sizes=replace(case.sizes, batch=3, groups=6, queries=7, keys=5))
    for case in (
        Case(score="general per head", mask="documents mixed", bias="T5 per batch", sink="per head", factor="gaussian"),
        Case(score="additive per head", mask="(padding | documents) & causal", bias="ALiBi per batch", softcap="tight"),
        Case(score="gaussian", mask="near & padding", bias="full, some barred", factor="given"),
        Case(score="cosine", mask="causal & dense", bias="per key, some barred", sink="per head"),
    )
]


@pytest.mark.parametrize("case", OPTION_CASES, ids=case_id)
def test_a_detached_map_is_the_same_table(case: Case) -> None:
    problem = case.make(torch.float64).in_dtype(torch.float64, requires_grad=True)
    table = AttentionMap(problem.q, problem.k, **problem.options)
    whole = table.dense().detach()
    lse, mass, received = table.lse().detach(), table.mass(), table.received()
    copies = {None: table.detached()} | {heads: table.detached(heads) for heads in ((4, 1), (0,), (2, 3), (5, 4, 3))}
    given = [*problem.inputs.values(), *tensors(table)]
    for copy in copies.values():
        assert_owned(copy, given)
    with torch.no_grad():
        for x in given:
            x.zero_()
    for heads, copy in copies.items():
        pick = slice(None) if heads is None else list(heads)
        assert copy.shape == whole[:, pick].shape
        torch.testing.assert_close(copy.dense(), whole[:, pick], atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(copy.lse(), lse[:, pick], atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(copy.mass(), mass[:, pick], atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(copy.received(), received[:, pick], atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(copy[1, 0, 1:4, 2:], whole[:, pick][1, 0, 1:4, 2:], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("leading", [(), (2,), (2, 3, 4)])
def test_other_layouts(leading: tuple[int, ...]) -> None:
    q, k = normal(*leading, Q, D), normal(*leading, K, D, seed=2)
    table = AttentionMap(q, k, mask=Causal())
    assert table.detached().shape == (*leading, Q, K)
    heads = [2, 0] if len(leading) > 1 else [0]
    picked = table.detached(heads).dense()
    expected = table.dense()[..., heads, :, :] if len(leading) > 1 else table.dense()
    torch.testing.assert_close(picked, expected, atol=0, rtol=0)


def test_copies_hold_no_larger_storage_and_write_nothing_out() -> None:
    length = 512
    big = torch.randn(1, length, 3, 4, 8).transpose(1, 3)  # (1, 4, 3, length, 8): queries and keys among other things
    q, k = big[:, :, 0], big[:, :, 1]
    column = torch.ones(length, 1, dtype=torch.bool)
    table = AttentionMap(
        q.expand(3, 4, length, 8),
        k.expand(3, 4, length, 8),
        mask=Dense(column) & Document(torch.arange(length) // 7),
        bias=torch.randn(4, 1, 1),
        factor=torch.rand(length),
    ).detached()
    linear = 2 * q.numel() * 4 + 8 * 10 * length
    assert stored(table) <= linear  # a table of queries × keys has 262,144 places
    assert stored(table.detached([2])) < 0.6 * linear


@pytest.mark.parametrize(
    ("heads", "message"),
    [([0, 6], "has heads 0 to 5, so no 6"), ([-1], "so no -1"), ([], "expected one or more"), ([1, 1], "each once")],
)
def test_heads_are_checked(heads: list[int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        AttentionMap(normal(B, H, Q, D), normal(B, H, K, D)).detached(heads)


MASKS: dict[str, Mask] = {
    "causal & padding": Causal() & Padding(torch.tensor([K, 4])),
    "a table for each head": Dense(normal(B, H, Q, K, seed=7) < 0.6),
}


def full_layer(name: str) -> MultiHeadAttention:
    torch.manual_seed(0)
    layer = MultiHeadAttention(
        E,
        H,
        key_heads=2,
        score=LAYER_SCORES[name](D, H),
        position_bias=RelativePositionBias(H, 8, 6),
        softcap=None if "kernel" in name else 2.0,
        sink=LearnedSink(H),
        dropout=0.3,
    )
    randomised(layer, 0.5)
    return layer


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", LAYER_SCORES)
def test_everything_that_determines_the_weights_is_recorded(name: str, mask: str) -> None:
    layer = full_layer(name)
    x, memory, centre = normal(B, Q, E), normal(B, K, E, seed=2), 4 * normal(B, 1, Q, seed=3)
    factor = GaussianFactor(centre, 2.0)

    def run() -> tuple[Tensor, list[Tensor | None]]:
        torch.manual_seed(5)
        layer.zero_grad()
        y = layer(x, memory, MASKS[mask], factor)
        y.square().sum().backward()
        return y.detach(), [p.grad for p in layer.parameters()]

    plain = run()
    with record(layer) as everything, record(layer, heads=[4, 1, 0]) as some:
        recorded = run()
    assert torch.equal(plain[0], recorded[0])
    for a, b in zip(plain[1], recorded[1], strict=True):
        assert a is not None and b is not None and torch.equal(a, b)

    with torch.no_grad():
        expected = AttentionMap(
            layer.queries(x),
            layer.keys_values(memory).keys,
            score=layer.score(),
            mask=MASKS[mask],
            bias=layer.position_bias(),
            factor=factor,
            softcap=layer.softcap,
            sink=layer.sink(),
        )
        whole, lse, mass = expected.dense(), expected.lse(), expected.mass()
    assert 0.1 < mass.max() < 0.99
    for parameter in layer.parameters():  # training goes on
        nn.init.zeros_(parameter)
    centre.zero_()
    table = everything["operator"]
    assert torch.equal(table.dense(), whole) and torch.equal(table.lse(), lse) and torch.equal(table.mass(), mass)
    torch.testing.assert_close(some["operator"].dense(), whole[:, [4, 1, 0]], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(some["operator"].mass(), mass[:, [4, 1, 0]], atol=1e-12, rtol=1e-12)
    for recording in (everything, some):
        assert_owned(recording["operator"], [x, memory, centre, *layer.parameters(), *tensors(MASKS[mask])])


def test_nothing_of_the_pass_stays_alive() -> None:
    layer = full_layer("additive per head")
    alive: list[weakref.ref[Any]] = []
    ordinary: list[AttentionMap] = []

    def watch(module: nn.Module, given: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        alive.extend(weakref.ref(x) for x in (*given, *named.values()) if x is not None and not isinstance(x, float))
        ordinary.append(AttentionMap(*given[:2], **named))

    layer.operator.register_forward_pre_hook(watch, with_kwargs=True)
    with record(layer) as recording:
        y = layer(normal(B, Q, E), normal(B, K, E, seed=2), Padding(torch.tensor([K, 3])), normal(Q, K).sigmoid())
    assert len(alive) == 3 + 5
    del y
    gc.collect()
    assert alive[0]() is not None and alive[1]() is not None  # held by the map that isn't detached
    ordinary.clear()
    gc.collect()
    (left,) = [x for ref in alive if (x := ref()) is not None]
    assert left is layer.sink.logits  # the layer's own parameter
    assert recording["operator"].shape == (B, H, Q, K)


def test_memory_of_a_recording_is_linear_and_of_the_heads_chosen() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(
        64, 8, score=AdditiveScore(8, 8), position_bias=RelativePositionBias(8), sink=LearnedSink(8)
    )
    sizes = []
    for length in (256, 1024):
        with torch.no_grad(), record(layer) as recording, record(layer, heads=[3]) as one:
            layer(torch.randn(1, length, 64), mask=Causal() & Padding(torch.tensor([length - 1])))
        sizes.append(stored(recording["operator"]))
        assert stored(one["operator"]) < 0.2 * sizes[-1]
    assert sizes[1] < 4.2 * sizes[0]


def test_what_was_recorded_in_inference_mode_is_like_any_other() -> None:
    layer = full_layer("additive per head")
    x = normal(B, Q, E)
    with torch.inference_mode(), record(layer) as recording:
        layer.eval()(x, mask=Padding(torch.tensor([Q, 3])))
    with record(layer) as usual:
        layer(x, mask=Padding(torch.tensor([Q, 3])))
    table = recording["operator"]
    assert not any(t.is_inference() for t in tensors(table))
    assert torch.equal(table.dense(), usual["operator"].dense())
    values = normal(K - 2, D).requires_grad_()
    (table.dense() @ values).sum().backward()
    assert torch.equal(table[..., 1:3], usual["operator"][..., 1:3]) and values.grad is not None


def test_single_head_layers() -> None:
    torch.manual_seed(0)
    cross = additive_attention(5, 7, 3)
    states, memory, place = torch.randn(B, Q, 5), torch.randn(B, K, 7), torch.rand(B, Q) * K
    with record(cross, heads=[0]) as recording:
        cross(states, memory, Padding(torch.tensor([K, 3])), GaussianFactor(place, 1.5))
    table = recording["operator"]
    assert table.shape == (B, Q, K) and table.dense()[1, :, 3:].abs().max() == 0
    assert bool((table.mass() < 1).all())
    own = SelfAttention(5, 3, score=AdditiveScore(3))
    with record(own) as recording:
        own(states)
    assert recording["operator"].shape == (B, Q, Q)


def test_the_operator_itself_can_be_used_and_recorded() -> None:
    operator = Attend()
    q, k = normal(H, Q, D)[None], normal(2, K, D)[None]
    bias = RelativeBias(normal(8, H, seed=3), True, 6)
    score = AdditiveScore(D).double()()
    with record(operator) as recording:
        operator(q, k, k, score=score, bias=bias, softcap=3.0)
    expected = AttentionMap(q, k, score=score, bias=bias, softcap=3.0)
    (name,) = recording
    assert torch.equal(recording[name].dense(), expected.dense().detach())
