"""Tables of names: which weights there make which weight here, and how, in both directions."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from regard.errors import CheckpointError
from regard.interop.huggingface.weights.stored import Stored


class Form(Protocol):
    """How the tensors of one weight lie there and here."""

    def read(self, parts: Sequence[Tensor]) -> Tensor:
        """Theirs → ours."""
        ...

    def write(self, tensor: Tensor) -> list[Tensor]:
        """Ours → theirs: the inverse of `read`."""
        ...


@dataclass(frozen=True)
class Same:
    """The same tensor."""

    def read(self, parts: Sequence[Tensor]) -> Tensor:
        """The only part."""
        return parts[0]

    def write(self, tensor: Tensor) -> list[Tensor]:
        """The tensor alone."""
        return [tensor]


@dataclass(frozen=True)
class Joined:
    """Several there are one here, below each other (queries, keys and values).

    Attributes:
        sizes: rows of each.
    """

    sizes: tuple[int, ...]

    def read(self, parts: Sequence[Tensor]) -> Tensor:
        """(n₁, …), (n₂, …), … → (n₁ + n₂ + …, …)."""
        return torch.cat(list(parts))

    def write(self, tensor: Tensor) -> list[Tensor]:
        """(n₁ + n₂ + …, …) → (n₁, …), (n₂, …), …"""
        return list(torch.split(tensor, list(self.sizes)))


@dataclass(frozen=True)
class Transposed:
    """A matrix that lies on its side: GPT-2's `Conv1D` is (in, out), a linear layer (out, in)."""

    def read(self, parts: Sequence[Tensor]) -> Tensor:
        """(in, out) → (out, in)."""
        return parts[0].T

    def write(self, tensor: Tensor) -> list[Tensor]:
        """(out, in) → (in, out)."""
        return [tensor.T]


@dataclass(frozen=True)
class Below:
    """Theirs has rows in front that nothing reads (BART's positions begin at row 2).

    Attributes:
        first: how many; zeros are written.
    """

    first: int

    def read(self, parts: Sequence[Tensor]) -> Tensor:
        """(first + n, E) → (n, E)."""
        return parts[0][self.first :]

    def write(self, tensor: Tensor) -> list[Tensor]:
        """(n, E) → (first + n, E)."""
        return [torch.cat((tensor.new_zeros(self.first, tensor.shape[1]), tensor))]


@dataclass(frozen=True)
class Row:
    """A vector that is a matrix of one row there."""

    def read(self, parts: Sequence[Tensor]) -> Tensor:
        """(1, V) → (V,)."""
        return parts[0].flatten()

    def write(self, tensor: Tensor) -> list[Tensor]:
        """(V,) → (1, V)."""
        return [tensor[None]]


@dataclass(frozen=True)
class Reordered:
    """Another form, and one axis in another order.

    Attributes:
        form: of the rest.
        order: number i here is number order[i] there.
        axis: of our tensor.
    """

    form: Form
    order: Tensor
    axis: int

    def read(self, parts: Sequence[Tensor]) -> Tensor:
        """In our order."""
        return self.form.read(parts).index_select(self.axis, self.order)

    def write(self, tensor: Tensor) -> list[Tensor]:
        """In their order."""
        return self.form.write(tensor.index_select(self.axis, self.order.argsort()))


SAME = Same()


@dataclass(frozen=True)
class Weight:
    """A weight of ours and the names of those there that it is made of."""

    ours: str
    theirs: tuple[str, ...]
    form: Form = SAME


@dataclass(frozen=True)
class Table:
    """All weights of a model.

    Attributes:
        weights: one for each parameter here.
        tied: names there that are one tensor, the one that is in `weights` first; any of them may be stored.
        constants: names there of tensors that are no weights but numbers that follow from the sizes: what they must
            be, if they are stored.
        written: which of the constants are stored when a model is written: transformers asks for some.
        ignored: patterns of names there that hold nothing that is computed with.
    """

    weights: Sequence[Weight]
    tied: Sequence[tuple[str, ...]] = ()
    constants: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)
    written: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def check(model: nn.Module, table: Table, stored: Stored) -> None:
    """Compare the weights that a model has with those that are stored, by names and shapes alone.

    Args:
        model: also one without numbers, on torch's device "meta".
        table: of its weights.
        stored: of which nothing is read.

    Raises:
        CheckpointError: a weight is missing, has another shape, or is stored and has no place; the message names it.
    """
    sources = _sources(table, stored)
    _check_names(table, stored, sources)
    parameters = _parameters(model, table)
    for one in table.weights:
        expected = [tuple(part.shape) for part in one.form.write(torch.empty_like(parameters[one.ours], device="meta"))]
        for name, shape in zip(one.theirs, expected, strict=True):
            found = stored.shape(sources.get(name, name))
            if found != shape:
                raise CheckpointError(f"{stored.where}: {name} is {found}; by {stored.config} it should be {shape}")


