"""Classification of texts, or of pairs of texts: examples → batch, loss and probabilities, for `SentenceClassifier`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regard.models.bert import SentenceClassifier
from regard.tasks.framing import Frame, Framed, FramedRow, collate_rows


@dataclass(frozen=True)
class ClassificationBatch:
    """Texts and their classes.

    Attributes:
        texts: as the model reads them.
        labels: (B,) int64.
    """

    texts: Framed
    labels: Tensor


def collate(
    rows: Sequence[FramedRow], labels: Sequence[int], frame: Frame, device: torch.device
) -> ClassificationBatch:
    """Framed texts and the numbers of their classes as one padded batch."""
    return ClassificationBatch(
        collate_rows(rows, frame, device), torch.tensor(labels, dtype=torch.int64, device=device)
    )


class ClassificationObjective(nn.Module):
    """What training minimises, as a module, so that several processes can share its gradients.

    Args:
        model: the module `model` of this one.
        smoothing: of the labels.
    """

    def __init__(self, model: SentenceClassifier, smoothing: float) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing

    def forward(self, batch: ClassificationBatch) -> Tensor:
        """The loss summed over the texts of a batch, a scalar."""
        logits = classification_logits(self.model, batch.texts)  # (B, C)
        return cross_entropy(logits, batch.labels, reduction="sum", label_smoothing=self.smoothing)


def classification_logits(model: SentenceClassifier, texts: Framed) -> Tensor:
    """Logits of the classes (B, C), float32 at least."""
    logits: Tensor = model(texts.tokens, texts.lengths, texts.types)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
