"""The two functions of a Transformer as graphs have them: keys and values of each layer are tensors of their own, and a
step puts its own behind them, where the model writes into one cache."""

from typing import cast

import torch
from torch import Tensor, nn

from regard.attention import Padding
from regard.layers import KeysValues
from regard.models.encoder_decoder import EncoderDecoder
from regard.models.transformer import DecoderLayer, Transformer

Tensors = dict[str, Tensor]


class TransformerSteps(nn.Module):
    """See `regard.interop.onnx.encoder_decoder.Steps`.

    Per sentence the state has "lengths" (S,) and, for each layer i, "memory.i.keys" and "memory.i.values" (S, G, K, D);
    per hypothesis "past.i.keys" and "past.i.values" (N, G, P, D).

    Args:
        model: a `Transformer`.
    """

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.model = cast(Transformer, model)

    def start(self, source: Tensor, lengths: Tensor) -> tuple[Tensors, Tensors]:
        """See `Steps.start`."""
        memory = self.model.encode(self.model.embed(source), lengths).states
        sentence: Tensors = {"lengths": lengths}
        hypothesis: Tensors = {}
        for i, layer in enumerate(self.model.decoder.layers):
            known = layer.cross.keys_values(memory)
            sentence |= named("memory", i, known)
            hypothesis |= named("past", i, KeysValues(*(x[:, :, :0] for x in known)))
        return sentence, hypothesis

    def step(self, tokens: Tensor, position: Tensor, sentence: Tensors, hypothesis: Tensors) -> tuple[Tensor, Tensors]:
        """See `Steps.step`; the position is that of the token after the past."""
        mask, decoder = Padding(sentence["lengths"]), self.model.decoder
        start = hypothesis["past.0.keys"].shape[2]
        x = decoder.embedding(tokens[:, None], start=start)  # (N, 1, E)
        after: Tensors = {}
        for i, layer in enumerate(decoder.layers):
            memory, past = keys_values(sentence, "memory", i), keys_values(hypothesis, "past", i)
            x, grown = _step(layer, x, past, memory, mask)
            after |= named("past", i, grown)
        return self.model.output(decoder.norm(x[:, 0])).log_softmax(-1), after


def _step(
    layer: DecoderLayer, x: Tensor, past: KeysValues, memory: KeysValues, mask: Padding
) -> tuple[Tensor, KeysValues]:
    """As `DecoderLayer.step`, with a past (N, G, P, D) that is not written to: x (N, 1, E), and the past with this
    position."""
    grown = past

    def own(y: Tensor) -> Tensor:
        nonlocal grown
        q, new = layer.attention.project(y)
        grown = behind(past, new)
        return layer.attention.attend_to(q, grown)

    def source(y: Tensor) -> Tensor:
        q = layer.cross.queries(y.view(memory.keys.shape[0], -1, y.shape[-1]))  # (S, H, W, D)
        return layer.cross.attend_to(q, memory, mask).view(y.shape)

    x = layer.attention_residual(x, own)
    x = layer.cross_residual(x, source)
    return layer.feedforward_residual(x, layer.feedforward), grown


def behind(past: KeysValues, new: KeysValues) -> KeysValues:
    """Keys and values with new positions behind them."""
    return KeysValues(*(torch.cat(pair, 2) for pair in zip(past, new, strict=True)))


def named(what: str, layer: int, known: KeysValues) -> Tensors:
    """Keys and values under their names."""
    return {f"{what}.{layer}.keys": known.keys, f"{what}.{layer}.values": known.values}


def keys_values(tensors: Tensors, what: str, layer: int) -> KeysValues:
    """The inverse of `named`."""
    return KeysValues(tensors[f"{what}.{layer}.keys"], tensors[f"{what}.{layer}.values"])