@torch.no_grad()
def fill(model: nn.Module, table: Table, stored: Stored) -> None:
    """Put stored weights into a model, which `check` has found to fit.

    Raises:
        CheckpointError: numbers that should be equal differ, or a weight can't be read; the message names it.
    """
    sources = _sources(table, stored)
    _check_equal(table, stored)
    parameters = _parameters(model, table)
    for one in table.weights:
        parts = [stored.read(sources.get(name, name)) for name in one.theirs]
        parameters[one.ours].copy_(one.form.read(parts))


@torch.no_grad()
def spread(model: nn.Module, table: Table) -> dict[str, Tensor]:
    """The weights of a model under the names there: the inverse of `fill`, in float32 on the CPU.

    Tied weights are there once.
    """
    parameters = _parameters(model, table)
    found: dict[str, Tensor] = {}
    for one in table.weights:
        parts = one.form.write(parameters[one.ours].detach().float().cpu())
        # each owns its memory: the file refuses views of one tensor
        found |= {name: part.contiguous().clone() for name, part in zip(one.theirs, parts, strict=True)}
    return found | {name: table.constants[name]().contiguous() for name in table.written}


def _parameters(model: nn.Module, table: Table) -> dict[str, nn.Parameter]:
    """The parameters of a model, shared ones under each of their names.

    A table that misses one, or has one twice, is wrong, whatever was stored.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    named = [id(parameters[one.ours]) for one in table.weights]
    if len(named) != len(set(named)) or set(named) != {id(one) for one in parameters.values()}:
        odd = [name for name, one in parameters.items() if named.count(id(one)) != 1]
        raise AssertionError(f"the table of names should have each weight once: {odd}")
    return parameters


def _sources(table: Table, stored: Stored) -> dict[str, str]:
    """Under which name a tied weight is stored."""
    present = {names[0]: [name for name in names if name in stored.names] for names in table.tied}
    return {first: names[0] for first, names in present.items() if names}


def _check_equal(table: Table, stored: Stored) -> None:
    """Names that hold the same must hold equal numbers, and constants those that follow from the sizes."""
    for names in table.tied:
        present = [name for name in names if name in stored.names]
        for other in present[1:]:
            if not torch.equal(stored.read(other), stored.read(present[0])):
                raise CheckpointError(
                    f"{stored.where}: {other} and {present[0]} differ; by {stored.config} they are one weight"
                )
    for name in sorted(stored.names & table.constants.keys()):
        _check_constant(name, table.constants[name](), stored)


def _check_names(table: Table, stored: Stored, sources: Mapping[str, str]) -> None:
    wanted = {name for one in table.weights for name in one.theirs}
    missing = sorted(wanted - stored.names - sources.keys())
    if missing:
        raise CheckpointError(f"{stored.where}: there is no weight {_few(missing)}, which {stored.config} asks for")
    known = wanted | {name for names in table.tied for name in names}
    unknown = sorted(
        name
        for name in stored.names - known - table.constants.keys()
        if not any(re.fullmatch(pattern, name) for pattern in table.ignored)
    )
    if unknown:
        raise CheckpointError(f"{stored.where}: the weight {_few(unknown)} has no place in the model")


def _check_constant(name: str, expected: Tensor, stored: Stored) -> None:
    found = stored.read(name)
    # what was stored in half precision is only as near
    if found.shape != expected.shape or not torch.allclose(found, expected, atol=1e-2 if stored.half(name) else 1e-4):
        raise CheckpointError(f"{stored.where}: {name} is not what {stored.config} says that it is")


def _few(names: Sequence[str]) -> str:
    more = f" (and {len(names) - 3} more)" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
