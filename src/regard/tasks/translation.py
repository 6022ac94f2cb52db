"""Translation: pairs of sentences → batches, loss and log-probabilities, for any encoder–decoder model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regard.layers import linear_cross_entropy
from regard.models.encoder_decoder import EncoderDecoder


@dataclass(frozen=True)
class Sources:
    """Source sentences: ids (B, S) int64 padded at the end, and their lengths (B,) int64."""

    tokens: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class TranslationBatch:
    """Aligned sources and targets.

    Attributes:
        sources: the source sentences.
        inputs: what the decoder reads, `<bos>` and the target (B, T) int64.
        outputs: what it should say, the target and `<eos>` (B, T) int64.
        real: (B, T) bool, True where a position is not padding.
        count: number of real positions, the target tokens that losses are normalised by.
    """

    sources: Sources
    inputs: Tensor
    outputs: Tensor
    real: Tensor
    count: int


@dataclass(frozen=True)
class Specials:
    """Ids of the special tokens: those of the target's tokenizer, and those that sources need, of their own.

    Models that are trained here have none at the beginning of a source.
    """

    pad: int
    bos: int
    eos: int
    source_pad: int
    source_eos: int
    source_begin: tuple[int, ...] = ()


def collate_sources(sources: Sequence[Sequence[int]], specials: Specials, device: torch.device) -> Sources:
    """Token ids of sources, each closed by `<eos>`, as one padded batch."""
    rows = [[*specials.source_begin, *source, specials.source_eos] for source in sources]
    return Sources(pad_rows(rows, specials.source_pad, device), torch.tensor([len(row) for row in rows], device=device))


def collate(
    sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], specials: Specials, device: torch.device
) -> TranslationBatch:
    """Token ids of pairs as one padded batch."""
    inputs = pad_rows([[specials.bos, *target] for target in targets], specials.pad, device)
    outputs = pad_rows([[*target, specials.eos] for target in targets], specials.pad, device)
    lengths = torch.tensor([len(target) + 1 for target in targets], device=device)
    real = torch.arange(inputs.shape[1], device=device) < lengths[:, None]
    count = sum(len(target) + 1 for target in targets)
    return TranslationBatch(collate_sources(sources, specials, device), inputs, outputs, real, count)


class TranslationObjective(nn.Module):
    """What training minimises, as a module, so that several processes can share its gradients.

    Args:
        model: the module `model` of this one.
        smoothing: of the labels.
    """

    def __init__(self, model: EncoderDecoder, smoothing: float) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing

    def forward(self, batch: TranslationBatch) -> Tensor:
        """The loss summed over the target tokens of a batch, a scalar."""
        return translation_loss(self.model, batch, self.smoothing)[0]


def translation_loss(model: EncoderDecoder, batch: TranslationBatch, smoothing: float) -> tuple[Tensor, int]:
    """Label-smoothed cross-entropy summed over the target tokens (`<eos>` included), and their number."""
    hidden = model(batch.sources.tokens, batch.sources.lengths, batch.inputs)  # (B, T, E)
    kept = hidden[batch.real]  # (N, E): padding costs no vocabulary product
    output, said = model.output, batch.outputs[batch.real]
    return linear_cross_entropy(kept, output.weight, said, smoothing, output.bias), batch.count


def token_log_probs(model: EncoderDecoder, batch: TranslationBatch) -> list[list[float]]:
    """Natural-log probability of each target token, `<eos>` last, given the source and the tokens before it."""
    with torch.no_grad():
        hidden = model(batch.sources.tokens, batch.sources.lengths, batch.inputs)
        return [
            model.output(states[real]).log_softmax(-1).gather(-1, target[real, None])[:, 0].tolist()
            for states, real, target in zip(hidden, batch.real, batch.outputs, strict=True)
        ]


def pad_rows(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> Tensor:
    """Rows of ids as a tensor (B, longest) int64, padded at the end."""
    width = max((len(row) for row in rows), default=0)
    return torch.tensor([[*row, *([pad] * (width - len(row)))] for row in rows], dtype=torch.int64, device=device)
