"""What every encoder–decoder model is to the rest of the package: read a source once, then say a target."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from regard.layers import State
from regard.models.config import ModelConfig


@dataclass(frozen=True)
class EncoderDecoderConfig(ModelConfig):
    """Sizes and choices of an encoder–decoder model; see `ModelConfig`."""

    source_vocabulary: int
    """Source tokens, V of the encoder's embedding."""
    target_vocabulary: int
    """Target tokens, V of the decoder's embedding and of the output."""


@dataclass(frozen=True)
class Memory:
    """What an encoder gives to its decoder.

    Attributes:
        states: one vector for each source position (B, S, ·); those past a source's end are to be ignored.
        lengths: of the sources, (B,) int64.
        last: what recurrent encoders end with, after each source's last real position: of each layer (B, L, ·), by the
            name of what it is ("hidden", "cell"). Empty for others.
    """

    states: Tensor
    lengths: Tensor
    last: dict[str, Tensor] = field(default_factory=dict)


class EncoderDecoder(nn.Module, ABC):
    """An encoder–decoder model; it knows no padding id: lengths say what is padding.

    Teacher-forced, `model(source, source_lengths, target)` gives hidden states of all target positions, which `output`
    makes logits. Its three parts are there for those who look inside: `embed`, `encode`, `decode`. Step by step,
    `start` and `step` are the protocol of `regard.decoding`; both ways give the same probabilities.

    Args:
        config: kept as `config`, for saving beside the weights.
        output: projection of hidden states to the target vocabulary, for some models with a bias.
    """

    def __init__(self, config: EncoderDecoderConfig, output: nn.Linear) -> None:
        super().__init__()
        self.config = config
        self.output = output

    def forward(self, source: Tensor, source_lengths: Tensor, target: Tensor) -> Tensor:
        """Hidden states of all target positions, each seeing the target up to itself (teacher forcing).

        Args:
            source: ids (B, S) int64, padded at the end.
            source_lengths: (B,) int64.
            target: ids (B, T) int64, beginning with `<bos>`; positions past a target's end give values to ignore.

        Returns:
            (B, T, E); `output` makes them logits.
        """
        return self.decode(self.encode(self.embed(source), source_lengths), target)

    def reading_order(self, source_lengths: Tensor, longest: int) -> Tensor:
        """When the encoder reads each position of sources (B,), counted from 0: (B, longest) int64."""
        return torch.arange(longest, device=source_lengths.device).expand(len(source_lengths), longest)

    @abstractmethod
    def embed(self, source: Tensor) -> Tensor:
        """The vectors that the encoder reads: ids (B, S) → (B, S, E)."""

    @abstractmethod
    def encode(self, embedded: Tensor, source_lengths: Tensor) -> Memory:
        """Read embedded sources (B, S, E), of which the first `source_lengths` (B,) positions count."""

    @abstractmethod
    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        """Hidden states (B, T, ·) of all positions of targets (B, T), as for `forward`."""

    @abstractmethod
    def start(self, source: Tensor, source_lengths: Tensor) -> State:
        """Encode a batch for step-wise decoding: one hypothesis for each sentence, no token fed yet.

        Args:
            source: ids (S, K) int64, padded at the end.
            source_lengths: (S,) int64.
        """

    @abstractmethod
    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Feed one token to each hypothesis.

        Args:
            tokens: (N,) int64.
            state: from `start` or the last `step`; it must not be used again.

        Returns:
            log-probabilities of the next token (N, V), and the state after it.
        """

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The parts that are computed one after the other: what gradient checkpointing computes again, one at a time,
        and sharding gathers. Each is called once in a pass, with tensors and what is made of them (masks, states), and
        holds no parameter of another."""
