"""Encoder–decoder models as two graphs: one reads sources, the other says a token.

encoder.onnx   source, lengths               → the state's tensors, but for the lengths
step.onnx      tokens, position, the state   → log_probs, and the tensors of the state that have changed

A state's tensors are per sentence (S, …) or per hypothesis (S, W, …), with W hypotheses for each of the S sentences.
The encoder gives W = 1; a beam search repeats and selects along these axes. What is per sentence is never repeated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

import torch
from torch import Tensor, nn

from regard.interop.onnx.graphs import NEXT, Graph, Place
from regard.interop.onnx.recurrent import with_onnx_recurrence
from regard.interop.onnx.transformer import TransformerSteps
from regard.layers import State
from regard.models.encoder_decoder import EncoderDecoder
from regard.models.transformer import TransformerConfig

SENTENCES, HYPOTHESES, SOURCE, PAST = "sentences", "hypotheses", "source_length", "past_length"
LENGTHS: Final = (7, 4, 2)
"""Of the sources of an example: how many there are, and their lengths, are sizes that no other axis has."""
WIDTH, SAID = 2, 5  # hypotheses of each sentence in an example, and tokens that they have said

Tensors = dict[str, Tensor]


class Steps(Protocol):
    """A model's two functions, as graphs have them."""

    def start(self, source: Tensor, lengths: Tensor) -> tuple[Tensors, Tensors]:
        """Sources (S, K) and lengths (S,) → what is per sentence, and what is per hypothesis, one for each."""
        ...

    def step(self, tokens: Tensor, position: Tensor, sentence: Tensors, hypothesis: Tensors) -> tuple[Tensor, Tensors]:
        """Tokens (N,), which position they have (), and the state → log-probabilities (N, V) and the new state of the
        hypotheses."""
        ...


class ModelSteps(nn.Module):
    """The functions of a model whose state doesn't grow: its own.

    Args:
        model: any `EncoderDecoder` without a cache.
    """

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.model = model

    def start(self, source: Tensor, lengths: Tensor) -> tuple[Tensors, Tensors]:
        """See `Steps.start`."""
        state = self.model.start(source, lengths)
        return state.sentence, state.hypothesis

    def step(self, tokens: Tensor, position: Tensor, sentence: Tensors, hypothesis: Tensors) -> tuple[Tensor, Tensors]:
        """See `Steps.step`."""
        log_probs, after = self.model.step(tokens, State(sentence, hypothesis, cast(int, position.item())))
        return log_probs, after.hypothesis


@dataclass(frozen=True)
class Graphs:
    """A model as two graphs.

    Attributes:
        encoder, step: see the module.
        sentence: names of the state's tensors that stay as the encoder gave them.
        hypothesis: names of those that a step replaces.
    """

    encoder: Graph
    step: Graph
    sentence: tuple[str, ...]
    hypothesis: tuple[str, ...]

    def describe(self) -> dict[str, object]:
        """Plain values for config.json."""
        return {
            "encoder": {
                "file": "encoder.onnx",
                "inputs": [place.describe() for place in self.encoder.inputs],
                "outputs": list(self.encoder.outputs),
            },
            "step": {
                "file": "step.onnx",
                "inputs": [place.describe() for place in self.step.inputs],
                "outputs": list(self.step.outputs),
            },
            "state": {"sentence": list(self.sentence), "hypothesis": list(self.hypothesis)},
        }


def graphs_of(model: EncoderDecoder) -> Graphs:
    """The graphs of a model on the CPU, in evaluation mode."""
    kinds: dict[str, Callable[[EncoderDecoder], Steps]] = {TransformerConfig.NAME: TransformerSteps}
    steps = kinds.get(model.config.NAME, ModelSteps)(with_onnx_recurrence(model))
    with torch.no_grad():
        source, lengths = _sources(max(LENGTHS), model.config.source_vocabulary)
        sentence, first = steps.start(source, lengths)
        longer, _ = steps.start(*_sources(max(LENGTHS) + 1, model.config.source_vocabulary))
        hypothesis = {name: x.repeat_interleave(WIDTH, 0) for name, x in first.items()}
        tokens = torch.zeros(len(LENGTHS) * WIDTH, dtype=torch.int64)
        for position in range(SAID):
            before = hypothesis
            _, hypothesis = steps.step(tokens, torch.tensor(position), sentence, before)
    # an axis belongs to the source if it is longer for a longer source, and to the past if it grows with each step
    constant = [Place(name, x, (SENTENCES, *_differing(x, longer[name], SOURCE)[1:])) for name, x in sentence.items()]
    changing = [
        Place(name, _split(x), (SENTENCES, HYPOTHESES, *_differing(before[name], x, PAST)[1:]))
        for name, x in hypothesis.items()
    ]
    read = [Place("source", source, (SENTENCES, SOURCE)), Place("lengths", lengths, (SENTENCES,))]
    fed = [
        Place("tokens", _split(tokens), (SENTENCES, HYPOTHESES)),
        Place("position", torch.tensor(SAID), ()),
    ]
    longest = model.config.max_length
    most = {SOURCE: longest, PAST: longest - 1}
    return Graphs(
        Graph(_Encoder(steps), read, tuple(name for name in (*sentence, *hypothesis) if name != "lengths"), most),
        Graph(
            _Step(steps, tuple(sentence), tuple(hypothesis)),
            [*fed, *constant, *changing],
            ("log_probs", *(NEXT + name for name in hypothesis)),
            most,
        ),
        tuple(sentence),
        tuple(hypothesis),
    )


class _Encoder(nn.Module):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        source, lengths = tensors
        sentence, hypothesis = self.steps.start(source, lengths)
        known = (x for name, x in sentence.items() if name != "lengths")  # whoever gives them has them
        return *known, *(x[:, None] for x in hypothesis.values())


class _Step(nn.Module):
    def __init__(self, steps: Steps, sentence: tuple[str, ...], hypothesis: tuple[str, ...]) -> None:
        super().__init__()
        self.steps, self.sentence, self.hypothesis = steps, sentence, hypothesis

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        tokens, position, *state = tensors
        sizes = tokens.shape  # (S, W)
        constant = dict(zip(self.sentence, state, strict=False))
        changing = dict(zip(self.hypothesis, state[len(constant) :], strict=True))
        flat = {name: x.flatten(0, 1) for name, x in changing.items()}
        log_probs, after = self.steps.step(tokens.flatten(), position, constant, flat)
        found = (log_probs, *(after[name] for name in self.hypothesis))
        return tuple(x.reshape(*sizes, *x.shape[1:]) for x in found)


def _sources(longest: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    source = torch.arange(len(LENGTHS) * longest).view(len(LENGTHS), longest) % vocabulary
    return source, torch.tensor((longest, *LENGTHS[1:]))


def _split(x: Tensor) -> Tensor:
    return x.reshape(-1, WIDTH, *x.shape[1:])  # (N, …) → (S, W, …)


def _differing(x: Tensor, other: Tensor, name: str) -> tuple[str | None, ...]:
    """The name for each axis in which two tensors differ."""
    return tuple(None if size == longer else name for size, longer in zip(x.shape, other.shape, strict=True))
