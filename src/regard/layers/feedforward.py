"""The position-wise feed-forward network."""

from torch import Tensor, nn
from torch.nn import functional as F


class FeedForward(nn.Module):
    """FFN(x) = W₂ · ReLU(W₁ x + b₁) + b₂ at each position (Vaswani et al. 2017, eq. 2).

    Args:
        width: E.
        hidden: width between the two layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(…, E) → (…, E)."""
        y: Tensor = self.outer(F.relu(self.inner(x)))
        return y
