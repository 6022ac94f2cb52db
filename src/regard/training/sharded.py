"""Tensors that are spread over processes (FSDP2's `DTensor`), made whole and spread again; others pass through."""

from collections.abc import Mapping

import torch.distributed as dist
from torch import Tensor, nn


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor, in every process; all processes must call this together. A plain tensor is itself."""
    if not dist.is_initialized():  # before the import, which takes a third of a second
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, example: Tensor) -> Tensor:
    """`tensor`, the same in every process, spread as `example` is; unchanged where that is a plain tensor."""
    if not dist.is_initialized():
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(example, DTensor):
        return tensor
    # from its own copy: nothing is sent
    own = tensor.to(example.device)
    return distribute_tensor(own, example.device_mesh, example.placements, src_data_rank=None)


def whole_state(model: nn.Module, keep: bool = True) -> dict[str, Tensor]:
    """`model.state_dict()` with whole tensors; a parameter with several names stays one tensor.

    What was spread is brought together one tensor after the other, and lies on the CPU then. All processes must call
    this together.

    Args:
        model: its weights may be spread.
        keep: whether this process wants them; others get nothing, and have no room for more than one tensor.
    """
    owner = {name: id(parameter) for name, parameter in model.named_parameters(remove_duplicate=False)}
    made: dict[int, Tensor] = {}
    result: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        key = owner.get(name, id(tensor))
        if key not in made:
            made[key] = gathered(tensor.detach(), keep)
        if keep:
            result[name] = made[key]
    return result


def gathered(tensor: Tensor, keep: bool) -> Tensor:
    """A spread tensor, whole, on the CPU where it is wanted and gone elsewhere; a plain one is itself."""
    full = whole(tensor)
    if full is tensor:
        return tensor
    return full.cpu() if keep else full.new_empty(0)


def load_whole(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put whole tensors into a model whose own may be spread."""
    model.load_state_dict({name: like(weights[name], tensor) for name, tensor in model.state_dict().items()})
