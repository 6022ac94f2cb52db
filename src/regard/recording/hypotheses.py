"""The hypotheses of a step-wise generation: what each was fed, and which way the sequences that were found went."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention.joining import Place, Ways
from regard.errors import UnsupportedError


@dataclass(frozen=True)
class Fed:
    """A step.

    Attributes:
        ids: (N, n) what each hypothesis was fed.
        parents: (N,) which hypothesis of the step before each one continues.
        sentences: (N,) which sentence each one belongs to.
    """

    ids: Tensor
    parents: Tensor
    sentences: Tensor


class Hypotheses:
    """What the hypotheses of one generation were fed."""

    def __init__(self) -> None:
        self._steps: list[Fed] = []
        self._total = 0

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def first(self) -> Tensor:
        """(N,) which sentence each hypothesis of the first step belongs to."""
        return self._steps[0].sentences

    def feed(self, ids: Tensor, parents: Tensor | None, sentences: Tensor | None) -> Place:
        """A step begins; arguments as for `Observer.fed`.

        Raises:
            UnsupportedError: it doesn't continue the step before.
        """
        ids, same = ids.detach().clone(), torch.arange(len(ids), device=ids.device)
        last = self._steps[-1] if self._steps else None
        if last is not None and parents is None and len(ids) != len(last.ids):
            raise UnsupportedError(f"a step has {len(ids)} hypotheses after {len(last.ids)}, without saying which")
        continued = same if parents is None else parents.detach().clone()
        # whether they are hypotheses of the step before is looked at when something is asked: here it would be a wait
        within = continued if last is None else continued.clamp(0, len(last.ids) - 1)
        if sentences is None:
            sentences = same if last is None else last.sentences[within]
        self._steps.append(Fed(ids, continued, sentences.detach().clone()))
        self._total += ids.shape[1]
        return Place(len(ids), ids.shape[1], self._total, None if last is None else within, self._steps[-1].sentences)

    def alive(self) -> tuple[Ways, list[list[int]]]:
        """The ways to the hypotheses of the last step, and what was fed on each."""
        count = len(self._steps[-1].ids)
        last = torch.full((count,), len(self._steps) - 1)
        return self._back(last, torch.arange(count), self._steps[-1].sentences.cpu())

    def of(self, sentences: Sequence[int], ids: Sequence[Sequence[int]]) -> tuple[Ways, list[list[int]]]:
        """The ways of sequences that were found, and what was fed on each; arguments as for `Observer.returned`.

        Raises:
            UnsupportedError: nothing like one of them was fed.
        """
        count, longest = len(ids), max([len(row) for row in ids], default=0)
        wanted = torch.full((count, max(longest, self._total)), -1)  # −1: no token
        for row, sequence in zip(wanted, ids, strict=True):
            row[: len(sequence)] = torch.tensor(list(sequence))
        whose = torch.tensor(list(sentences))
        last, row_at_last = torch.full((count,), -1), torch.zeros(count, dtype=torch.long)
        position, met = 0, torch.ones(count, 1, dtype=torch.bool)  # (R, N): on this way so far
        for number, step in enumerate(self._steps):
            fed, new = step.ids.cpu(), step.ids.shape[1]
            same = (wanted[:, None, position : position + new] == fed).all(-1)  # (R, N)
            of_sentence = whose[:, None] == step.sentences.cpu()
            met = (met[:, self._parents(number)] if number else met) & same & of_sentence
            reached = met.any(1)
            last[reached] = number
            row_at_last[reached] = met[reached].to(torch.uint8).argmax(1)
            position += new
        if bool((last < 0).any()):
            lost = int((last < 0).nonzero()[0])
            raise UnsupportedError(f"sequence {lost} was found, but its beginning, {[*ids[lost]][:8]}, was never fed")
        return self._back(last, row_at_last, whose)

    def _back(self, last: Tensor, rows: Tensor, sentences: Tensor) -> tuple[Ways, list[list[int]]]:
        """The ways to hypotheses `rows` (R,) of the steps `last` (R,)."""
        steps = int(last.max()) + 1 if len(last) else 0
        ways = torch.full((len(last), steps), -1)
        for number in range(steps - 1, -1, -1):
            here = last >= number
            ways[here, number] = rows[here]
            if number:
                # the row of a sequence that ended before this step may be one that the step hasn't
                parents = self._parents(number)[rows.where(here, 0)]
                rows = parents.where(here, rows)
        fed = [step.ids.tolist() for step in self._steps[:steps]]
        ids = [
            [one for step, row in zip(fed, way, strict=True) if row >= 0 for one in step[row]] for way in ways.tolist()
        ]
        return Ways(ways, sentences), ids

    def _parents(self, number: int) -> Tensor:
        parents, before = self._steps[number].parents.cpu(), len(self._steps[number - 1].ids)
        if not bool(((parents >= 0) & (parents < before)).all()):
            raise UnsupportedError(
                "a step doesn't continue the one before it: steps were undone, as in assisted decoding, or two "
                "generations took turns"
            )
        return parents
