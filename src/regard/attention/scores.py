"""Scores: how a query and a key become a number.

A score is a frozen dataclass of numbers and tensors. It says what it computes (`formula`, as in its paper), which of
three forms it has, and how queries and keys are brought into that form (`lift`). Parameters belong to layers. The
dispatcher reads the form and never asks which class a score is.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from regard.attention.describing import Described
from regard.attention.modes import readable
from regard.errors import ArgumentError

Form = Literal["inner", "additive", "factorised"]
"""How a score is made of lifted queries q' and keys k':

`inner`: scale · ⟨q', k'⟩; `additive`: Σ_d w_d · tanh(q'_d + k'_d); `factorised`: ln ⟨q', k'⟩ with q', k' ≥ 0, so that
the weights are proportional to ⟨q', k'⟩.
"""


class Lifted(NamedTuple):
    """Queries and keys in the form of their score.

    Attributes:
        q: (B, H, Q, ·).
        k: (B, G, K, ·), as wide as q.
        scale: factor of the inner product, > 0; torch's kernel for the CPU bars keys before it scales, so that a scale
            that isn't positive would let them through. 1 in the other forms.
        weight: w of the additive form, (1, H or 1, 1, ·); None in the others.
    """

    q: Tensor
    k: Tensor
    scale: float = 1.0
    weight: Tensor | None = None


class Score(ABC):
    """What a backend needs to know of a score."""

    form: Form

    @abstractmethod
    def formula(self, q: Tensor, k: Tensor) -> Tensor:
        """The definition, all pairs written out: queries (…, Q, D), keys (…, K, D) → scores (…, Q, K).

        With a parameter for each head, the axis before Q is that of the heads, in keys too.
        """

    @abstractmethod
    def lift(self, q: Tensor, k: Tensor) -> Lifted:
        """Bring queries (B, H, Q, D) and keys (B, G, K, D) into the form of the score.

        Raises:
            ArgumentError: they don't fit the score's parameters.
        """

    def check(self, q: Tensor, k: Tensor) -> None:
        """Raise `ArgumentError` unless the widths of q and k, in the caller's layout, suit the score."""
        if q.shape[-1] != k.shape[-1]:
            raise ArgumentError(f"q and k must have the same width: q is {tuple(q.shape)}, k is {tuple(k.shape)}")


@dataclass(frozen=True)
class Dot(Score):
    """Dot product: score(q, k) = ⟨q, k⟩ (Luong et al. 2015, eq. 8, "dot")."""

    form = "inner"

    def formula(self, q: Tensor, k: Tensor) -> Tensor:
        """See `Score.formula`."""
        return q @ k.transpose(-1, -2)

    def lift(self, q: Tensor, k: Tensor) -> Lifted:
        """q and k as they are."""
        return Lifted(q, k)


@dataclass(frozen=True)
class ScaledDot(Score):
    """Scaled dot product: score(q, k) = scale · ⟨q, k⟩ (Vaswani et al. 2017, eq. 1).

    Args:
        scale: the factor; None is 1/√D with D the head width.
    """

    scale: float | None = None
    form = "inner"

    def __post_init__(self) -> None:
        if self.scale is not None:
            check_number("ScaledDot: scale", self.scale)

    def formula(self, q: Tensor, k: Tensor) -> Tensor:
        """See `Score.formula`."""
        return q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if self.scale is None else self.scale)

    def lift(self, q: Tensor, k: Tensor) -> Lifted:
        """q and k as they are, with the scale."""
        return _scaled(q, k, q.shape[-1] ** -0.5 if self.scale is None else self.scale)


@dataclass(frozen=True)
class Cosine(Score):
    """Cosine of the angle: score(q, k) = scale · ⟨q, k⟩ / (‖q‖ · ‖k‖) (Graves et al. 2014, eq. 5–6, scale = β).

    A vector of zeros has score 0 with everything, and gradient 0.

    Args:
        scale: the factor, an inverse temperature.
    """

    scale: float = 1.0
    form = "inner"

    def __post_init__(self) -> None:
        check_number("Cosine: scale", self.scale)

    def formula(self, q: Tensor, k: Tensor) -> Tensor:
        """See `Score.formula`."""
        return self.scale * (_unit(q) @ _unit(k).transpose(-1, -2))

    def lift(self, q: Tensor, k: Tensor) -> Lifted:
        """q and k divided by their lengths."""
        return _scaled(_unit(q), _unit(k), self.scale)


