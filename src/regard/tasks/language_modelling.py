"""Language modelling: rows of running text → batches, loss and log-probabilities of the next token."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regard.attention import Mask
from regard.layers import linear_cross_entropy
from regard.models.gpt import GPT


@dataclass(frozen=True)
class TextBatch:
    """Rows of text and what comes after each token.

    Attributes:
        tokens: what the model reads (B, L) int64.
        targets: what it should say at each place (B, L) int64.
        real: (B, L) bool, True where a place is not padding.
        count: number of real places, the target tokens that losses are normalised by.
        mask: what a token may look at besides those before it; packed rows have a `Document`.
        positions: of each token in its text (B, L) int64; None: its place in the row.
    """

    tokens: Tensor
    targets: Tensor
    real: Tensor
    count: int
    mask: Mask | None = None
    positions: Tensor | None = None

    @property
    def full(self) -> bool:
        """Whether there is no padding."""
        return self.count == self.tokens.numel()


class LanguageModellingObjective(nn.Module):
    """What training minimises, as a module, so that several processes can share its gradients.

    Args:
        model: the module `model` of this one.
    """

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: TextBatch) -> Tensor:
        """The loss summed over the target tokens of a batch, a scalar."""
        return language_loss(self.model, batch)


def language_loss(model: GPT, batch: TextBatch) -> Tensor:
    """Cross-entropy of the next token in nats, summed over the real places, a scalar."""
    hidden = model(batch.tokens, batch.mask, batch.positions)  # (B, L, E)
    kept, targets = hidden.flatten(0, 1), batch.targets.flatten()
    if not batch.full:  # padding costs no vocabulary product
        kept, targets = hidden[batch.real], batch.targets[batch.real]
    return linear_cross_entropy(kept, model.output.weight, targets)


def target_log_probs(model: GPT, batch: TextBatch) -> Tensor:
    """Natural-log probability of each target given the tokens before it (B, L); 0 at padding."""
    with torch.no_grad():
        hidden = model(batch.tokens, batch.mask, batch.positions)
        rows = [  # row by row: all logits at once would be V / E times the hidden states
            model.output(states).float().log_softmax(-1).gather(-1, targets[:, None])[:, 0]
            for states, targets in zip(hidden, batch.targets, strict=True)
        ]
        return torch.stack(rows).masked_fill(~batch.real, 0.0)
