"""Masked-language modelling: rows of which some tokens are hidden → batches, loss and measures (Devlin et al. 2019)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regard.attention import Mask
from regard.layers import linear_cross_entropy
from regard.models.bert import MaskedLanguageModel


@dataclass(frozen=True)
class MaskedBatch:
    """Rows of which some tokens are hidden.

    Attributes:
        tokens: what the model reads (B, L) int64, padded at the end.
        lengths: places of each row that are no padding (B,) int64.
        chosen: which tokens it should say (B, L) bool.
        targets: what they are, row after row (N,) int64.
        count: N, the target tokens that losses are normalised by.
        types: 0 in the first segment, 1 in the second (B, L) int64; None: all 0.
        mask: what a token may look at besides its row; packed rows have a `Document`.
        positions: of each token in its text (B, L) int64; None: its place in the row.
        follows: 0 where the second segment is the next one, 1 where it is a random one (B,) int64; None: nothing of the
            kind is learned.
    """

    tokens: Tensor
    lengths: Tensor
    chosen: Tensor
    targets: Tensor
    count: int
    types: Tensor | None = None
    mask: Mask | None = None
    positions: Tensor | None = None
    follows: Tensor | None = None

    @property
    def real(self) -> Tensor:
        """Which places are no padding (B, L) bool."""
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) < self.lengths[:, None]


class MaskedObjective(nn.Module):
    """What training minimises, as a module, so that several processes can share its gradients.

    Args:
        model: the module `model` of this one.
    """

    def __init__(self, model: MaskedLanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: MaskedBatch) -> Tensor:
        """The loss summed over the target tokens of a batch, a scalar."""
        return masked_loss(self.model, batch)


def masked_loss(model: MaskedLanguageModel, batch: MaskedBatch) -> Tensor:
    """Cross-entropy of the hidden tokens in nats, summed, a scalar; where it is learned, that of the next sentence too.

    The paper adds the two means. Here the loss of a row's next-sentence prediction counts as often as the row has
    hidden tokens, so that dividing by the hidden tokens of a step gives that sum (for rows with equally many), however
    rows are spread over micro-batches and processes.
    """
    states = model.encoder(batch.tokens, batch.lengths, batch.types, batch.mask, batch.positions)  # (B, L, E)
    hidden = model.transformed(states[batch.chosen])  # (N, E): the other places cost no vocabulary product
    loss = linear_cross_entropy(hidden, model.output.weight, batch.targets, bias=model.output.bias)
    if batch.follows is None:
        return loss
    each = nn.functional.cross_entropy(model.following(states).float(), batch.follows, reduction="none")  # (B,)
    return loss + (each * batch.chosen.sum(-1)).sum()


@dataclass(frozen=True)
class MaskedJudgement:
    """What a model says of a batch, each a sum over hidden tokens, or over rows.

    Attributes:
        loss: of the hidden tokens, nats, without that of next sentences.
        said: the most probable token in each hidden place (N,) int64.
        right: how many of them are right.
        followed: how many rows' next-sentence prediction is right; 0 where there is none.
    """

    loss: float
    said: Tensor
    right: int
    followed: int


def judge_masked(model: MaskedLanguageModel, batch: MaskedBatch, chunk: int = 4096) -> MaskedJudgement:
    """Loss and predictions of a batch, without gradients, so many hidden tokens at a time."""
    with torch.no_grad():
        states = model.encoder(batch.tokens, batch.lengths, batch.types, batch.mask, batch.positions)
        hidden = model.transformed(states[batch.chosen])  # (N, E)
        loss, said = 0.0, []
        for start in range(0, batch.count, chunk):
            targets = batch.targets[start : start + chunk]
            logits = model.output(hidden[start : start + chunk]).float()  # (n, V)
            loss += float(nn.functional.cross_entropy(logits, targets, reduction="sum"))
            said.append(logits.argmax(-1))
        best = torch.cat(said) if said else batch.targets
        followed = 0
        if batch.follows is not None:
            followed = int((model.following(states).argmax(-1) == batch.follows).sum())
        return MaskedJudgement(loss, best, int((best == batch.targets).sum()), followed)
