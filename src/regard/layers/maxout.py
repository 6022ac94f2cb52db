"""Maxout: a linear layer of several pieces, of which the largest is taken."""

from torch import Tensor, nn

from regard.errors import ArgumentError


class Maxout(nn.Module):
    """Output j is the largest of `pieces` linear functions of the input (Goodfellow et al. 2013, section 3).

    h_j = max_p (w_jp · x + b_jp). With two pieces it is the t of the read-outs of Cho et al. 2014 (appendix A.1) and
    Bahdanau et al. 2015 (appendix A.2.2), t_j = max(t̃_2j−1, t̃_2j): pieces of an output lie side by side.

    Args:
        input_width: I.
        width: W, how many outputs.
        pieces: linear functions for each output.

    Raises:
        ArgumentError: `width` or `pieces` is less than 1.
    """

    def __init__(self, input_width: int, width: int, pieces: int = 2) -> None:
        super().__init__()
        for name, value in (("width", width), ("pieces", pieces)):
            if value < 1:
                raise ArgumentError(f"Maxout: {name} is {value}: expected 1 or more")
        self.width, self.pieces = width, pieces
        self.linear = nn.Linear(input_width, width * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """x (…, I) → (…, W)."""
        candidates: Tensor = self.linear(x)  # (…, W · P)
        return candidates.view(*x.shape[:-1], self.width, self.pieces).amax(-1)
