"""Watches what torch's flash operator for the CPU is given."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock

from torch import Tensor

from regard.attention.backends import sdpa
from regard.attention.backends.flash import Flash, cpu_flash


@dataclass
class Watched:
    """What each call was given, forward and backward together.

    Attributes:
        masks: the masks.
        scores: queries × keys of all heads.
    """

    masks: list[Tensor | None] = field(default_factory=list)
    scores: list[int] = field(default_factory=list)

    @property
    def largest(self) -> int:
        """Numbers of the largest mask."""
        return max((0 if x is None else x.numel() for x in self.masks), default=0)


@contextmanager
def watched_flash() -> Iterator[Watched]:
    """The operator as it is, watched."""
    flash, seen = cpu_flash(), Watched()
    assert flash is not None, "this torch has no fused operator for the CPU that takes mask and causal at once"
    known = flash

    def note(q: Tensor, k: Tensor, mask: Tensor | None) -> None:
        seen.masks.append(mask)
        seen.scores.append(q[..., 0].numel() * k.shape[2])

    def forward(q: Tensor, k: Tensor, *others: object, attn_mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
        note(q, k, attn_mask)
        return known.forward(q, k, *others, attn_mask=attn_mask, scale=scale)

    def backward(
        grad: Tensor, q: Tensor, k: Tensor, *others: object, attn_mask: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        note(q, k, attn_mask)
        return known.backward(grad, q, k, *others, attn_mask=attn_mask, scale=scale)

    with mock.patch.object(sdpa, "cpu_flash", lambda: Flash(forward, backward)):
        yield seen
