"""What a recording keeps of single calls: the last ones of each module."""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from regard.attention import AttentionMap
from regard.insight.tokens import Tokens

Reader = Callable[[str, Sequence[int], Sequence[bool]], Tokens]
"""What stands at the positions of a sequence: of its name, the ids, and which positions are no padding."""


class Calls:
    """Keeps the last `keep` calls of each module, and what was read last.

    Args:
        heads: which query heads; None keeps all.
        keep: how many calls.
        read: makes tokens of ids.
    """

    def __init__(self, heads: Sequence[int] | None, keep: int, read: Reader) -> None:
        self._heads, self._keep, self._read = heads, keep, read
        self._calls: dict[str, list[AttentionMap]] = {}
        self._ids: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._used: dict[str, object] = {}  # what of `_ids` some attention, or step, has followed

    def attended(self, name: str, table: AttentionMap) -> None:
        """See `Observer.attended`."""
        self._used = {**self._ids}
        kept = self._calls.setdefault(name, [])
        kept.append(table.detached(self._heads))
        del kept[: -self._keep]

    def read(self, sequence: str, ids: Tensor | None, real: Tensor | None) -> None:
        """See `Observer.read`."""
        if ids is None:
            self._ids.pop(sequence, None)
            return
        here = None if real is None else real[:, : ids.shape[1]].detach().clone()
        self._ids[sequence] = ids.detach().clone(), here

    def began(self) -> None:
        """See `Observer.began`."""
        self._used = {**self._ids}

    def fed(self, sequence: str, ids: Tensor, parents: Tensor | None, sentences: Tensor | None) -> None:
        """See `Observer.fed`."""
        known = self._ids.get(sequence)
        if known is None or known is self._used.get(sequence):  # a step; a prompt was read just now, with its padding
            self.read(sequence, ids, None)
        self._used = {**self._ids}

    def returned(self, sentences: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        """See `Observer.returned`."""

    def names(self) -> Collection[str]:
        """See `Store.names`."""
        return self._calls.keys()

    def calls(self, name: str) -> list[AttentionMap]:
        """See `Store.calls`."""
        return list(self._calls[name])

    def tokens(self, sequence: str) -> list[Tokens]:
        """See `Store.tokens`."""
        if sequence not in self._ids:
            return []
        ids, real = self._ids[sequence]
        real = torch.ones_like(ids, dtype=torch.bool) if real is None else real
        return [self._read(sequence, *row) for row in zip(ids.tolist(), real.tolist(), strict=True)]