@dataclass(frozen=True, eq=False, repr=False)
class General(Described, Score):
    """Bilinear: score(q, k) = qᵀ W k (Luong et al. 2015, eq. 8, "general").

    Args:
        weight: W, (Dq, Dk), or one for each head (H, Dq, Dk). q and k may have different widths.
    """

    weight: Tensor
    form = "inner"

    def check(self, q: Tensor, k: Tensor) -> None:
        """See `Score.check`: the widths are those of W."""
        if self.weight.ndim not in (2, 3) or (q.shape[-1], k.shape[-1]) != tuple(self.weight.shape[-2:]):
            raise ArgumentError(
                f"General: weight is {tuple(self.weight.shape)}, expected (Dq, Dk) or (H, Dq, Dk) for q "
                f"{tuple(q.shape)} and k {tuple(k.shape)}"
            )
        _check_parameter("General: weight", self.weight, q, None if self.weight.ndim == 2 else self.weight.shape[0])

    def formula(self, q: Tensor, k: Tensor) -> Tensor:
        """See `Score.formula`."""
        return q @ self.weight.to(q.dtype) @ k.transpose(-1, -2)

    def lift(self, q: Tensor, k: Tensor) -> Lifted:
        """q W and k."""
        return Lifted(q @ self.weight.to(q.dtype), k)


