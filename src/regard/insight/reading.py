"""What the attentions of a model did with one text: a map of one batch element, its role, its tokens."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regard.attention import AttentionMap
from regard.errors import ArgumentError
from regard.insight.tokens import Role, Tokens

Numbers = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
TokensOf = Callable[[str], tuple[Sequence[Tokens], Sequence[Tokens]]]
"""Of the name of a map, what stands at its rows and columns, for each batch element; empty where that isn't known."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One attention of a model, for one text.

    Attributes:
        name: the module's path.
        table: the map of this text alone, (1, H, Q, K).
        role: what the attention is for.
        queries, keys: what stands at its rows and columns; None where that isn't known.
        counted: (Q,), the rows that are no padding and see some key: those that averages are over.
        head_numbers: which of the model's heads the H of the map are; 0 to H − 1 where it has them all.
    """

    name: str
    table: AttentionMap
    role: Role
    queries: Tokens | None
    keys: Tokens | None
    counted: Flags
    head_numbers: tuple[int, ...]

    @property
    def heads(self) -> int:
        """H."""
        return self.table.shape[1]

    @property
    def diagonal(self) -> bool:
        """Whether rows and columns are of one sequence, so that "itself" and "the one before" mean something."""
        return self.role.queries == self.role.keys


def readings_of(
    maps: Mapping[str, AttentionMap],
    roles: Mapping[str, Role],
    tokens: TokensOf | None = None,
    element: int = 0,
    heads: Sequence[int] | None = None,
) -> list[Reading]:
    """The attentions of one batch element, in the order of `maps`.

        readings_of(recording, recording.roles, recording.tokens, heads=recording.heads)

    A row counts unless it sees nothing or is padding: called so by its tokens, or a position that no query of a
    self-attention sees.

    Args:
        maps: by module path, in the order of the model; each with a batch axis or without.
        roles: of each of them.
        tokens: of each of them; None if they aren't known.
        element: which batch element.
        heads: which of the model's heads each map has, in their order; None: all of them.

    Raises:
        ArgumentError: there is no map, or one without a role or without this element, one whose tokens are of another
            length, or one with another number of heads.
    """
    if not maps:
        raise ArgumentError("maps is empty: there is nothing to look at")
    found: list[tuple[str, AttentionMap, Role, Tokens | None, Tokens | None]] = []
    padding: dict[tuple[str, int], Flags] = {}
    for name, whole in maps.items():
        if name not in roles:
            raise ArgumentError(f"roles has none for {name!r}, only for {', '.join(roles) or 'nothing'}")
        role, table = roles[name], _of_element(name, whole, element)
        if heads is not None and len(heads) != table.shape[1]:
            raise ArgumentError(f"heads names {len(heads)} heads, {name!r} has {table.shape[1]}")
        queries, keys = (_token_list(one, element) for one in (tokens(name) if tokens is not None else ((), ())))
        for side, one, axis in (("rows", queries, -2), ("columns", keys, -1)):
            if one is not None and len(one.texts) != table.shape[axis]:
                raise ArgumentError(
                    f"tokens of {name!r}: {len(one.texts)} for the {side}, of which there are {table.shape[axis]}"
                )
        found.append((name, table, role, queries, keys))
        for sequence, flags in _padding(table, role, queries, keys):
            place = (sequence, len(flags))
            padding[place] = padding[place] | flags if place in padding else flags
    return [
        Reading(
            name,
            table,
            role,
            queries,
            keys,
            _counted(table, padding[role.queries, table.shape[-2]]),
            tuple(range(table.shape[1]) if heads is None else heads),
        )
        for name, table, role, queries, keys in found
    ]


def readings_between(readings: Sequence[Reading], queries: str, keys: str) -> list[Reading]:
    """Those whose rows are of one sequence and whose columns are of another, such as "target" and "source".

    Raises:
        ArgumentError: there is none.
    """
    chosen = [one for one in readings if (one.role.queries, one.role.keys) == (queries, keys)]
    if not chosen:
        known = dict.fromkeys(f"{one.role.queries} → {one.role.keys}" for one in readings)
        raise ArgumentError(f"no attention goes {queries} → {keys}; there are: {', '.join(known) or 'none'}")
    return chosen


def check_alike(readings: Sequence[Reading]) -> Reading:
    """The first of readings that are all of the same two sequences.

    Raises:
        ArgumentError: there is none, or they are of several.
    """
    if not readings:
        raise ArgumentError("readings is empty, expected one attention at least")
    first = readings[0]
    for one in readings:
        here, there = (
            (x.role.queries, x.role.keys, x.table.shape[2:]) for x in (one, first)
        )  # names and lengths of the sequences
        if here != there:
            raise ArgumentError(
                f"{one.name!r} goes {here[0]} → {here[1]} ({here[2][0]} × {here[2][1]}), {first.name!r} goes "
                f"{there[0]} → {there[1]} ({there[2][0]} × {there[2][1]}): choose with readings_between"
            )
    return first


def check_positions(what: str, positions: Sequence[int], length: int) -> tuple[int, ...]:
    """The positions from 0, of which negative ones count from the end.

    Raises:
        ArgumentError: there is none, one comes twice, or one is outside the sequence.
    """
    if not len(positions):
        raise ArgumentError(f"{what}: give one position at least, from 0 to {length - 1}")
    found = []
    for one in positions:
        whole = isinstance(one, (int, np.integer)) and not isinstance(one, bool)
        if not whole or not -length <= one < length:
            raise ArgumentError(f"{what}: there is no position {one!r}, only 0 to {length - 1}")
        found.append(int(one) % length)
    if len(set(found)) != len(found):
        raise ArgumentError(f"{what}: {list(positions)} has a position twice")
    return tuple(found)


def check_head(reading: Reading, head: int | None) -> slice:
    """Where in the map one of the model's heads is, or all of them.

    Raises:
        ArgumentError: there is no such head.
    """
    if head is None:
        return slice(0, reading.heads)
    if isinstance(head, bool) or head not in reading.head_numbers:
        raise ArgumentError(f"{reading.name!r} has no head {head!r}, only {head_range(reading)}")
    place = reading.head_numbers.index(head)
    return slice(place, place + 1)


def head_range(reading: Reading) -> str:
    """The heads that there are, in words: "0 to 7", or "1, 3"."""
    numbers = reading.head_numbers
    return f"0 to {len(numbers) - 1}" if numbers == (*range(len(numbers)),) else ", ".join(map(str, numbers))


def mean_name(reading: Reading) -> str:
    """What the mean of all its heads is called."""
    every = reading.head_numbers == (*range(reading.heads),)
    return "mean of heads" if every else f"mean of heads {head_range(reading)}"


def find_token(tokens: Tokens | None, wanted: str, length: int) -> tuple[int, ...]:
    """The positions that a person means.

    Args:
        tokens: of the sequence, if they are known.
        wanted: a position from 0, negative from the end; or a word or token, `word#2` being the second of that name.
        length: of the sequence.

    Returns:
        One position, or those of a word's tokens.

    Raises:
        ArgumentError: there is none.
    """
    if re.fullmatch(r"-?[0-9]{1,9}", wanted):
        return check_positions(f"token {wanted}", [int(wanted)], length)
    if tokens is None:
        raise ArgumentError(f"token {wanted!r}: the tokens aren't known here; give a position from 0 to {length - 1}")
    name, _, number = wanted.rpartition("#")
    for text, which in ((wanted, 1), (name, int(number) if number.isdecimal() else 0)):
        places = [word.tokens for word in tokens.words if word.text == text and word.tokens]
        places = places or [(at,) for at, one in enumerate(tokens.texts) if text in (one, one.strip("▁Ġ "))]
        if 1 <= which <= len(places):
            return places[which - 1]
    known = dict.fromkeys([word.text for word in tokens.words] or tokens.texts)
    shown = ", ".join(list(known)[:20]) + (", …" if len(known) > 20 else "")
    raise ArgumentError(f"there is no token {wanted!r}; give a position from 0 to {length - 1}, or one of: {shown}")


def texts_of(tokens: Tokens | None, length: int) -> list[str]:
    """What is shown for each position: its number where nothing is known."""
    return list(map(str, range(length))) if tokens is None else list(tokens.texts)


def special_of(tokens: Tokens | None, length: int) -> Flags:
    """Which positions are special: none where nothing is known."""
    return np.zeros(length, dtype=bool) if tokens is None else np.array(tokens.special, dtype=bool)


def numbers(x: Tensor) -> Numbers:
    """A tensor from any device as a read-only array of float32."""
    return frozen(x.detach().float().cpu().numpy().copy())


def frozen(x: npt.ArrayLike) -> Numbers:
    """An array of float32 that can't be written to."""
    array = np.array(x, dtype=np.float32)
    array.setflags(write=False)
    return array


