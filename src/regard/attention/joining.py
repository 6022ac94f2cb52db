"""Joining the steps of a generation: from the tables of the steps to one table of all of them.

A step's table has the queries of this step. Of a sequence that grows (self-attention) its keys are all positions so
far, of which only those of the step itself are new; of a memory (cross-attention) they are the same in each step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from regard.attention.biases import Diagonals, Factor
from regard.attention.intervals import intervals_of
from regard.attention.map import AttentionMap
from regard.attention.operands import Operand
from regard.attention.owned import owned
from regard.attention.scoring import Scoring
from regard.attention.visibility import EVERYTHING, Visibility
from regard.errors import UnsupportedError

Pick = Callable[[Tensor], Tensor]
"""A copy of the heads that are kept, of keys (·, G, ·, ·)."""


@dataclass(frozen=True)
class Place:
    """Where a step stands in its generation.

    Attributes:
        rows: N, the hypotheses.
        new: n, the positions that each of them is fed.
        total: the positions so far, with these.
        parents: (N,) which hypothesis of the step before each one continues; None: the same.
        sentences: (N,) which sentence each one belongs to.
    """

    rows: int
    new: int
    total: int
    parents: Tensor | None
    sentences: Tensor


@dataclass(frozen=True)
class Ways:
    """What R sequences went through in T steps.

    Attributes:
        rows: (R, T) which hypothesis each one was in each step; −1 after its end.
        sentences: (R,) which sentence each one belongs to.
    """

    rows: Tensor
    sentences: Tensor

    def along(self, steps: Sequence[Tensor]) -> Tensor:
        """What the sequences met: of tensors (N or 1, H or 1, n, ·), a step each, (R, H or 1, positions, ·).

        Positions after a sequence's end have zeros.
        """
        heads = max(x.shape[1] for x in steps)
        met = []
        for x, rows in zip(steps, self.rows.to(steps[0].device).unbind(1), strict=False):
            if x.shape[0] > 1:
                x = x.index_select(0, rows.clamp(min=0))
            x = x.expand(len(rows), heads, -1, -1)
            met.append(x.masked_fill((rows < 0)[:, None, None, None], 0))
        return torch.cat(met, 2)


class Keys(Protocol):
    """What is kept of the keys of one attention."""

    def add(self, k: Tensor, stop: Tensor | None, pick: Pick, place: Place) -> int:
        """Keep what is new of the keys of a step, (B, G, K, ·).

        Args:
            k: the keys.
            stop: the first key that each query doesn't see any more; None: not to be relied on.
            pick: copies the heads that are kept.
            place: of the step.

        Returns:
            the position of the first of them in the sequence.

        Raises:
            UnsupportedError: they don't go with those of the steps before.
        """
        ...

    def joined(self, ways: Ways) -> Tensor:
        """Of each sequence, (R, G, K, ·).

        Raises:
            UnsupportedError: as for `add`, where that is found out only now.
        """
        ...


class GrowingKeys:
    """Keys of the sequence that is generated: of each step those that are new."""

    def __init__(self) -> None:
        self._new: list[Tensor] = []  # (N, G, n, ·) of each step
        self._oldest: dict[int, tuple[int, Tensor]] = {}  # of steps that lack the first keys: what they begin with
        self._fine = Alike()

    def add(self, k: Tensor, stop: Tensor | None, pick: Pick, place: Place) -> int:
        """See `Keys.add`."""
        if k.shape[2] > place.total and stop is not None and int(stop.max()) <= place.total:
            k = k[:, :, : place.total]  # without the empty end of a cache that was made for more
        old, shift = k.shape[2] - place.new, place.total - k.shape[2]
        if old < 0 or shift < 0:
            raise UnsupportedError(
                f"there are {k.shape[2]} keys where {place.total} positions were fed, {place.new} of them now: the "
                "cache held others before, the prompt was given as embeddings, or padding sees the empty end of a cache"
            )
        if self._new and not old:
            raise UnsupportedError("a step was fed a whole sequence again, as with use_cache=False or with guidance")
        if self._new:
            last = self._new[-1] if place.parents is None else self._new[-1].index_select(0, place.parents.to(k.device))
            self._fine.note(last[:, :, -1:], pick(k[:, :, old - 1 : old]))
        if shift:
            self._oldest[len(self._new)] = shift, pick(k[:, :, :1])
        self._new.append(pick(k[:, :, old:]))
        return shift

    def joined(self, ways: Ways) -> Tensor:
        """See `Keys.joined`."""
        self._fine.require("the keys of a step don't continue those of the step before")
        k = ways.along(self._new)
        kept = Alike()
        for step, rows in enumerate(ways.rows.to(k.device).unbind(1)):
            here = (rows >= 0).nonzero()[:, 0]
            if step in self._oldest and len(here):
                shift, oldest = self._oldest[step]
                kept.note(k[here, :, shift : shift + 1], oldest[rows[here]])
        kept.require("the cache has an order of its own")
        return k


class MemoryKeys:
    """Keys of a memory: once for each sentence."""

    def __init__(self) -> None:
        self._kept: Tensor | None = None  # (S, G, K, ·)
        self._fine = Alike()

    def add(self, k: Tensor, stop: Tensor | None, pick: Pick, place: Place) -> int:
        """See `Keys.add`."""
        shared = place.rows // k.shape[0]  # hypotheses that are queries of one attention
        if self._kept is None:
            numbers = place.sentences.tolist()
            first = [numbers.index(sentence) // shared for sentence in range(max(numbers) + 1)]
            self._kept = pick(k.index_select(0, torch.tensor(first, device=k.device)))
        middle = slice(k.shape[2] // 2, k.shape[2] // 2 + 1)
        if k.shape[2] != self._kept.shape[2]:
            raise UnsupportedError(f"the memory has {k.shape[2]} keys and had {self._kept.shape[2]}")
        self._fine.note(self._kept[place.sentences[::shared].to(k.device), :, middle], pick(k[:, :, middle]))
        return 0

    def joined(self, ways: Ways) -> Tensor:
        """See `Keys.joined`."""
        self._fine.require("the memory is not the same in each step")
        assert self._kept is not None
        return self._kept.index_select(0, ways.sentences.to(self._kept.device))


class Steps:
    """What is kept of the steps of one attention, linear in the positions fed: detached copies of their own size.

    Args:
        keys: of what is attended to.
        heads: which query heads; None keeps all.
    """

    def __init__(self, keys: Keys, heads: Sequence[int] | None) -> None:
        self._keys, self._heads = keys, heads
        self._fixed: Scoring | None = None  # what is the same in each step
        self._rows: dict[str, list[Tensor]] = {}  # what queries have, (N or 1, H or 1, n, ·) of each step
        self._biases: Distances | None = None
        self._fine = Alike()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, table: Scoring, place: Place) -> None:
        """Keep a step.

        Args:
            table: (N, H, n, K), or (S, H, N / S, K): the hypotheses of a sentence as queries of one attention.
            place: of the step.

        Raises:
            UnsupportedError: it has a mask, bias or factor that can't be joined, or doesn't go with those before.
        """
        sizes = table.extent
        width = place.rows // max(1, sizes.batch)  # hypotheses in one attention
        if sizes.batch * width != place.rows or sizes.queries != width * place.new or (width > 1 and place.new > 1):
            raise UnsupportedError(
                f"its queries are {sizes.queries} for each of {sizes.batch}, where {place.rows} hypotheses were fed "
                f"{place.new} each"
            )
        limits = intervals_of(table.visibility, sizes.queries, sizes.keys, sizes.device)
        if limits is None:
            raise UnsupportedError("some query sees keys with a gap between them")
        _check_joinable(table)
        others = {name: x for name, x in table.operands.items() if name != "k"}
        empty = Operand(table.k[:, :, :0], "key")  # keys are kept apart
        mine = owned(
            replace(table, operands={**others, "k": empty}, visibility=EVERYTHING, bias=None), self._heads
        )  # of the heads that are kept
        # the diagonals of a bias are counted from the last key, empty or not
        stop = limits[1] if table.bias is None else None
        shift = self._keys.add(table.k, stop, self._picker(table.share), place)
        if shift and table.factor is not None:
            raise UnsupportedError("it has a factor over keys of which the first are forgotten")
        if table.bias is not None:
            self._biases = self._biases or Distances()
            self._biases.add(mine.operands["bias.values"].tensor[0, :, :, 0], place.new, sizes.keys)
        self._agree(replace(mine, operands={n: x for n, x in mine.operands.items() if _fixed(n, x)}, bias=table.bias))
        rows = {name: operand.tensor for name, operand in mine.operands.items() if operand.kind == "query"}
        for name, x in zip(("start", "stop"), limits, strict=True):
            some = x if self._heads is None or x.shape[1] == 1 else x[:, list(self._heads)]
            rows[name] = some + shift
        for name, x in rows.items():
            self._rows.setdefault(name, []).append(x if width == 1 else _apart(x, sizes.batch, width))
        self._count += 1

    def joined(self, ways: Ways) -> AttentionMap:
        """The table of all steps, (R, H, positions, K), of sequences `ways`.

        Rows after a sequence's end see nothing.

        Raises:
            UnsupportedError: the steps don't go together.
        """
        fixed = self._fixed
        assert fixed is not None
        self._fine.require("parameters of its score, its bias or its sinks changed between steps")
        k = self._keys.joined(ways)
        rows = {name: ways.along(steps) for name, steps in self._rows.items()}
        start, stop = rows.pop("start"), rows.pop("stop")
        operands = {name: Operand(x, "query") for name, x in rows.items()} | {"k": Operand(k, "key")}
        count, length = len(k), rows["q"].shape[2]
        extent = replace(
            fixed.extent, leading=(count, fixed.extent.heads), batch=count, queries=length, keys=k.shape[2]
        )
        bias = None
        if self._biases is not None:
            bias = Diagonals(self._biases.within(length))
            operands |= {f"bias.{name}": operand for name, operand in bias.operands(extent).items()}
        seen = _visibility(start, stop)
        return AttentionMap.of(
            replace(fixed, operands=fixed.operands | operands, visibility=seen, bias=bias, extent=extent)
        )

    def _picker(self, share: int) -> Pick:
        groups = None if self._heads is None else [h // share for h in self._heads]

        def pick(k: Tensor) -> Tensor:
            k = k.detach()
            if groups is None:
                return k.clone(memory_format=torch.contiguous_format)
            return k.index_select(1, torch.tensor(groups, device=k.device))

        return pick

    def _agree(self, fixed: Scoring) -> None:
        """Check that what should be the same in each step is."""
        if self._fixed is None:
            self._fixed = fixed
            return
        before, now = (
            (x.form, x.scale, x.softcap, type(x.bias), _numbers(x.factor), x.extent.heads, sorted(x.operands))
            for x in (self._fixed, fixed)
        )
        if before != now:
            raise UnsupportedError(f"its score changed between steps, from {before} to {now}")
        for name, operand in fixed.operands.items():
            self._fine.note(self._fixed.operands[name].tensor, operand.tensor)


class Distances:
    """A bias that depends on the distance of query and key alone, put together of what each step has of it."""

    def __init__(self) -> None:
        self._low = 0  # the distance, key minus query, that the first of the values is of
        self._values: Tensor | None = None  # (H, distances)
        self._fine = Alike()

    def add(self, values: Tensor, queries: int, keys: int) -> None:
        """Values (H, Q + K − 1) of a step: of distances 1 − K to Q − 1, since the ends are aligned."""
        low = 1 - keys
        if self._values is None:
            self._low, self._values = low, values
            return
        start, stop = max(low, self._low), min(queries, self._low + self._values.shape[1])
        self._fine.note(self._values[:, start - self._low : stop - self._low], values[:, start - low : stop - low])
        if low < self._low:
            self._values = torch.cat([values[:, : self._low - low], self._values], 1)
            self._low = low

    def within(self, length: int) -> Tensor:
        """Of a table of `length` queries and keys: (H, 2 · length − 1), with zeros where no step came."""
        assert self._values is not None
        self._fine.require("its bias is not the same in each step")
        values = self._values.new_zeros(self._values.shape[0], 2 * length - 1)
        lowest = 1 - length
        low, high = max(lowest, self._low), min(length, self._low + self._values.shape[1])
        values[:, low - lowest : high - lowest] = self._values[:, low - self._low : high - self._low]
        return values


class Alike:
    """Whether tensors are equal, found out without waiting for the device until that is asked."""

    def __init__(self) -> None:
        self._equal: Tensor | None = None

    def note(self, a: Tensor, b: Tensor) -> None:
        """Compare two tensors; NaN equals NaN.

        Raises:
            UnsupportedError: they have not one shape.
        """
        if a.shape != b.shape:
            raise UnsupportedError(f"a tensor {tuple(a.shape)} has become one {tuple(b.shape)}")
        equal = ((a == b) | ((a != a) & (b != b))).all()
        self._equal = equal if self._equal is None else self._equal & equal

    def require(self, problem: str) -> None:
        """Raise `UnsupportedError` unless all that were compared are equal."""
        if self._equal is not None and not bool(self._equal):
            raise UnsupportedError(problem)


def _check_joinable(table: Scoring) -> None:
    if table.bias is not None and not isinstance(table.bias, Diagonals):
        raise UnsupportedError(f"it has a bias ({type(table.bias).__name__}) that depends on more than the distance")
    kinds = {x.kind for name, x in table.operands.items() if name.startswith("factor.")}
    if not kinds <= {"query", "head"}:
        raise UnsupportedError("it has a factor that is a table of queries and keys")


def _fixed(name: str, operand: Operand) -> bool:
    """Whether an operand is to be the same in each step."""
    return operand.kind == "head" and not name.startswith("bias.")


def _numbers(factor: Factor | None) -> tuple[str, dict[str, object]]:
    """What a factor is but for its tensors."""
    found = {} if factor is None else {n: x for n, x in vars(factor).items() if not isinstance(x, Tensor)}
    return type(factor).__name__, found


def _apart(x: Tensor, batch: int, width: int) -> Tensor:
    """What queries of sentences have (S or 1, H or 1, W or 1, ·), of hypotheses: (S · W, H or 1, 1, ·)."""
    return x.expand(batch, -1, width, -1).transpose(1, 2).flatten(0, 1)[:, :, None].contiguous()


def _visibility(start: Tensor, stop: Tensor) -> Visibility:
    """Limits (R, H or 1, Q, 1) in the simplest form."""
    growing = torch.arange(1, stop.shape[2] + 1, device=stop.device)[:, None]
    if bool((start == 0).all()) and bool((stop == growing).all()):
        return Visibility(causal=0)
    return Visibility(start=start, stop=stop)