@dataclass(frozen=True)
class Gaussian(Score):
    """Gaussian kernel: score(q, k) = −‖q − k‖² / (2 σ²), the weights of Nadaraya (1964) and Watson (1964).

    Args:
        sigma: σ > 0, the width of the bell.
    """

    sigma: float = 1.0
    form = "inner"

    def __post_init__(self) -> None:
        check_number("Gaussian: sigma", self.sigma)
        if self.sigma <= 0:
            raise ArgumentError(f"Gaussian: sigma must be positive, not {self.sigma!r}")
        if not 1e-18 < self.sigma < 1e18:
            raise ArgumentError(f"Gaussian: sigma must be from 1e-18 to 1e18, not {self.sigma!r}")

    def formula(self, q: Tensor, k: Tensor) -> Tensor:
        """See `Score.formula`."""
        return (q[..., :, None, :] - k[..., None, :, :]).square().sum(-1) * (-0.5 / self.sigma**2)

    def lift(self, q: Tensor, k: Tensor) -> Lifted:
        """−‖q − k‖²/2 = ⟨(q, 1, 1, −‖q‖²/2), (k, −‖k‖²/2, 1)⟩, each norm as a sum of two numbers of its dtype.

        Both are moved so that the queries lie around 0, which changes no score: then the error is of order
        ε · (spread / σ)², wherever the data lie. In float16 norms beyond 512 are cut to it.
        """
        q, k = _around_queries(q, k)
        ones = q.new_ones(1).expand(*q.shape[:-1], 2), k.new_ones(1).expand(*k.shape[:-1], 2)
        return Lifted(
            torch.cat([q, ones[0], *_minus_half_norm(q)], -1),
            torch.cat([k, *_minus_half_norm(k), ones[1]], -1),
            self.sigma**-2,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Additive(Described, Score):
    """Additive: score(q, k) = Σ_d v_d · tanh(q_d + k_d) on projected q and k (Bahdanau et al. 2015, appendix A.1.2).

    Luong's concat, vᵀ tanh(W [q; k]), is the same with W split in two (Luong et al. 2015, eq. 8). With width 1 and
    v = 1 it is tanh(q + k).

    Args:
        v: (D,), or one for each head (H, D).
    """

    v: Tensor
    form = "additive"

    def check(self, q: Tensor, k: Tensor) -> None:
        """See `Score.check`: the widths are that of v."""
        super().check(q, k)
        if self.v.ndim not in (1, 2) or self.v.shape[-1] != q.shape[-1]:
            raise ArgumentError(f"Additive: v is {tuple(self.v.shape)}, expected (D,) or (H, D) for q {tuple(q.shape)}")
        _check_parameter("Additive: v", self.v, q, None if self.v.ndim == 1 else self.v.shape[0])

    def formula(self, q: Tensor, k: Tensor) -> Tensor:
        """See `Score.formula`."""
        v = self.v.to(q.dtype)
        pairs = torch.tanh(q[..., :, None, :] + k[..., None, :, :])  # (…, Q, K, D)
        return pairs @ v if v.ndim == 1 else (pairs * v[:, None, None, :]).sum(-1)

    def lift(self, q: Tensor, k: Tensor) -> Lifted:
        """q and k as they are, with v."""
        heads = 1 if self.v.ndim == 1 else self.v.shape[0]
        return Lifted(q, k, weight=self.v.view(1, heads, 1, -1))


@dataclass(frozen=True)
class Kernel(Score):
    """Kernel (linear) attention: weights proportional to ⟨φ(q), φ(k)⟩, φ ≥ 0 (Katharopoulos et al. 2020, eq. 4).

    The score is ln ⟨φ(q), φ(k)⟩; where the product is 0 the key counts as masked.

    Args:
        feature: φ: "elu+1" (eq. 7), "relu", or a function of (…, D) to (…, F) that is never negative.
    """

    feature: Literal["elu+1", "relu"] | Callable[[Tensor], Tensor] = "elu+1"
    form = "factorised"

    def __post_init__(self) -> None:
        if isinstance(self.feature, str) and self.feature not in FEATURES:
            raise ArgumentError(
                f"Kernel: feature must be one of {', '.join(FEATURES)} or a function, not {self.feature!r}"
            )
        if not isinstance(self.feature, str) and not callable(self.feature):
            raise ArgumentError(f"Kernel: feature must be a name or a function, not {type(self.feature).__name__}")

    def formula(self, q: Tensor, k: Tensor) -> Tensor:
        """See `Score.formula`; −∞ where the product is 0."""
        return (self._map("q", q) @ self._map("k", k).transpose(-1, -2)).log()

    def lift(self, q: Tensor, k: Tensor) -> Lifted:
        """φ(q) and φ(k)."""
        return Lifted(self._map("q", q), self._map("k", k))

    def _map(self, name: str, x: Tensor) -> Tensor:
        y = FEATURES[self.feature](x) if isinstance(self.feature, str) else self.feature(x)
        if y.shape[:-1] != x.shape[:-1] or y.shape[-1] == 0:
            raise ArgumentError(
                f"Kernel: feature makes {tuple(y.shape)} of {name} {tuple(x.shape)}: expected (…, F) with F ≥ 1"
            )
        if not isinstance(self.feature, str) and readable(y) and y.numel() and bool(y.detach().amin() < 0.0):
            raise ArgumentError(f"Kernel: feature makes negative numbers of {name}; it must be 0 or more")
        return y


FEATURES: dict[str, Callable[[Tensor], Tensor]] = {"elu+1": lambda x: _elu_plus_one(x), "relu": torch.relu}
"""Feature maps that a `Kernel` knows by name."""


def _elu_plus_one(x: Tensor) -> Tensor:
    # (eˣ − 1) + 1 as it stands loses all digits of a small eˣ
    return torch.where(x > 0.0, x + 1.0, x.clamp(max=0.0).exp())


EXAMPLES: dict[str, Callable[[int, int, torch.Generator | None], Score]] = {
    "dot": lambda heads, width, generator: Dot(),
    "scaled dot": lambda heads, width, generator: ScaledDot(),
    "cosine": lambda heads, width, generator: Cosine(4.0),
    "general": lambda heads, width, generator: General(_draw(generator, width, width) / width),
    "gaussian": lambda heads, width, generator: Gaussian(width**0.5),
    "additive": lambda heads, width, generator: Additive(_draw(generator, width) / width**0.5),
    "kernel elu+1": lambda heads, width, generator: Kernel("elu+1"),
    "kernel relu": lambda heads, width, generator: Kernel("relu"),
}
"""One of each score for given heads and head width: what the tests, the support table and the benchmark go through."""


def check_number(name: str, x: object) -> None:
    """Raise `ArgumentError` unless x is a finite real number."""
    if isinstance(x, bool) or not (isinstance(x, (int, float)) and -math.inf < x < math.inf):
        raise ArgumentError(f"{name} must be a finite number, not {x!r}")


def _scaled(q: Tensor, k: Tensor, scale: float) -> Lifted:
    """The sign of a scale, or its being 0, goes into q."""
    if scale > 0:
        return Lifted(q, k, scale)
    return Lifted(-q, k, -scale) if scale < 0 else Lifted(q * 0.0, k)


def _unit(x: Tensor) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    # scaled first, so that the squares of large numbers don't overflow and those of small ones don't vanish
    peak = wide.detach().abs().amax(-1, keepdim=True)
    wide = wide / torch.where(peak == 0.0, 1.0, peak)
    length = wide.norm(dim=-1, keepdim=True)
    return (wide / torch.where(length == 0.0, 1.0, length)).to(x.dtype)


def _around_queries(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """q (B, H, Q, D) and k (B, G, K, D) less the mean of the queries that read a key head."""
    batch, heads, queries, width = q.shape
    groups = k.shape[1]
    if queries == 0:
        return q, k
    folded = q.detach().reshape(batch, groups, heads // groups * queries, width)
    centre = folded.mean(2, keepdim=True, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype)
    centre = torch.where(centre.isfinite(), centre, 0.0)  # a query that is no number must not reach the others
    return q - centre.repeat_interleave(heads // groups, 1), k - centre


def _minus_half_norm(x: Tensor) -> tuple[Tensor, Tensor]:
    """−‖x‖²/2, (…, 1), as the sum of two numbers of x's dtype: one alone would be rounded to ε times its size."""
    exact = x.double().square().sum(-1, keepdim=True) * -0.5
    limit = torch.finfo(x.dtype).max
    high = exact.detach().clamp(-limit, limit).to(x.dtype)
    return high, (exact - high.double()).clamp(-limit, limit).to(x.dtype)  # the gradient flows through the second


def _check_parameter(name: str, parameter: Tensor, q: Tensor, heads: int | None) -> None:
    if parameter.device != q.device:
        raise ArgumentError(f"{name} is on {parameter.device}, queries and keys are on {q.device}")
    if not parameter.is_floating_point():
        raise ArgumentError(f"{name} is {parameter.dtype}: expected floating point")
    present = q.shape[-3] if q.ndim >= 4 else 1
    if heads is not None and heads not in (1, present):
        raise ArgumentError(f"{name} has {heads} heads, q has {present}")


def _draw(generator: torch.Generator | None, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)