def plain(x: npt.ArrayLike) -> Any:
    """Lists of numbers for JSON, in the shortest decimals that give the same float32."""
    array = np.asarray(x, dtype=np.float32)
    return [plain(row) for row in array] if array.ndim else float(str(array))


def _of_element(name: str, table: AttentionMap, element: int) -> AttentionMap:
    sizes = table.scoring.extent
    if isinstance(element, bool) or not isinstance(element, int) or not 0 <= element < sizes.batch:
        raise ArgumentError(f"element is {element!r}: {name!r} has batch elements 0 to {sizes.batch - 1}")
    part = table.scoring.crop(slice(element, element + 1), slice(0, sizes.heads))
    # whatever axes the caller's map has, this one has four
    return AttentionMap.of(replace(part, extent=replace(part.extent, leading=(1, sizes.heads))))


def _token_list(tokens: Sequence[Tokens], element: int) -> Tokens | None:
    if len(tokens) == 0:
        return None
    if element >= len(tokens):
        raise ArgumentError(f"element is {element}: there are tokens of {len(tokens)} batch elements")
    return tokens[element]


def _padding(table: AttentionMap, role: Role, queries: Tokens | None, keys: Tokens | None) -> list[tuple[str, Flags]]:
    """What a map and its tokens say about padding, by the name of the sequence."""
    rows, columns = _padding_of(queries, table.shape[-2]), _padding_of(keys, table.shape[-1])
    if role.queries == role.keys and table.shape[-2] == table.shape[-1]:
        sizes = table.scoring.extent
        seen = table.scoring.visibility.seen_keys(sizes.queries, sizes.keys, sizes.device)  # (1, H or 1, K)
        rows = rows | ~seen.flatten(0, 1).any(0).cpu().numpy()
    return [(role.queries, rows), (role.keys, columns)]


def _padding_of(tokens: Tokens | None, length: int) -> Flags:
    if tokens is None or not tokens.padding:
        return np.zeros(length, dtype=bool)
    return np.array(tokens.padding, dtype=bool)


def _counted(table: AttentionMap, padding: Flags) -> Flags:
    sizes = table.scoring.extent
    seen = table.scoring.visibility.seen_any(sizes.queries, sizes.keys, sizes.device)
    counted = ~padding
    if seen is not None:
        some = seen.flatten(0, 1).any(0).expand(sizes.queries)  # by any head
        counted = counted & torch.as_tensor(some).cpu().numpy()
    counted.setflags(write=False)
    return counted
