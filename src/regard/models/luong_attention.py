"""Where Luong's decoder looks (Luong, Pham & Manning 2015, section 3): at the whole source, or near one place of it.

Each variant is a module that says, for decoder states, which keys may be seen and what the weights are multiplied by;
the score is a choice apart. Positions are counted from 0, and the last one of a source, `<eos>` here, is S − 1.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from regard.attention import Factor, GaussianFactor, Mask, Near, Padding
from regard.errors import ArgumentError


class Sight(NamedTuple):
    """What `attend` takes besides queries, keys and score."""

    mask: Mask
    factor: Factor | None


class Focus(nn.Module, ABC):
    """Says where to look."""

    @abstractmethod
    def forward(self, states: Tensor, positions: Tensor, padding: Padding) -> Sight:
        """Where each of the states looks.

        Args:
            states: h_t of the decoder's top layer, (B, 1, Q, W).
            positions: t of each, from 0: (Q,) int64, or (1,) where all are the same.
            padding: which positions of the memory are sources, of which there are B.
        """


class Global(Focus):
    """At all positions of the source (section 3.1)."""

    def forward(self, states: Tensor, positions: Tensor, padding: Padding) -> Sight:
        """See `Focus.forward`."""
        return Sight(padding, None)


class LocalMonotonic(Focus):
    """Within D positions of p_t = t, as if source and target ran in parallel (section 3.2, "local-m").

    A target longer than its source goes on looking around the source's last position: else it would see nothing in the
    end. The authors' code does so too, but stays at the last word, the position before.

    Args:
        window: D, in positions to each side.

    Raises:
        ArgumentError: `window` is less than 1.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = checked_window(window)

    def forward(self, states: Tensor, positions: Tensor, padding: Padding) -> Sight:
        """See `Focus.forward`."""
        centre = torch.minimum(positions, last_position(padding))  # (B, 1, Q or 1)
        return Sight(Near(centre, self.window) & padding, None)

    def extra_repr(self) -> str:
        """What is printed between the brackets."""
        return f"window={self.window}"


class LocalPredictive(Focus):
    """Within D positions of a predicted place, and the less the farther from it (section 3.2, "local-p").

    p_t = (S − 1) · sigmoid(v_pᵀ tanh(W_p h_t)) (eq. 9), S the sentence's own length. The paper has S without saying
    from where positions are counted; S − 1, which its authors' code has too, lets the place range from the first
    position, 0, to the last. The weights, a softmax over the window |s − p_t| ≤ D, are multiplied by
    exp(−(s − p_t)² / (2 σ²)), σ = D / 2 (eq. 10), so that rows sum to less than 1.

    Args:
        width: W, of the states and of W_p h_t.
        window: D, in positions to each side.

    Raises:
        ArgumentError: `window` is less than 1.
    """

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = checked_window(window)
        self.hidden = nn.Linear(width, width, bias=False)  # W_p
        self.place = nn.Linear(width, 1, bias=False)  # v_p

    def forward(self, states: Tensor, positions: Tensor, padding: Padding) -> Sight:
        """See `Focus.forward`."""
        logit = self.place(torch.tanh(self.hidden(states)))[..., 0]  # (B, 1, Q)
        # bfloat16 has no room for a position and its fraction
        centre = logit.to(torch.promote_types(logit.dtype, torch.float32)).sigmoid() * last_position(padding)
        return Sight(Near(centre, self.window) & padding, GaussianFactor(centre, self.window / 2))

    def extra_repr(self) -> str:
        """What is printed between the brackets."""
        return f"window={self.window}"


def last_position(padding: Padding) -> Tensor:
    """S − 1 of each source: (B, 1, 1)."""
    return padding.lengths[:, None, None] - 1


def checked_window(window: int) -> int:
    """The window as it is; raises `ArgumentError` unless it is 1 or more."""
    if window < 1:
        raise ArgumentError(f"window is {window}: expected 1 or more positions to each side")
    return window
