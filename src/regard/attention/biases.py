"""Biases, which are added to the scores, and factors, by which weights are multiplied after the softmax.

Both are tables over queries and keys, made block by block from small tensors, or a tensor that is given. They are
differentiable in those tensors.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention.describing import Described
from regard.attention.extent import Extent, shape
from regard.attention.masks import checked_offset, placed
from regard.attention.operands import Operand
from regard.errors import ArgumentError

Place = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""A number for batch element b, head h, query i and key j, each an integer tensor without axes."""


class Bias(ABC):
    """A table that is added to the scores."""

    @abstractmethod
    def operands(self, extent: Extent) -> dict[str, Operand]:
        """The tensors that the table is made of, by a name of its own.

        Raises:
            ArgumentError: one of them doesn't fit the sizes, or is on another device.
        """

    @abstractmethod
    def block(self, parts: Mapping[str, Tensor], rows: slice, columns: slice, extent: Extent) -> Tensor:
        """The part for some queries and keys, broadcastable to (B, H, rows, columns).

        Args:
            parts: what `Operand.part` gives of each operand for this block.
            rows: queries, with start and stop set.
            columns: keys, with start and stop set.
            extent: Q and K of the whole table.
        """

    @abstractmethod
    def at(self, parts: Mapping[str, Tensor], extent: Extent) -> Place:
        """The same for one place at a time, as kernels that are generated ask for it (FlexAttention's `score_mod`).

        A tensor that may need a gradient is indexed once, and nothing else is done to it inside: FlexAttention wants it
        so.

        Args:
            parts: the tensors of the operands.
            extent: Q and K of the whole table.
        """


class Factor(ABC):
    """A table of numbers from 0 to 1 that the weights are multiplied by after the softmax."""

    @abstractmethod
    def operands(self, extent: Extent) -> dict[str, Operand]:
        """See `Bias.operands`."""

    @abstractmethod
    def block(self, parts: Mapping[str, Tensor], rows: slice, columns: slice, extent: Extent) -> Tensor:
        """See `Bias.block`."""


@dataclass(frozen=True, eq=False, repr=False)
class Given(Described, Bias, Factor):
    """A table given as a tensor that broadcasts to the scores.

    Args:
        table: floating point, in the caller's layout.
        name: of the argument, for messages.
    """

    table: Tensor
    name: str

    def operands(self, extent: Extent) -> dict[str, Operand]:
        """See `Bias.operands`."""
        return {"table": Operand(extent.table(self.table, self.name), "table")}

    def block(self, parts: Mapping[str, Tensor], rows: slice, columns: slice, extent: Extent) -> Tensor:
        """See `Bias.block`."""
        return parts["table"]

    def at(self, parts: Mapping[str, Tensor], extent: Extent) -> Place:
        """See `Bias.at`."""
        return place_in(parts["table"])


@dataclass(frozen=True, eq=False, repr=False)
class ALiBi(Described, Bias):
    """Attention with linear biases: −slope_h · |i + offset − j| (Press et al. 2022, section 3).

    The paper's bias is for causal attention, where the distance is never negative; elsewhere it falls to both sides.

    Args:
        slopes: one for each head (H,); None is the paper's geometric sequence, 2^(−8 h / H) for a power of two.
        offset: as for `Causal`: the position of query 0 among the keys; None aligns the ends.
    """

    slopes: Tensor | None = None
    offset: int | Tensor | None = None

    def __post_init__(self) -> None:
        if self.slopes is not None and not (isinstance(self.slopes, Tensor) and self.slopes.is_floating_point()):
            raise ArgumentError(f"ALiBi: slopes must be a floating-point tensor (H,), not {_kind(self.slopes)}")
        object.__setattr__(self, "offset", checked_offset("ALiBi", self.offset))

    def operands(self, extent: Extent) -> dict[str, Operand]:
        """See `Bias.operands`."""
        if self.slopes is None:
            slopes = torch.tensor(alibi_slopes(extent.heads), device=extent.device, dtype=extent.dtype)
        else:
            slopes = _per_head("ALiBi: slopes", self.slopes, extent)
        return {"slopes": Operand(slopes.view(1, -1, 1, 1), "head")} | _offset("ALiBi", self.offset, extent)

    def block(self, parts: Mapping[str, Tensor], rows: slice, columns: slice, extent: Extent) -> Tensor:
        """See `Bias.block`."""
        slopes = parts["slopes"]
        return _falling(_distance(parts, self.offset, rows, columns, extent, slopes.device), slopes)

    def at(self, parts: Mapping[str, Tensor], extent: Extent) -> Place:
        """See `Bias.at`."""
        slope, away = place_in(parts["slopes"]), _distance_at(parts, self.offset, extent)
        return lambda b, h, i, j: _falling(away(b, h, i, j), slope(b, h, i, j))


