"""Kernels of additive scores: Σ_d w_d · tanh(q_d + k_d) of all pairs of rows and keys, in tiles.

With x = e²ᵃ, y = e²ᵇ it is tanh(a + b) = 1 − 2 / (1 + x y); with x = tanh a, y = tanh b it is (x + y) / (1 + x y). Both
need a transcendental function per row and per key only, where the definition needs one per pair. The first would
overflow at large numbers and is wrong by ε at small ones; the second is exact at small ones and useless at large ones.

A kernel makes z, a function of tanh, from what it has prepared of rows (N, R, D) and keys (N, K, D).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Numbers of a tile, 4 MiB in float32, and its keys.
TILE = 1 << 20
TILE_KEYS = 128
# On a graphics processor a tile must be worth its start.
DEVICE_TILE = 1 << 24


class Sums(NamedTuple):
    """Where the sums over pairs go that make the gradients.

    Attributes:
        rows: Σ_j g_ij · slope_ijd, (N, R, D).
        keys: Σ_i g_ij · slope_ijd, (N, K, D).
        values: Σ_ij g_ij · centred_ijd, (D,).
    """

    rows: Tensor
    keys: Tensor
    values: Tensor


class Kernel(ABC):
    """A way to make tanh(a + b) of all pairs: tanh = shift + gain · z.

    Attributes:
        shift, gain: those numbers.
        steepness: the derivative of tanh is steepness · slope.
    """

    shift: float
    gain: float
    steepness: float

    @abstractmethod
    def prepare(self, x: Tensor, signs: Tensor) -> Tensor:
        """What `pairs` takes of rows or keys (…, D), each dimension with its sign (D,)."""

    @abstractmethod
    def pairs(self, a: Tensor, b: Tensor, z: Tensor, spare: Tensor) -> None:
        """Write z (N, R, K, D) from prepared rows (N, R, 1, D) and keys (N, 1, K, D); `spare` is as large."""

    @abstractmethod
    def differentiate(self, z: Tensor, slope: Tensor) -> None:
        """Write the slope, and centre z in place, so that tanh = gain · z."""

    def scores(self, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        """Σ_d weight_d · z_ijd of prepared rows (N, R, D) and keys (N, K, D) → (N, R, K)."""
        out = a.new_empty(a.shape[0], a.shape[1], b.shape[1])
        work = _Work(a, b)
        for n, r, k in work.tiles:
            z, spare = work.buffers(n, r, k)
            self.pairs(a[n, r, None], b[n, None, k], z, spare)
            out[n, r, k] = torch.mv(z.view(-1, z.shape[-1]), weight).view(z.shape[:-1])
        return out

    def add_sums(self, a: Tensor, b: Tensor, grad: Tensor, factor: Tensor, sums: Sums) -> None:
        """Add the sums of prepared rows and keys and gradients (N, R, K), those of slopes times factor (D,)."""
        work = _Work(a, b)
        for n, r, k in work.tiles:
            z, slope = work.buffers(n, r, k)
            g = grad[n, r, k]
            self.pairs(a[n, r, None], b[n, None, k], z, slope)
            self.differentiate(z, slope)
            sums.values.addmv_(z.view(-1, z.shape[-1]).t(), g.reshape(-1))
            slope.mul_(g[..., None])
            sums.rows[n, r].addcmul_(_sum(slope, 2), factor)
            sums.keys[n, k].addcmul_(_sum(slope, 1), factor)


class Direct(Kernel):
    """z = σ(−2 (a + b)), the logistic function, for any numbers."""

    shift, gain, steepness = 1.0, -2.0, 4.0

    def prepare(self, x: Tensor, signs: Tensor) -> Tensor:
        """−2 x."""
        return x * (-2.0 * signs)

    def pairs(self, a: Tensor, b: Tensor, z: Tensor, spare: Tensor) -> None:
        """See `Kernel.pairs`."""
        torch.add(a, b, out=z)
        z.sigmoid_()

    def differentiate(self, z: Tensor, slope: Tensor) -> None:
        """¼ − (z − ½)², a quarter of the derivative."""
        z.sub_(0.5)
        torch.addcmul(z.new_full((), 0.25), z, z, value=-1.0, out=slope)


class Logistic(Direct):
    """z = 1 / (1 + e²ᵃ · e²ᵇ), which is the same, for |a| and |b| up to `limit`."""

    @staticmethod
    def limit(dtype: torch.dtype) -> float:
        """Up to here e^±2x are normal numbers: products of them may be 0 or ∞, which is right, but not NaN."""
        return 43.0 if dtype == torch.float32 else 350.0

    def prepare(self, x: Tensor, signs: Tensor) -> Tensor:
        """e²ˣ."""
        return (x * (2.0 * signs)).exp_()

    def pairs(self, a: Tensor, b: Tensor, z: Tensor, spare: Tensor) -> None:
        """See `Kernel.pairs`."""
        torch.mul(a, b, out=z)
        z.add_(1.0).reciprocal_()


class Definition(Kernel):
    """z = tanh(a + b), for any numbers."""

    shift, gain, steepness = 0.0, 1.0, 1.0

    def prepare(self, x: Tensor, signs: Tensor) -> Tensor:
        """x itself."""
        return x * signs

    def pairs(self, a: Tensor, b: Tensor, z: Tensor, spare: Tensor) -> None:
        """See `Kernel.pairs`."""
        torch.add(a, b, out=z)
        z.tanh_()

    def differentiate(self, z: Tensor, slope: Tensor) -> None:
        """1 − z², the derivative."""
        torch.addcmul(z.new_ones(()), z, z, value=-1.0, out=slope)


class Addition(Definition):
    """z = (x + y) / (1 + x y) with x = tanh a, y = tanh b, which is the same, for |a| and |b| up to `limit`."""

    limit = 0.5

    def prepare(self, x: Tensor, signs: Tensor) -> Tensor:
        """tanh x."""
        return (x * signs).tanh_()

    def pairs(self, a: Tensor, b: Tensor, z: Tensor, spare: Tensor) -> None:
        """See `Kernel.pairs`."""
        torch.mul(a, b, out=spare)
        torch.add(a, b, out=z)
        z.div_(spare.add_(1.0))


class _Work:
    """Tiles of the pairs of rows and keys, and the two buffers that serve all of them."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self._sizes = (a.shape[0], a.shape[1], b.shape[1], a.shape[2])
        units, rows, keys, width = (max(1, x) for x in self._sizes)
        tile = TILE if a.device.type == "cpu" else DEVICE_TILE
        # more keys than rows in a tile, as rows are summed up more slowly; all that fit where there are few rows
        self._keys = min(keys, max(1, min(max(TILE_KEYS, tile // (rows * width)), tile // width)))
        self._rows = min(rows, max(1, tile // (self._keys * width)))
        whole = self._keys == keys and self._rows == rows
        self._units = min(units, max(1, tile // (rows * keys * width))) if whole else 1
        size = self._units * self._rows * self._keys * width
        self._buffers = a.new_empty(size), a.new_empty(size)

    @property
    def tiles(self) -> Iterator[tuple[slice, slice, slice]]:
        """Slices of units, rows and keys."""
        units, rows, keys, width = self._sizes
        if width == 0:
            return
        for n in range(0, units, self._units):
            for r in range(0, rows, self._rows):
                for k in range(0, keys, self._keys):
                    yield (
                        slice(n, min(n + self._units, units)),
                        slice(r, min(r + self._rows, rows)),
                        slice(k, min(k + self._keys, keys)),
                    )

    def buffers(self, n: slice, r: slice, k: slice) -> tuple[Tensor, Tensor]:
        """Two buffers (N, R, K, D) for a tile."""
        shape = (n.stop - n.start, r.stop - r.start, k.stop - k.start, self._sizes[-1])
        count = shape[0] * shape[1] * shape[2] * shape[3]
        first, second = (x[:count].view(shape) for x in self._buffers)
        return first, second


def _sum(x: Tensor, axis: int) -> Tensor:
    """torch takes as long for a sum of one as for many."""
    return x.select(axis, 0) if x.shape[axis] == 1 else x.sum(axis)
