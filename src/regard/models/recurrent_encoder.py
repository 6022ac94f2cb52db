"""What recurrent models have in common that read a source as it is written or the other way round."""

from collections.abc import Callable

from torch import Tensor, nn

from regard.layers import DroppedEmbedding, Recurrent, RecurrentState
from regard.layers.recurrent import reverse_words
from regard.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, Memory

Order = Callable[[Tensor, Tensor], Tensor]
"""Vectors of positions (B, S, ·) and lengths (B,) → the same in the order of reading, and back again."""


def as_written(x: Tensor, lengths: Tensor) -> Tensor:
    """The order of reading that changes nothing."""
    return x


def source_order(reverse_source: bool) -> Order:
    """The words of the source from the last to the first, and then `<eos>`; or as written."""
    return reverse_words if reverse_source else as_written


class Encoder(nn.Module):
    """Embedding and recurrent layers.

    Args:
        embedding: of the source.
        order: in which it is read.
        recurrent: the layers.
    """

    def __init__(self, embedding: DroppedEmbedding, order: Order, recurrent: Recurrent) -> None:
        super().__init__()
        self.embedding = embedding
        self.order = order
        self.recurrent = recurrent

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, RecurrentState]:
        """Read embedded sources (B, S, E).

        Returns:
            states in the order of the source, whichever way it was read, (B, S, D·W), D directions; and what each layer
            ends with, (B, L, D·W) by name: the forward direction after the last position that it reads, the backward
            one after the first.
        """
        states, last = self.recurrent(self.order(x, lengths), lengths)
        width = states.shape[2]
        joined = {name: part.reshape(part.shape[0], -1, width) for name, part in last.items()}
        return self.order(states, lengths), joined


class RecurrentReader(EncoderDecoder):
    """An encoder–decoder model that reads its source so.

    Args:
        config: kept as `config`, for saving beside the weights.
        encoder: reads.
        output: projection of hidden states to the target vocabulary, without a bias.
    """

    def __init__(self, config: EncoderDecoderConfig, encoder: Encoder, output: nn.Linear) -> None:
        super().__init__(config, output)
        self.encoder = encoder

    def reading_order(self, source_lengths: Tensor, longest: int) -> Tensor:
        """See `EncoderDecoder.reading_order`."""
        places = super().reading_order(source_lengths, longest)
        return self.encoder.order(places[..., None], source_lengths)[..., 0]

    def embed(self, source: Tensor) -> Tensor:
        """See `EncoderDecoder.embed`."""
        x: Tensor = self.encoder.embedding(source)
        return x

    def encode(self, embedded: Tensor, source_lengths: Tensor) -> Memory:
        """See `EncoderDecoder.encode`; of what both directions end with, the forward one's is the first half."""
        states, last = self.encoder(embedded, source_lengths)
        return Memory(states, source_lengths, last)
