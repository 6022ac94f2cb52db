"""A rule for texts that end where they say one of several strings, wherever tokens begin and end in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regard.decoding.rules import Moment
from regard.decoding.text_stream import stop_bytes, stop_place


class StopAt:
    """After a stop string, which may lie in any number of tokens, the text ends.

    The end symbol is then certain, and costs nothing: its log-probability is 0. The tokens of the stop string stay in
    what a search returns; `text_of_bytes` cuts the text before it. A stop string counts when all of it was said:
    one that begins in the prompt does not. Put this rule last.

    Args:
        surfaces: the bytes that each token adds to a text.
        stops: the strings, at least one.
        eos: the end symbol of the search.

    Raises:
        ArgumentError: as for `stop_bytes`.
    """

    def __init__(self, surfaces: Sequence[bytes], stops: Sequence[str], eos: int) -> None:
        self._surfaces = surfaces
        self._stops = stop_bytes(stops)
        self._eos = eos
        self._longest = max(map(len, self._stops))

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def apply(self, log_probs: Tensor, moment: Moment) -> Tensor:
        """0 for `eos` and −inf for all else, where the last token completed a stop string."""
        stopped = [row for row, tokens in enumerate(moment.said.tolist()) if self._completed(tokens)]
        if not stopped:
            return log_probs
        ended = torch.full_like(log_probs[0], -torch.inf)
        ended[self._eos] = 0.0
        return log_probs.index_copy(0, torch.tensor(stopped, device=log_probs.device), ended.expand(len(stopped), -1))

    def _completed(self, tokens: list[int]) -> bool:
        """Whether a stop string ends within the last of these tokens: any earlier one has ended the text already."""
        tail: list[bytes] = []
        size = 0
        for token in reversed(tokens):
            surface = self._surfaces[token] if token < len(self._surfaces) else b""  # a symbol of the search's own
            tail.append(surface)
            size += len(surface)
            if size >= len(tail[0]) + self._longest:
                break
        text = b"".join(reversed(tail))
        return bool(tail) and stop_place(text, self._stops, since=len(text) - len(tail[0])) is not None
