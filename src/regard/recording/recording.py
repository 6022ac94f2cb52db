"""`Recording`: the attention of a model's passes, as maps keyed by module path."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from regard.attention import AttentionMap
from regard.insight.tokens import Role, Tokens
from regard.recording.writing import write_recording


class Store(Protocol):
    """Where a recording's maps are."""

    def names(self) -> Collection[str]:
        """The attentions of which there is a map."""
        ...

    def calls(self, name: str) -> list[AttentionMap]:
        """The maps of one of `names`, oldest first, one at least."""
        ...

    def tokens(self, sequence: str) -> list[Tokens]:
        """What was read under this name, for each batch element; empty where that isn't known."""
        ...


class Recording(Mapping[str, AttentionMap]):
    """Attention maps by module path, for example `decoder.layers.3.cross`, in the order of the model.

    A module that ran several times has its last call here; `calls(name)` has those that were kept.

    Everything in them is a detached copy, parameters of scores and biases included, so neither the graph nor a larger
    projection stays alive through them, and training on doesn't change them.

    Args:
        model: what the model is called, for people.
        roles: of the attentions that are recorded, in the order of the model.
        store: where the maps are; it may still grow.
        heads: which of the model's query heads the maps have, in their order; None is all.
    """

    def __init__(self, model: str, roles: Mapping[str, Role], store: Store, heads: Sequence[int] | None = None) -> None:
        self.model = model
        self.roles = dict(roles)
        self.heads = None if heads is None else tuple(heads)
        self._store = store

    def __getitem__(self, name: str) -> AttentionMap:
        return self.calls(name)[-1]

    def __iter__(self) -> Iterator[str]:
        known = self._store.names()
        return (name for name in self.roles if name in known)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def calls(self, name: str) -> list[AttentionMap]:
        """The recorded calls of one module, oldest first.

        Raises:
            KeyError: nothing was recorded under this name.
        """
        if name not in self._store.names():
            known = ", ".join(self) or "nothing yet"
            raise KeyError(f"{name!r} was not recorded; recorded: {known}")
        return self._store.calls(name)

    def tokens(self, name: str) -> tuple[list[Tokens], list[Tokens]]:
        """What stands at the rows and at the columns of `recording[name]`, for each batch element.

        A list is empty where that isn't known: of pixels or sound, or of one step of generation, which reads only the
        last of its keys.
        """
        table, role = self[name], self.roles[name]
        return self._fitting(role.queries, table, table.shape[-2]), self._fitting(role.keys, table, table.shape[-1])

    def save(self, path: str | Path) -> None:
        """Write this recording to one safetensors file, whole or not at all; `regard.load_recording` opens it.

        Raises:
            ArgumentError: nothing was recorded.
            UnsupportedError: a bias or factor of a class of someone else, or more text than fits into a header.
            OSError: the file can't be written.
        """
        calls = {name: self._store.calls(name) for name in self}
        sequences = dict.fromkeys(name for role in self.roles.values() for name in (role.queries, role.keys))
        tokens = {name: self._store.tokens(name) for name in sequences}
        write_recording(Path(path), self.model, self.heads, self.roles, calls, tokens)

    def _fitting(self, sequence: str, table: AttentionMap, length: int) -> list[Tokens]:
        """What is known of a sequence, if it is of this map: a step of generation reads only a part of its keys."""
        known = self._store.tokens(sequence)
        fits = len(known) == table.scoring.extent.batch and all(len(one.texts) == length for one in known)
        return known if fits else []
