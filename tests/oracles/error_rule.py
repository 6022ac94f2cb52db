"""The error rule for kernels: at most twice the error of the plain computation in the same dtype."""

import torch
from torch import Tensor

# Units in the last place allowed beside the rule: on a few numbers the plain computation may be right by luck (one key
# has weight 1 exactly), and in float64 the oracle is no better itself. Half precision rounds once at the end.
UNITS = {torch.float16: 1, torch.bfloat16: 1, torch.float32: 8, torch.float64: 64}


def assert_as_accurate(name: str, got: Tensor, plain: Tensor, exact: Tensor, slack: float = 1.0) -> None:
    """Fail unless |got − exact| ≤ 2 · |plain − exact| + `UNITS`, in the largest of each.

    Args:
        name: what is compared, for the message.
        got: the result under test.
        plain: the plain computation in the dtype under test.
        exact: the same in float64; infinite places must be infinite in `got` too.
        slack: factor of `UNITS`.
    """
    assert got.shape == exact.shape, f"{name}: shape {tuple(got.shape)}, expected {tuple(exact.shape)}"
    infinite = exact.isinf()
    assert torch.equal(got.double()[infinite], exact[infinite]), f"{name}: infinite places differ"
    assert got[~infinite].isfinite().all(), f"{name}: not finite where it should be"
    if infinite.all():
        return
    difference = _largest(got, exact, infinite)
    unit = slack * UNITS[plain.dtype] * torch.finfo(plain.dtype).eps * max(1.0, float(exact[~infinite].abs().max()))
    limit = 2 * _largest(plain, exact, infinite) + unit
    assert difference <= limit, f"{name}: error {difference:.3g}, allowed {limit:.3g}"


def _largest(x: Tensor, exact: Tensor, infinite: Tensor) -> float:
    return float((x.detach().double() - exact)[~infinite].abs().max())
