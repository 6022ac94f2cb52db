"""The sizes of one attention, and how tensors in the caller's layout are brought to (B, H, Q, ·)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.errors import ArgumentError


@dataclass(frozen=True)
class Extent:
    """Sizes of one attention.

    Attributes:
        leading: the axes before Q in the caller's layout: () or (B,) or (…, H).
        batch, heads, groups, queries, keys: B, H, G, Q and K; H is 1 where the caller has no head axis.
        device: where queries and keys are.
        dtype: of scores and statistics: float32, or float64 for float64 queries.
    """

    leading: tuple[int, ...]
    batch: int
    heads: int
    groups: int
    queries: int
    keys: int
    device: torch.device
    dtype: torch.dtype

    @staticmethod
    def of(q: Tensor, k: Tensor) -> "Extent":
        """Sizes of queries (…, Q, D) and keys (…, K, D).

        Raises:
            ArgumentError: the shapes disagree.
        """
        of_q, of_k = q.shape, k.shape
        axes = len(of_q)
        if axes < 2 or axes != len(of_k):
            raise ArgumentError(
                f"q and k must have the same number of axes, 2 or more: q is {shape(q)}, k is {shape(k)}; "
                "expected (B, H, Q, D) and (B, G, K, D), (B, Q, D) and (B, K, D), or (Q, D) and (K, D)"
            )
        if of_q[-1] == 0 or of_k[-1] == 0:
            raise ArgumentError(f"q and k must have a width of 1 or more: q is {shape(q)}, k is {shape(k)}")
        leading = tuple(of_q[:-2])
        heads, groups = (of_q[-3], of_k[-3]) if axes >= 4 else (1, 1)
        batch = leading[:-1] if axes >= 4 else leading
        if of_k[: len(batch)] != batch:
            raise ArgumentError(f"q and k must have the same batch axes: q is {shape(q)}, k is {shape(k)}")
        if heads == 0 or groups == 0 or heads % groups != 0:
            raise ArgumentError(
                f"the key heads must divide the query heads: q has {heads}, k has {groups} ({shape(q)}, {shape(k)})"
            )
        dtype = torch.promote_types(q.dtype, torch.float32)
        return Extent(leading, math.prod(batch), heads, groups, of_q[-2], of_k[-2], q.device, dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the table of weights in the caller's layout: (…, Q, K)."""
        return (*self.leading, self.queries, self.keys)

    def heads_first(self, x: Tensor) -> Tensor:
        """Bring queries, keys or values in the caller's layout to four axes (B, H or G, ·, ·)."""
        if x.ndim == 4:
            return x
        if x.ndim == 2:
            return x[None, None]
        return x[:, None] if x.ndim == 3 else x.flatten(0, -4)

    def restore(self, x: Tensor, trailing: int) -> Tensor:
        """Bring (B, H, …) back to the caller's layout; `trailing` is the number of axes after H."""
        return x if len(self.leading) == 2 else x.reshape(*self.leading, *x.shape[x.ndim - trailing :])

    def table(self, x: Tensor, name: str) -> Tensor:
        """Bring a tensor that broadcasts to (…, Q, K) to (B or 1, H or 1, Q or 1, K) without writing it out.

        Raises:
            ArgumentError: it doesn't broadcast to the scores, or is on another device.
        """
        x = self._broadcast(x, self.shape, name)
        return x.expand(*x.shape[:-1], self.keys)

    def column(self, x: Tensor, name: str) -> Tensor:
        """Bring a tensor that broadcasts to (…, Q), a number for each query, to (B or 1, H or 1, Q or 1, 1).

        Raises:
            ArgumentError: as for `table`.
        """
        return self._broadcast(x[..., None], (*self.shape[:-1], 1), name)

    def _broadcast(self, x: Tensor, target: tuple[int, ...], name: str) -> Tensor:
        if x.device != self.device:
            raise ArgumentError(f"{name} is on {x.device}, queries and keys are on {self.device}")
        fits = x.ndim <= len(target) and all(
            size in (1, wanted) for size, wanted in zip(reversed(x.shape), reversed(target), strict=False)
        )
        if not fits:
            raise ArgumentError(f"{name} is {shape(x)}, which doesn't broadcast to the scores {target}")
        x = x.reshape((1,) * (len(target) - x.ndim) + tuple(x.shape))
        if len(target) == 2:
            return x[None, None]
        if len(target) == 3:
            return x[:, None]
        if len(target) > 4:
            # several batch axes: only those that really vary can be written out
            if any(size != 1 for size in x.shape[:-3]):
                x = x.expand(*target[:-3], *x.shape[-3:])
            x = x.flatten(0, -4)
        return x


def shape(x: Tensor) -> tuple[int, ...]:
    """A tensor's shape as a plain tuple, for messages."""
    return tuple(x.shape)
