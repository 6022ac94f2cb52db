"""The additive kernel compiled: the same formula in one fused loop each for scores, rows and keys."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from regard.attention.additive import active
from regard.attention.additive_kernels import Logistic, Sums
from regard.errors import UnsupportedError

# Units of so many numbers are worth a call each; smaller ones are done together.
LARGE = 1 << 18


def compile_kernels() -> "CompiledKernels":
    """From now on additive scores in float32 on the CPU are made by compiled code, forward and backward.

    The first call of a process compiles, which takes 10 to 30 seconds, or a few from torch's cache on disk; then all
    lengths and widths run without compiling again. It holds for the process, or within a `with` statement:
    `with compile_kernels(): ...`. Results differ from the usual ones by rounding.

    Raises:
        UnsupportedError: torch can't compile here, for instance without a C++ compiler.
    """
    return CompiledKernels()


class CompiledKernels:
    """What `compile_kernels` has set up; leaving its `with` statement, or `undo`, takes it back."""

    def __init__(self) -> None:
        self._before = active.logistic
        active.logistic = _compiled()

    def undo(self) -> None:
        """Back to the kernel of before."""
        active.logistic = self._before

    def __enter__(self) -> "CompiledKernels":
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()


def _scores(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    return (_pairs(a, b) * weight).sum(-1)


def _sums_of_rows(a: Tensor, b: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    centred = _pairs(a, b) - 0.5
    return ((0.25 - centred * centred) * grad[..., None]).sum(-2), (centred * grad[..., None]).sum(-2)


def _sums_of_keys(a: Tensor, b: Tensor, grad: Tensor) -> Tensor:
    centred = _pairs(a, b) - 0.5
    return ((0.25 - centred * centred) * grad[..., None]).sum(-3)


def _pairs(a: Tensor, b: Tensor) -> Tensor:
    return 1.0 / (1.0 + a[..., :, None, :] * b[..., None, :, :])


class _Compiled(Logistic):
    """`Logistic` with compiled loops where they apply."""

    def __init__(self) -> None:
        # any shape: what is compiled for two axes serves one unit, what is compiled for three serves several
        self._scores: Callable[..., Tensor] = torch.compile(_scores, dynamic=True)
        self._rows: Callable[..., tuple[Tensor, Tensor]] = torch.compile(_sums_of_rows, dynamic=True)
        self._keys: Callable[..., Tensor] = torch.compile(_sums_of_keys, dynamic=True)

    def scores(self, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        """See `Kernel.scores`."""
        if not _applies(a, b):
            return super().scores(a, b, weight)
        with _same_state():
            weight = weight.clone()
            if _one_by_one(a, b):
                return torch.stack([self._scores(*map(_fresh, pair), weight) for pair in zip(a, b, strict=True)])
            return self._scores(_fresh(a), _fresh(b), weight)

    def add_sums(self, a: Tensor, b: Tensor, grad: Tensor, factor: Tensor, sums: Sums) -> None:
        """See `Kernel.add_sums`."""
        if not _applies(a, b):
            super().add_sums(a, b, grad, factor, sums)
            return
        with _same_state():
            if not _one_by_one(a, b):
                self._add(a, b, grad, factor, sums)
                return
            for x, y, g, rows, keys in zip(a, b, grad, sums.rows, sums.keys, strict=True):
                self._add(x, y, g, factor, Sums(rows, keys, sums.values))

    def _add(self, a: Tensor, b: Tensor, grad: Tensor, factor: Tensor, sums: Sums) -> None:
        a, b, grad = map(_fresh, (a, b, grad))
        of_rows, of_values = self._rows(a, b, grad)
        sums.rows.addcmul_(of_rows, factor)
        sums.keys.addcmul_(self._keys(a, b, grad), factor)
        sums.values.add_(of_values.flatten(0, -2).sum(0))


@contextmanager
def _same_state() -> Iterator[None]:
    """Compiled code is bound to the modes in which it was made."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _fresh(x: Tensor) -> Tensor:
    """A copy, small beside all pairs: compiled code is bound to the shape of a view's base."""
    return x.clone(memory_format=torch.contiguous_format)


def _applies(a: Tensor, b: Tensor) -> bool:
    """Sizes of 1, other dtypes and devices would each be compiled for."""
    return a.dtype == torch.float32 and a.device.type == "cpu" and min(*a.shape[1:], b.shape[1]) > 1


def _one_by_one(a: Tensor, b: Tensor) -> bool:
    return a.shape[0] == 1 or a[0].numel() * b.shape[1] >= LARGE


_kept: list[_Compiled] = []


def _compiled() -> _Compiled:
    """The compiled kernel, made at its first use and tried on a small case."""
    if not _kept:
        kernel = _Compiled()
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator) + 0.5

        try:
            with _same_state():
                # sizes that differ, as equal ones would count as equal for ever, and large enough for threads
                for units, large in ((1, 97), (67, 13)):
                    a, b, weight, grad = (
                        draw(units, large, 101),
                        draw(units, 59, 101),
                        draw(101),
                        draw(units, large, 59),
                    )
                    sums = Sums(torch.zeros_like(a), torch.zeros_like(b), torch.zeros_like(weight))
                    torch.testing.assert_close(kernel.scores(a, b, weight), Logistic().scores(a, b, weight))
                    kernel.add_sums(a, b, grad, weight, sums)
        except RuntimeError as error:
            raise UnsupportedError(
                f"compile_kernels: torch.compile fails here, and additive scores work without it: {error}"
            ) from error
        _kept.append(kernel)
    return _kept[0]
