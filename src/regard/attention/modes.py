"""In which mode of torch a call is made: compiled, inside a transform of torch.func, in forward mode.

torch says so by private names only. Where one of them is missing, every call counts as transformed: it is then made of
torch's differentiable operators alone and no number is looked at, which is right everywhere, only slower.
"""

import torch
from torch import Tensor
from torch.autograd import forward_ad

KNOWN: bool
"""Whether this torch has the names that tell."""

try:
    from torch._C import _are_functorch_transforms_active as _active
    from torch._C._functorch import TransformType, get_interpreter_stack, is_functorch_wrapped_tensor

    KNOWN = isinstance(forward_ad._current_level, int)
except (ImportError, AttributeError):  # pragma: no cover - another torch
    KNOWN = False


def transformed() -> bool:
    """Whether a transform of torch.func, or differentiation in forward mode, is at work.

    Then a call is made of torch's differentiable operators alone: private ones and functions with a backward pass of
    their own don't take part.
    """
    return not KNOWN or _active() or forward_ad._current_level >= 0


def differentiated_further() -> bool:
    """Whether more than a first derivative in reverse mode is taken by torch.func, or any in forward mode."""
    if not KNOWN or forward_ad._current_level >= 0:
        return True
    if not _active():
        return False
    return sum(level.key() == TransformType.Grad for level in get_interpreter_stack() or ()) > 1


def readable(x: Tensor) -> bool:
    """Whether numbers of x may be looked at without a wait: on the CPU, not in compilation or functional transforms."""
    return KNOWN and x.is_cpu and not torch.compiler.is_compiling() and not is_functorch_wrapped_tensor(x)