@dataclass(frozen=True, eq=False, repr=False)
class RelativeBias(Described, Bias):
    """Relative position bias of T5: learned for each head and bucket of distances (Raffel et al. 2020).

    Half of the buckets are for single distances; the others widen logarithmically up to `max_distance`, beyond which
    all share the last. Bidirectional, half of the buckets are for keys after the query.

    Args:
        table: (buckets, H), as T5 stores it.
        bidirectional: whether keys after the query have buckets of their own (encoder), or share that of distance 0.
        max_distance: from which distance on all are alike.
        offset: as for `Causal`: the position of query 0 among the keys; None aligns the ends.
    """

    table: Tensor
    bidirectional: bool = True
    max_distance: int = 128
    offset: int | Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.table, Tensor) or not self.table.is_floating_point():
            raise ArgumentError(
                f"RelativeBias: table must be a floating-point tensor (buckets, H), not {_kind(self.table)}"
            )
        if isinstance(self.max_distance, bool) or not isinstance(self.max_distance, int):
            raise ArgumentError(f"RelativeBias: max_distance must be an integer, not {self.max_distance!r}")
        object.__setattr__(self, "offset", checked_offset("RelativeBias", self.offset))

    def operands(self, extent: Extent) -> dict[str, Operand]:
        """See `Bias.operands`."""
        least = 4 if self.bidirectional else 2
        if self.table.ndim != 2 or self.table.shape[1] != extent.heads or self.table.shape[0] < least:
            raise ArgumentError(
                f"RelativeBias: table is {shape(self.table)}: expected (buckets, {extent.heads}) with {least} buckets "
                "or more"
            )
        if self.max_distance <= self.table.shape[0] // least:
            raise ArgumentError(
                f"RelativeBias: max_distance must be more than {self.table.shape[0] // least}, the distances with a "
                f"bucket of their own, not {self.max_distance}"
            )
        if self.table.device != extent.device:
            raise ArgumentError(f"RelativeBias: table is on {self.table.device}, queries and keys on {extent.device}")
        table = self.table.t()[None, :, :, None]  # (1, H, buckets, 1)
        return {"table": Operand(table, "head")} | _offset("RelativeBias", self.offset, extent)

    def block(self, parts: Mapping[str, Tensor], rows: slice, columns: slice, extent: Extent) -> Tensor:
        """See `Bias.block`."""
        table = parts["table"][0, :, :, 0]  # (H, buckets)
        if "offset" in parts or torch.compiler.is_compiling():  # which would keep the width of a window as a constant
            away = _distance(parts, self.offset, rows, columns, extent, table.device)[:, 0]  # (B or 1, rows, columns)
            return table[:, self._bucket(away, table.shape[1])].transpose(0, 1)  # (B, H, rows, columns)
        # one number for each diagonal, of which every row is a window
        offset = placed("", self.offset, extent)
        assert isinstance(offset, int)
        count = columns.stop - columns.start
        if not count or rows.stop == rows.start:
            return table.new_zeros(1, table.shape[0], rows.stop - rows.start, count)
        nearest = columns.start - (rows.stop - 1) - offset
        away = torch.arange(nearest, nearest + (rows.stop - rows.start) + count - 1, device=table.device)
        return windows(table[:, self._bucket(away, table.shape[1])], count)

    def at(self, parts: Mapping[str, Tensor], extent: Extent) -> Place:
        """See `Bias.at`."""
        table = parts["table"][0, :, :, 0]  # (H, buckets)
        away, most = _distance_at(parts, self.offset, extent), self.max_distance
        # looked up, since a logarithm that a generated kernel rounds otherwise could fall into the bucket beside
        bucket = self._bucket(torch.arange(-most, most + 1, device=table.device), table.shape[1])
        return lambda b, h, i, j: table[h, bucket[away(b, h, i, j).clamp(-most, most) + most]]

    def _bucket(self, away: Tensor, buckets: int) -> Tensor:
        """Bucket of distances j − p; as in Mesh TensorFlow's `_relative_position_bucket`."""
        bucket = torch.zeros_like(away)
        if self.bidirectional:
            buckets //= 2
            bucket = bucket + (away > 0).long() * buckets
            away = away.abs()
        else:
            away = (-away).clamp(min=0)
        single = buckets // 2
        ratio = math.log(self.max_distance / single)
        wide = single + ((away.clamp(min=1).float() / single).log() / ratio * (buckets - single)).long()
        return bucket + torch.where(away < single, away, wide.clamp(max=buckets - 1))


