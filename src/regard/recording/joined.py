"""What a recording keeps of a step-wise generation: its steps joined to one map for each sequence that was found."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from regard.attention import AttentionMap
from regard.attention.joining import GrowingKeys, MemoryKeys, Place, Steps, Ways
from regard.errors import UnsupportedError
from regard.insight.tokens import Role, Tokens
from regard.recording.batches import chosen
from regard.recording.calls import Reader
from regard.recording.hypotheses import Hypotheses

Read = tuple[Tensor, Tensor | None]
INSTEAD = "with keep=1, or more, each call has a map of its own"


class Joined:
    """Keeps the last generation: of each step the queries and the keys that are new, and what was fed to whom.

    The maps are put together when one is asked for. Batch elements are the sequences that were found; if whoever
    searches doesn't say which, the hypotheses of the last step. Rows, and keys of self-attention, are the positions
    that were fed, the prompt among them; a sequence that is shorter than others ends in rows that see nothing.
    Attention outside of the steps, as an encoder's, is kept as it is, and taken for the sentence of each sequence.

    A model that is only run, without a generation, has the map of the last call. Once there is a generation, passes
    over whole sequences don't replace it.

    Args:
        roles: of the attentions that are watched.
        heads: which query heads; None keeps all.
        read: makes tokens of ids.
    """

    def __init__(self, roles: Mapping[str, Role], heads: Sequence[int] | None, read: Reader) -> None:
        self._roles, self._heads, self._read = roles, heads, read
        self._begun = False  # whether there has been a generation
        self._apart = False  # whether what happens now is no part of the generation that is kept
        self._forget()

    def _forget(self) -> None:
        self._whole: dict[str, AttentionMap] = {}
        self._steps: dict[str, Steps] = {}
        self._ids: dict[str, Read] = {}
        self._hypotheses = Hypotheses()
        self._place: Place | None = None  # of the step that is computed
        self._fed = ""  # the sequence that is generated
        self._found: tuple[Sequence[int], Sequence[Sequence[int]]] | None = None
        self._moved()

    def _moved(self) -> None:
        """Forget what was put together: there is more now."""
        self._joined: dict[str, AttentionMap] = {}
        self._ways: tuple[Ways, list[list[int]]] | None = None

    def read(self, sequence: str, ids: Tensor | None, real: Tensor | None) -> None:
        """See `Observer.read`."""
        if self._place is not None:
            self._apart = True  # a pass over whole sequences, after the generation, unless something is fed next
            return
        if ids is None:
            self._ids.pop(sequence, None)
            return
        with torch.inference_mode(False), torch.no_grad():
            self._ids[sequence] = ids.detach().clone(), None if real is None else real.detach().bool().clone()

    def began(self) -> None:
        """See `Observer.began`."""
        self._begun, self._apart = True, False
        self._forget()

    def fed(self, sequence: str, ids: Tensor, parents: Tensor | None, sentences: Tensor | None) -> None:
        """See `Observer.fed`."""
        if self._found is not None:
            return
        self._apart, self._fed = False, sequence
        with torch.inference_mode(False), torch.no_grad():
            self._place = self._hypotheses.feed(ids, parents, sentences)
        self._moved()

    def attended(self, name: str, table: AttentionMap) -> None:
        """See `Observer.attended`.

        Raises:
            UnsupportedError: the attention can't be joined.
        """
        if self._apart:
            return
        role = self._roles[name]
        with torch.inference_mode(False), torch.no_grad():
            if self._place is None or role.queries != self._fed:
                self._whole[name] = table.detached(self._heads)
                return
            if name not in self._steps:
                keys = MemoryKeys() if role.keys != role.queries else GrowingKeys()
                self._steps[name] = Steps(keys, self._heads)
            steps = self._steps[name]
            if len(steps) != len(self._hypotheses) - 1:
                times = "more than once" if len(steps) >= len(self._hypotheses) else "not in every step"
                raise UnsupportedError(f"{name} was called {times}, so its steps can't be joined: {INSTEAD}")
            try:
                steps.add(table.scoring, self._place)
            except UnsupportedError as error:
                raise UnsupportedError(f"{name}: {error}. Its steps can't be joined: {INSTEAD}") from error

    def returned(self, sentences: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        """See `Observer.returned`.

        Raises:
            UnsupportedError: there was a generation, and it was not seen what was fed.
        """
        if self._begun and self._place is None and not self._apart:
            raise UnsupportedError(f"what the model was fed in its generation was not seen: {INSTEAD}")
        if self._place is None or self._found is not None:
            return
        self._apart = True
        if not ids:  # nothing was found
            self._forget()
            return
        self._found = [*sentences], [[*row] for row in ids]
        self._moved()

    def names(self) -> Collection[str]:
        """See `Store.names`."""
        return {**self._whole, **self._steps}

    def calls(self, name: str) -> list[AttentionMap]:
        """See `Store.calls`: the one map of the generation.

        Raises:
            UnsupportedError: its steps don't go together.
        """
        if name not in self._joined:
            with torch.inference_mode(False), torch.no_grad():
                self._joined[name] = self._put_together(name)
        return [self._joined[name]]

    def _put_together(self, name: str) -> AttentionMap:
        if name in self._steps:
            if len(self._steps[name]) != len(self._hypotheses):
                raise UnsupportedError(f"{name} was not called in every step, so its steps can't be joined: {INSTEAD}")
            try:
                return self._steps[name].joined(self._followed()[0])
            except UnsupportedError as error:
                raise UnsupportedError(f"{name}: {error}. Its steps can't be joined: {INSTEAD}") from error
        whole = self._whole[name]
        return whole if self._place is None else chosen(whole, self._batch_rows(whole.scoring.extent.batch, name))

    def tokens(self, sequence: str) -> list[Tokens]:
        """See `Store.tokens`."""
        if self._place is not None and sequence == self._fed:
            return self._generated()
        if sequence not in self._ids:
            return []
        ids, real = self._ids[sequence]
        real = torch.ones_like(ids, dtype=torch.bool) if real is None else real
        if self._place is not None:
            rows = self._batch_rows(len(ids), sequence).to(ids.device)
            ids, real = ids[rows], real[rows]
        return [self._read(sequence, *row) for row in zip(ids.tolist(), real.tolist(), strict=True)]

    def _followed(self) -> tuple[Ways, list[list[int]]]:
        if self._ways is None:
            self._ways = self._hypotheses.alive() if self._found is None else self._hypotheses.of(*self._found)
        return self._ways

    def _batch_rows(self, batch: int, name: str) -> Tensor:
        """Which batch element of something outside of the steps each sequence belongs to."""
        ways, _ = self._followed()
        first = self._hypotheses.first
        sentences = int(first.max()) + 1
        if batch == sentences:
            return ways.sentences
        if batch == len(first):  # computed within the first step, for each hypothesis
            return ways.rows[:, 0]
        raise UnsupportedError(f"{name}: a batch of {batch}, where {sentences} sentences began: {INSTEAD}")

    def _generated(self) -> list[Tokens]:
        """What each sequence was fed; nothing stands behind the end of a shorter one."""
        ways, fed = self._followed()
        real = self._ids.get(self._fed, (None, None))[1]
        longest, found = max([len(ids) for ids in fed], default=0), []
        for ids, first in zip(fed, ways.rows[:, 0].tolist(), strict=True):
            here = [True] * len(ids)
            if real is not None and len(real) == len(self._hypotheses.first):
                prompt = real[first].tolist()[: len(ids)]
                here[: len(prompt)] = prompt
            missing = longest - len(ids)
            tokens = self._read(self._fed, [*ids, *([0] * missing)], [*here, *([False] * missing)])
            found.append(replace(tokens, texts=(*tokens.texts[: len(ids)], *([""] * missing))))
        return found
