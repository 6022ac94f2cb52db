"""A language model as one graph, which reads a prompt and says a token: any number of positions at once.

step.onnx   tokens (N, L), first (N,), past   → log_probs (N, V) of the token after the last, the past with these
"""

from typing import Final

import torch
from torch import Tensor, nn

from regard.attention import Causal, Mask
from regard.interop.onnx.graphs import NEXT, Graph, Place
from regard.interop.onnx.transformer import Tensors, behind, keys_values, named
from regard.layers import KeysValues, Rotation, SelfAttentionBlock, Since
from regard.models.gpt import GPT

HYPOTHESES, LENGTH, PAST = "hypotheses", "length", "past_length"
SIZES: Final = (2, 3, 5)
"""Of these axes in an example: different, and not 1, which a graph would take for a constant."""


def graph_of(model: GPT) -> Graph:
    """The graph of a model on the CPU, in evaluation mode."""
    count, length, past = SIZES
    attention = model.layers[0].attention
    example = torch.zeros(count, attention.key_heads, past, attention.head_width)
    names = [name for i in range(len(model.layers)) for name in named("past", i, KeysValues(example, example))]
    inputs = [
        Place("tokens", torch.zeros(count, length, dtype=torch.int64), (HYPOTHESES, LENGTH)),
        Place("first", torch.zeros(count, dtype=torch.int64), (HYPOTHESES,)),
        # copies: one tensor in several places would be one input
        *(Place(name, example.clone(), (HYPOTHESES, None, PAST, None)) for name in names),
    ]
    return Graph(_Reader(model, tuple(names)), inputs, ("log_probs", *(NEXT + name for name in names)))


class _Reader(nn.Module):
    def __init__(self, model: GPT, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        tokens, first, *caches = tensors
        past: Tensors = dict(zip(self.names, caches, strict=True))
        model, start = self.model, caches[0].shape[2]
        places = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        positions = (places - first[:, None]).clamp(min=0)  # (N, L)
        mask = Causal() & Since(first)
        x = model.embedding(tokens, 0, positions)
        rotation = None if model.rotary is None else model.rotary(positions, x.dtype)
        after: Tensors = {}
        for i, layer in enumerate(model.layers):
            x, grown = _extend(layer, x, keys_values(past, "past", i), mask, rotation)
            after |= named("past", i, grown)
        log_probs = model.output(model.norm(x[:, -1])).log_softmax(-1)
        return log_probs, *(after[name] for name in self.names)


def _extend(
    layer: SelfAttentionBlock, x: Tensor, past: KeysValues, mask: Mask, rotation: Rotation | None
) -> tuple[Tensor, KeysValues]:
    """As `SelfAttentionBlock.extend`, with a past (N, G, P, D) that is not written to: x (N, L, E), and the past with
    these positions."""
    grown = past

    def own(y: Tensor) -> Tensor:
        nonlocal grown
        q, new = layer.attention.project(y, rotation)
        grown = behind(past, new)
        return layer.attention.attend_to(q, grown, mask)

    x = layer.attention_residual(x, own)
    return layer.feedforward_residual(x, layer.feedforward), grown