@dataclass(frozen=True, eq=False, repr=False)
class Diagonals(Described, Bias):
    """A bias that depends on the distance of query and key alone: one number for each head and diagonal.

    Args:
        values: (H, Q + K − 1): query i and key j get values[h, j − i + Q − 1].
    """

    values: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.values, Tensor) or not self.values.is_floating_point() or self.values.ndim != 2:
            raise ArgumentError(
                f"Diagonals: values must be a floating-point tensor (H, Q + K − 1), not {_kind(self.values)}"
            )

    def operands(self, extent: Extent) -> dict[str, Operand]:
        """See `Bias.operands`."""
        expected = (extent.heads, max(0, extent.queries + extent.keys - 1))
        if shape(self.values) != expected:
            raise ArgumentError(f"Diagonals: values are {shape(self.values)}: expected {expected}")
        if self.values.device != extent.device:
            raise ArgumentError(f"Diagonals: values are on {self.values.device}, queries and keys on {extent.device}")
        return {"values": Operand(self.values[None, :, :, None], "head")}  # (1, H, Q + K − 1, 1)

    def block(self, parts: Mapping[str, Tensor], rows: slice, columns: slice, extent: Extent) -> Tensor:
        """See `Bias.block`."""
        values = parts["values"][0, :, :, 0]
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        if not high or not wide:
            return values.new_zeros(1, values.shape[0], high, wide)
        first = columns.start - (rows.stop - 1) + extent.queries - 1
        return windows(values[:, first : first + high + wide - 1], wide)

    def at(self, parts: Mapping[str, Tensor], extent: Extent) -> Place:
        """See `Bias.at`."""
        values, last = parts["values"][0, :, :, 0], extent.queries - 1
        return lambda b, h, i, j: values[h, j - i + last]


@dataclass(frozen=True, eq=False, repr=False)
class GaussianFactor(Described, Factor):
    """exp(−(j − centre_i)² / (2 σ²)) (Luong et al. 2015, eq. 10, where σ is half the window's radius).

    Args:
        centre: positions among the keys, (Q,) or as the queries without their width, (…, Q).
        sigma: σ > 0, in keys.
    """

    centre: Tensor
    sigma: float

    def __post_init__(self) -> None:
        if not isinstance(self.centre, Tensor) or not self.centre.is_floating_point() or self.centre.ndim == 0:
            raise ArgumentError("GaussianFactor: centre must be a floating-point tensor (…, Q)")
        if isinstance(self.sigma, bool) or not isinstance(self.sigma, (int, float)) or not 0 < self.sigma < math.inf:
            raise ArgumentError(f"GaussianFactor: sigma must be a finite positive number, not {self.sigma!r}")

    def operands(self, extent: Extent) -> dict[str, Operand]:
        """See `Bias.operands`."""
        return {"centre": Operand(extent.column(self.centre, "GaussianFactor: centre"), "query")}

    def block(self, parts: Mapping[str, Tensor], rows: slice, columns: slice, extent: Extent) -> Tensor:
        """See `Bias.block`."""
        centre = parts["centre"]
        dtype = torch.promote_types(centre.dtype, torch.float32)
        j = torch.arange(columns.start, columns.stop, device=centre.device, dtype=dtype)
        return torch.exp((j - centre.to(dtype)).square() * (-0.5 / self.sigma**2))


