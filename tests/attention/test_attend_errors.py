"""Each bad argument is one error that names it, what came and what was expected."""

from collections.abc import Callable

import pytest
import torch

from regard.attention import (
    Additive,
    ALiBi,
    AttentionMap,
    Causal,
    Cosine,
    Dense,
    Document,
    Gaussian,
    GaussianFactor,
    General,
    Kernel,
    Near,
    Padding,
    Prefix,
    RelativeBias,
    ScaledDot,
    Window,
    attend,
    attention_plan,
)
from regard.errors import ArgumentError, RegardError, UnsupportedError

Q, K, V = torch.randn(2, 4, 5, 3), torch.randn(2, 2, 7, 3), torch.randn(2, 2, 7, 11)

# What is called, and words that its message must hold.
BAD_CALLS: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "q is no tensor": (lambda: attend([[1.0]], K, V), ("q", "list", "tensor")),
    "v is no tensor": (lambda: attend(Q, K, None), ("v", "NoneType", "tensor")),
    "integer queries": (lambda: attend(Q.long(), K.long(), V.long()), ("int64", "float32")),
    "complex keys": (lambda: attend(Q, K.to(torch.complex64), V), ("k", "complex64", "float32")),
    "one axis": (lambda: attend(Q[0, 0, 0], K[0, 0, 0], V[0, 0, 0]), ("q", "(3,)", "(Q, D)")),
    "unequal numbers of axes": (lambda: attend(Q, K[0], V[0]), ("q", "k", "(2, 4, 5, 3)", "(2, 7, 3)")),
    "unequal widths": (lambda: attend(Q[..., :2], K, V), ("width", "(2, 4, 5, 2)", "(2, 2, 7, 3)")),
    "no width": (lambda: attend(Q[..., :0], K[..., :0], V), ("width", "(2, 4, 5, 0)")),
    "unequal batches": (lambda: attend(Q[:1], K, V), ("batch", "(1, 4, 5, 3)", "(2, 2, 7, 3)")),
    "heads not divided": (lambda: attend(Q[:, :3], K, V), ("heads", "3", "2")),
    "more key heads than query heads": (lambda: attend(Q[:, :1], K, V), ("heads", "1", "2")),
    "no key heads": (lambda: attend(Q, K[:, :0], V[:, :0]), ("heads", "4", "0")),
    "values for other keys": (lambda: attend(Q, K, V[:, :, :6]), ("v", "k", "(2, 2, 7, 3)", "(2, 2, 6, 11)")),
    "values of other heads": (lambda: attend(Q, K, V[:, :1]), ("v", "(2, 1, 7, 11)", "(2, 2, 7, 3)")),
    "dtypes of q and k": (lambda: attend(Q.double(), K, V), ("q", "k", "float64", "float32")),
    "dtypes of k and v": (lambda: attend(Q, K, V.half()), ("v", "float16", "float32")),
    "devices of q and k": (lambda: attend(Q.to("meta"), K, V), ("q", "k", "meta", "cpu")),
    "device of v": (lambda: attend(Q, K, V.to("meta")), ("v", "meta", "cpu")),
    "a tensor as mask": (lambda: attend(Q, K, V, mask=torch.ones(5, 7).bool()), ("mask", "Tensor", "Dense")),
    "a word as mask": (lambda: attend(Q, K, V, mask="causal"), ("mask", "str", "Causal()")),
    "a word as score": (lambda: attend(Q, K, V, score="dot"), ("score", "str", "ScaledDot()")),
    "a score class": (lambda: attend(Q, K, V, score=ScaledDot), ("score", "ScaledDot()")),
    "an infinite scale": (lambda: ScaledDot(float("inf")), ("ScaledDot", "scale", "inf", "finite")),
    "a word as scale": (lambda: ScaledDot("big"), ("ScaledDot", "scale", "'big'", "number")),
    "offset of another kind": (lambda: Causal(1.5), ("Causal", "offset", "float", "int")),
    "offset for each batch element": (
        lambda: attend(Q, K, V, mask=Causal(torch.tensor([1, 2, 3]))),
        ("Causal: offset", "3 lengths or offsets", "batch of 2"),
    ),
    "lengths as a list": (lambda: Padding([1, 2]), ("Padding", "lengths", "list", "tensor")),
    "fractional lengths": (lambda: Padding(torch.tensor([1.0, 2.0])), ("Padding", "float32", "integer")),
    "lengths of another batch": (
        lambda: attend(Q, K, V, mask=Padding(torch.tensor([1, 2, 3]))),
        ("Padding", "3 lengths", "2"),
    ),
    "lengths beyond the keys": (
        lambda: attend(Q, K, V, mask=Padding(torch.tensor([1, 8]))),
        ("Padding", "1 to 8", "7 keys"),
    ),
    "a negative length": (lambda: attend(Q, K, V, mask=Padding(torch.tensor([-1, 7]))), ("Padding", "-1", "7 keys")),
    "lengths elsewhere": (
        lambda: attend(Q, K, V, mask=Padding(torch.tensor([1, 2], device="meta"))),
        ("Padding", "meta", "cpu"),
    ),
    "a dense table of numbers": (lambda: Dense(torch.ones(5, 7)), ("Dense", "float32", "bool")),
    "a dense table of another shape": (
        lambda: attend(Q, K, V, mask=Dense(torch.ones(7, 5).bool())),
        ("mask", "(7, 5)", "(2, 4, 5, 7)"),
    ),
    "a dense table with too many axes": (
        lambda: attend(Q, K, V, mask=Dense(torch.ones(1, 2, 4, 5, 7).bool())),
        ("mask", "(1, 2, 4, 5, 7)", "(2, 4, 5, 7)"),
    ),
    "a dense table elsewhere": (
        lambda: attend(Q, K, V, mask=Dense(torch.ones(5, 7, device="meta").bool())),
        ("mask", "meta", "cpu"),
    ),
    "a bias of another shape": (
        lambda: attend(Q, K, V, bias=torch.zeros(2, 5, 7)),
        ("bias", "(2, 5, 7)", "(2, 4, 5, 7)"),
    ),
    "an integer bias": (lambda: attend(Q, K, V, bias=torch.zeros(5, 7).long()), ("bias", "int64", "float32")),
    "a number as bias": (lambda: attend(Q, K, V, bias=0.5), ("bias", "float", "ALiBi()", "tensor")),
    "a bias elsewhere": (lambda: attend(Q, K, V, bias=torch.zeros(5, 7, device="meta")), ("bias", "meta", "cpu")),
    "a soft-cap of 0": (lambda: attend(Q, K, V, softcap=0.0), ("softcap", "positive", "0.0")),
    "a negative soft-cap": (lambda: attend(Q, K, V, softcap=-30), ("softcap", "positive", "-30")),
    "an infinite soft-cap": (lambda: attend(Q, K, V, softcap=float("inf")), ("softcap", "finite", "inf")),
    "a soft-cap that is NaN": (lambda: attend(Q, K, V, softcap=float("nan")), ("softcap", "finite", "nan")),
    "a word as soft-cap": (lambda: attend(Q, K, V, softcap="30"), ("softcap", "number", "'30'")),
    "a sink for other heads": (lambda: attend(Q, K, V, sink=torch.zeros(2)), ("sink", "(2,)", "4 heads")),
    "a number as sink": (lambda: attend(Q, K, V, sink=1.0), ("sink", "float", "tensor")),
    "a sink elsewhere": (lambda: attend(Q, K, V, sink=torch.zeros(4, device="meta")), ("sink", "meta", "cpu")),
    "a negative dropout": (lambda: attend(Q, K, V, dropout=-0.1), ("dropout", "0 to 1", "-0.1")),
    "a dropout in per cent": (lambda: attend(Q, K, V, dropout=10), ("dropout", "0 to 1", "10")),
    "a word as dropout": (lambda: attend(Q, K, V, dropout="0.1"), ("dropout", "number", "'0.1'")),
    "an offset elsewhere": (
        lambda: attend(Q, K, V, mask=Window(1, 1, torch.tensor([1, 2], device="meta"))),
        ("Window: offset", "meta", "cpu"),
    ),
    "a fractional offset tensor": (lambda: Causal(torch.tensor([0.5])), ("Causal: offset", "float32", "integer")),
    "a negative window": (lambda: Window(-1, 0), ("Window", "left", "-1", "0 or more")),
    "a window of another kind": (lambda: Window(1, 2.5), ("Window", "right", "2.5", "integer")),
    "a negative prefix": (lambda: Prefix(-1), ("Prefix", "-1", "0 or more")),
    "a negative prefix of one": (
        lambda: attend(Q, K, V, mask=Prefix(torch.tensor([3, -2]))),
        ("Prefix", "-2", "0 or more"),
    ),
    "prefixes of another batch": (
        lambda: attend(Q, K, V, mask=Prefix(torch.tensor([1, 2, 3]))),
        ("Prefix", "3 lengths", "2"),
    ),
    "fractional documents": (lambda: Document(torch.ones(5)), ("Document", "query_ids", "float32")),
    "documents of three axes": (lambda: Document(torch.ones(1, 1, 5).long()), ("Document", "(1, 1, 5)", "1 or 2")),
    "documents of other lengths": (
        lambda: attend(Q, K, V, mask=Document(torch.zeros(5).long())),
        ("Document", "key_ids", "(5,)", "(7,)"),
    ),
    "documents elsewhere": (
        lambda: attend(Q, K, V, mask=Document(torch.zeros(5).long().to("meta"), torch.zeros(7).long())),
        ("Document", "query_ids", "meta", "cpu"),
    ),
    "a negative radius": (lambda: Near(torch.zeros(5), -0.5), ("Near", "radius", "-0.5")),
    "a number as centre": (lambda: Near(3.0, 2), ("Near", "centre", "tensor")),
    "centres of other queries": (
        lambda: attend(Q, K, V, mask=Near(torch.zeros(6), 2)),
        ("Near: centre", "(6, 1)", "(2, 4, 5, 1)"),
    ),
    "a mask joined with a tensor": (lambda: Causal() & torch.ones(5, 7).bool(), ("&", "mask", "Tensor", "Dense")),
    "a mask joined with a word": (lambda: Causal() | "padding", ("|", "mask", "str")),
    "an infinite cosine": (lambda: Cosine(float("nan")), ("Cosine", "scale", "nan", "finite")),
    "a bell of no width": (lambda: Gaussian(0.0), ("Gaussian", "sigma", "positive", "0.0")),
    "a bilinear form of other widths": (
        lambda: attend(Q, K, V, score=General(torch.ones(3, 4))),
        ("General", "weight", "(3, 4)", "(2, 2, 7, 3)"),
    ),
    "bilinear forms for other heads": (
        lambda: attend(Q, K, V, score=General(torch.ones(3, 3, 3))),
        ("General: weight", "3 heads", "4"),
    ),
    "an additive score of another width": (
        lambda: attend(Q, K, V, score=Additive(torch.ones(4))),
        ("Additive", "v", "(4,)", "(2, 4, 5, 3)"),
    ),
    "an additive score elsewhere": (
        lambda: attend(Q, K, V, score=Additive(torch.ones(3, device="meta"))),
        ("Additive: v", "meta", "cpu"),
    ),
    "an unknown feature map": (lambda: Kernel("exp"), ("Kernel", "feature", "elu+1", "'exp'")),
    "a feature map of another kind": (lambda: Kernel(3), ("Kernel", "feature", "function", "int")),
    "a feature map that sums": (
        lambda: attend(Q, K, V, score=Kernel(lambda x: x.sum(-1))),
        ("Kernel", "feature", "(2, 4, 5)", "(…, F)"),
    ),
    "a feature map below 0": (
        lambda: attend(Q, K, V, score=Kernel(torch.tanh)),
        ("Kernel", "feature", "negative", "q"),
    ),
    "a soft-cap on similarities": (
        lambda: attend(Q, K, V, score=Kernel(), softcap=5.0),
        ("softcap", "factorised", "nearest", "Gaussian"),
    ),
    "slopes for other heads": (
        lambda: attend(Q, K, V, bias=ALiBi(torch.ones(3))),
        ("ALiBi: slopes", "(3,)", "4 heads"),
    ),
    "a relative bias for other heads": (
        lambda: attend(Q, K, V, bias=RelativeBias(torch.ones(32, 3))),
        ("RelativeBias", "table", "(32, 3)", "(buckets, 4)"),
    ),
    "a relative bias that ends too soon": (
        lambda: attend(Q, K, V, bias=RelativeBias(torch.ones(32, 4), max_distance=8)),
        ("RelativeBias", "max_distance", "8"),
    ),
    "a factor above 1": (lambda: attend(Q, K, V, factor=torch.full((5, 7), 1.5)), ("factor", "0 to 1", "1.5")),
    "a factor of another shape": (
        lambda: attend(Q, K, V, factor=torch.ones(7, 5)),
        ("factor", "(7, 5)", "(2, 4, 5, 7)"),
    ),
    "a number as factor": (lambda: attend(Q, K, V, factor=0.5), ("factor", "float", "tensor")),
    "a centre of integers": (lambda: GaussianFactor(torch.zeros(5).long(), 1.0), ("GaussianFactor", "centre", "float")),
    "a factor of no width": (lambda: GaussianFactor(torch.zeros(5), 0.0), ("GaussianFactor", "sigma", "0.0")),
    "the plan of a bad call": (lambda: attention_plan(Q, K, V, softcap=0.0), ("softcap", "positive", "0.0")),
    "a map of a bad call": (lambda: AttentionMap(Q, K, softcap=0.0), ("softcap", "positive", "0.0")),
    "too many indices": (lambda: AttentionMap(Q, K)[0, 0, 0, 0, 0], ("5 indices", "4 axes", "(2, 4, 5, 7)")),
    "two ellipses": (lambda: AttentionMap(Q, K)[..., 0, ...], ("...",)),
    "an index out of range": (lambda: AttentionMap(Q, K)[0, 4], ("axis 1", "4", "out of range")),
    "a negative index out of range": (lambda: AttentionMap(Q, K)[..., -8], ("axis 3", "-8", "size 7")),
    "a tensor as index": (lambda: AttentionMap(Q, K)[torch.tensor([0, 1])], ("axis 0", "integer", "Tensor")),
    "a mask as index": (lambda: AttentionMap(Q, K)[:, True], ("axis 1", "integer", "bool")),
    "None as index": (lambda: AttentionMap(Q, K)[None], ("axis 0", "integer", "NoneType")),
    "a slice backwards": (lambda: AttentionMap(Q, K)[..., ::-1], ("axis 3", "forwards", "-1")),
    "a slice in steps of 0": (lambda: AttentionMap(Q, K)[..., ::0], ("axis 3", "0")),
    "a slice of words": (lambda: AttentionMap(Q, K)["a":"b"], ("axis 0", "integer")),
    "no key to list": (lambda: AttentionMap(Q, K).top(0), ("top", "7", "0")),
    "more keys than there are": (lambda: AttentionMap(Q, K).top(8), ("top", "7", "8")),
    "half a key": (lambda: AttentionMap(Q, K).top(2.5), ("top", "integer", "2.5")),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_call(name: str) -> None:
    call, words = BAD_CALLS[name]
    with pytest.raises(RegardError) as caught:
        call()
    assert isinstance(caught.value, ArgumentError | UnsupportedError)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_lengths_are_checked_for_each_number_of_keys() -> None:
    padding = Padding(torch.tensor([7, 7]))
    attend(Q, K, V, mask=padding)
    with pytest.raises(ArgumentError, match="6 keys"):
        attend(Q, K[:, :, :6], V[:, :, :6], mask=padding)
    with pytest.raises(ArgumentError, match="batch of 1"):
        attend(Q[:1], K[:1], V[:1], mask=padding)
