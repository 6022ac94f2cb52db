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
from regard.layers import FeedForward, GatedFeedForward, MultiHeadAttention, PositionedEmbedding

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


def put_norm(spec: Spec, norm: nn.Module) -> None:
    """Gain, and bias where the specification is of a LayerNorm: 0 if the module has none."""
    parameters = dict(norm.named_parameters())
    gain = parameters["weight"]
    spec.gamma = array(gain)
    if "beta" in vars(spec):  # an RMSNorm's has no place for it
        spec.beta = array(parameters.get("bias", torch.zeros_like(gain)))


def put_feedforward(spec: Spec, network: nn.Module, norm: nn.Module) -> None:
    """A feed-forward network, plain or gated, and the norm of its residual connection."""
    assert isinstance(network, FeedForward | GatedFeedForward)
    if isinstance(network, GatedFeedForward):
        put_layer(spec.linear_0, network.gate)
        put_layer(spec.linear_0_noact, network.inner)
    else:
        put_layer(spec.linear_0, network.inner)
    put_layer(spec.linear_1, network.outer)
    put_norm(spec.layer_norm, norm)


def put_embedding(stack: Spec, table: Spec, embedding: PositionedEmbedding, scaled: bool) -> None:
    """Vectors of tokens, whether they are multiplied by √E, and vectors of positions where there are any."""
    table.weight = array(embedding.tokens.weight)
    stack.scale_embeddings = scaled
    if embedding.positions is not None:
        stack.position_encodings.encodings = array(embedding.positions.table)


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


def activation(name: str) -> Any:
    """What CTranslate2 calls an activation of `regard.layers.ACTIVATIONS`."""
    names = {"relu": "RELU", "gelu": "GELU", "gelu_tanh": "GELUTanh", "silu": "SWISH"}
    return specs().common_spec.Activation[names[name]]


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


def one_epsilon(model: nn.Module) -> float:
    """The ε that all norms of a model share, since CTranslate2 has one for a model.

    Raises:
        UnsupportedError: there are several.
    """
    found = {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm | nn.RMSNorm)}
    if len(found) != 1 or None in found:
        raise UnsupportedError(f"CTranslate2 has one ε for all norms of a model, this one has {found}: export to onnx")
    return float(found.pop() or 0.0)