def alibi_slopes(heads: int) -> list[float]:
    """The slopes of the paper, 2^(−8 h / H) for h from 1 to H.

    For other numbers of heads they are those of the next smaller power of two, and then every second one of the next
    larger, as in its authors' code.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (h + 1) / power) for h in range(power)]
    return slopes + [2.0 ** (-4.0 * (2 * h + 1) / power) for h in range(heads - power)]


def windows(diagonals: Tensor, columns: int) -> Tensor:
    """The block of which (H, rows + columns − 1) are the diagonals, from the lowest left one: (1, H, rows, columns)."""
    return diagonals.unfold(-1, columns, 1).flip(-2)[None]


def _kind(x: object) -> str:
    return str(x.dtype) if isinstance(x, Tensor) else type(x).__name__


def _per_head(name: str, x: Tensor, extent: Extent) -> Tensor:
    if x.numel() != extent.heads or not x.is_floating_point():
        raise ArgumentError(f"{name} are {shape(x)} {x.dtype}: expected one number for each of {extent.heads} heads")
    if x.device != extent.device:
        raise ArgumentError(f"{name} are on {x.device}, queries and keys on {extent.device}")
    return x


def _offset(owner: str, offset: int | Tensor | None, extent: Extent) -> dict[str, Operand]:
    """An offset for each batch element as an operand; an int needs none."""
    where = placed(f"{owner}: offset", offset, extent)
    return {} if isinstance(where, int) else {"offset": Operand(where, "query")}


def _distance(
    parts: Mapping[str, Tensor],
    offset: int | Tensor | None,
    rows: slice,
    columns: slice,
    extent: Extent,
    device: torch.device,
) -> Tensor:
    """j − (i + offset) of a block: (B or 1, 1, rows, columns), integers."""
    i = torch.arange(rows.start, rows.stop, device=device)[:, None]
    j = torch.arange(columns.start, columns.stop, device=device)
    where = parts["offset"] if "offset" in parts else placed("", offset, extent)
    return (j - i)[None, None] - where


def _distance_at(parts: Mapping[str, Tensor], offset: int | Tensor | None, extent: Extent) -> Place:
    """j − (i + offset) of a place."""
    if "offset" in parts:
        where = place_in(parts["offset"])
        return lambda b, h, i, j: j - i - where(b, h, i, j)
    shift = placed("", offset, extent)
    return lambda b, h, i, j: j - i - shift


def _falling(away: Tensor, slopes: Tensor) -> Tensor:
    """ALiBi of distances."""
    return away.abs().to(torch.promote_types(slopes.dtype, torch.float32)) * -slopes


def place_in(x: Tensor) -> Place:
    """The number of a table (B or 1, H or 1, Q or 1, K or 1) at a place; only axes that vary are indexed."""
    varied = [axis for axis in range(4) if x.shape[axis] != 1 and x.stride(axis) != 0]
    table = x[tuple(slice(None) if axis in varied else 0 for axis in range(4))]
    if not varied:  # indexed all the same, as a gradient asks for it
        one = table.reshape(1)
        return lambda b, h, i, j: one[b * 0]
    return lambda b, h, i, j: table[tuple((b, h, i, j)[axis] for axis in varied)]
