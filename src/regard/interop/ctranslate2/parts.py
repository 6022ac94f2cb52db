"""Weights of our layers in the places where CTranslate2 has them.

CTranslate2 says by a *specification*, a tree of objects, which weights a model has; a converter fills it. Its matrices
are (outputs, inputs) as torch's are, and self-attention has one matrix with the rows of queries, keys and values, as
ours has.
"""

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from regard.errors import ArgumentError, UnsupportedError
from regard.interop.exported import library
from regard.layers import MultiHeadAttention

PRECISIONS: Final = ("float32", "float16", "int8")
"""How weights are stored. CTranslate2 computes as they are stored where the machine can, else in the nearest way."""

Spec = Any
"""A specification, or a part of one: the library has no types."""


def specs() -> Any:
    """`ctranslate2.specs`.

    Raises:
        MissingExtraError: the extra `ctranslate2` is not installed.
    """
    return library("ctranslate2.specs", "ctranslate2", "writing a model for CTranslate2")


def array(tensor: Tensor) -> Tensor:
    """A copy in float32 on the CPU: the library quantizes in place."""
    return tensor.detach().to("cpu", torch.float32, copy=True).contiguous()


def put_linear(spec: Spec, weight: Tensor, bias: Tensor | None) -> None:
    """y = W x + b, with W (outputs, inputs)."""
    spec.weight = array(weight)
    if bias is not None:
        spec.bias = array(bias)


def put_layer(spec: Spec, layer: nn.Linear) -> None:
    """A linear layer."""
    put_linear(spec, layer.weight, layer.bias)


def put_norm(spec: Spec, norm: nn.LayerNorm) -> None:
    """Gain and bias of a LayerNorm."""
    spec.gamma, spec.beta = array(norm.weight), array(norm.bias)


def put_self_attention(spec: Spec, attention: MultiHeadAttention) -> None:
    """Attention of a sequence to itself."""
    put_layer(spec.linear[0], attention.input)
    put_layer(spec.linear[1], attention.output)


def put_cross_attention(spec: Spec, attention: MultiHeadAttention) -> None:
    """Attention to a memory: queries in one product, keys and values in another."""
    rows = attention.heads * attention.head_width
    weight, bias = attention.input.weight, attention.input.bias
    for linear, part in ((spec.linear[0], slice(None, rows)), (spec.linear[1], slice(rows, None))):
        put_linear(linear, weight[part], None if bias is None else bias[part])
    put_layer(spec.linear[2], attention.output)


def save(spec: Spec, directory: Path, precision: str) -> None:
    """Check that nothing is missing, bring the weights to a precision and write the files.

    Raises:
        ArgumentError: there is no such precision.
    """
    check_precision(precision)
    spec.validate()
    spec.optimize(quantization=precision)
    spec.save(str(directory))


def check_precision(precision: str) -> None:
    """Refuse what is not one of `PRECISIONS`.

    Raises:
        ArgumentError: with what there is.
    """
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision is {precision!r}: expected {', '.join(PRECISIONS)}")


def one_epsilon(norms: set[float]) -> float:
    """The ε that all norms of a model share, since CTranslate2 has one for a model.

    Raises:
        UnsupportedError: there are several.
    """
    if len(norms) != 1:
        found = ", ".join(f"{epsilon:g}" for epsilon in sorted(norms))
        raise UnsupportedError(f"CTranslate2 has one ε for all norms of a model; this one has {found}: export to onnx")
    return next(iter(norms))
