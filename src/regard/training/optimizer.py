"""AdamW for a model, and any optimizer's state as named tensors and plain numbers."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regard.errors import ArgumentError, CheckpointError
from regard.training.sharded import gathered, like

# Devices whose fused kernel updates all parameters in one pass. On the CPU it takes a quarter of the time or less.
FUSED_DEVICES = frozenset({"cpu", "cuda"})

# Not part of the result's definition: the schedule sets the rate at every step, the others choose an implementation.
FREE_OPTIONS = frozenset({"lr", "initial_lr", "fused", "foreach", "capturable", "params"})


def build_optimizer(
    model: nn.Module,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.98),
    weight_decay: float = 0.0,
    *,
    eps: float = 1e-9,
    exempt: Collection[str] = (),
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over the trainable parameters of `model`.

    Weight decay applies to matrices only. Biases and the gains of norms (fewer than two dimensions) are exempt, and so
    are the tables of `nn.Embedding` (name other tables in `exempt`): decay would shrink the rows of rare words, which
    seldom get a gradient, at every step. `betas` and `eps` default to the values of Vaswani et al. (2017), section 5.3.

    Args:
        model: what is trained; parameters without `requires_grad` are left out.
        lr: the learning rate; a schedule overwrites it at each step.
        betas: decay rates of the two moments.
        weight_decay: λ of the decoupled decay.
        eps: added to the root of the second moment.
        exempt: names of further parameters without decay.

    Raises:
        ArgumentError: nothing to train, or `exempt` names a parameter that does not exist.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise ArgumentError("model has no parameter with requires_grad; expected at least one")
    unknown = sorted(set(exempt) - {name for name, _ in model.named_parameters(remove_duplicate=False)})
    if unknown:
        raise ArgumentError(f"exempt names {unknown[0]!r}, which is not a parameter of the model")
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    named = {id(p) for name, p in model.named_parameters(remove_duplicate=False) if name in set(exempt)}
    free = {name for name, p in trainable.items() if p.dim() < 2 or id(p) in tables | named}
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trainable.items() if name not in free], "weight_decay": weight_decay},
        {"params": [p for name, p in trainable.items() if name in free], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in trainable.values())
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, eps=eps, fused=fused)


@dataclass(frozen=True)
class OptimizerState:
    """`optimizer.state_dict()` without pickle: tensors by name, and everything else as JSON values."""

    tensors: dict[str, Tensor]  # "<parameter index>.<entry>", for example "12.exp_avg"
    numbers: dict[str, Any]  # {"state": {"<parameter index>": {...}}, "groups": [{...}]}


def capture_optimizer(optimizer: torch.optim.Optimizer, keep: bool = True) -> OptimizerState:
    """The state of any optimizer whose state holds tensors and JSON values. The tensors are not copied.

    Tensors that are spread over processes are made whole, so all of them must call this together; those that don't
    `keep` the result get no tensors.
    """
    full = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, entries in sorted(full["state"].items()):  # one order in all processes, whatever the order on disk
        for key, value in sorted(entries.items()):
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = gathered(value.detach(), keep)
            else:
                plain.setdefault(str(index), {})[key] = value
    return OptimizerState(tensors, {"state": plain, "groups": _as_json(full["param_groups"])})


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: OptimizerState) -> None:
    """Put `saved` back, bit for bit, into an optimizer built with the same settings over the same parameters.

    Raises:
        CheckpointError: other parameter groups, or a setting (betas, weight decay, …) other than the saved one: going
            on with either value would silently be another run.
    """
    groups = optimizer.state_dict()["param_groups"]
    former = saved.numbers["groups"]
    if [len(g["params"]) for g in groups] != [len(g["params"]) for g in former]:
        raise CheckpointError(
            f"the checkpoint's optimizer has groups of {[len(g['params']) for g in former]} parameters, "
            f"this one of {[len(g['params']) for g in groups]}; expected the same model and optimizer"
        )
    for new, old in zip(_as_json(groups), former, strict=True):
        for key in sorted((new.keys() & old.keys()) - FREE_OPTIONS):  # another torch may know more
            if new.get(key) != old.get(key):
                raise CheckpointError(
                    f"the checkpoint was trained with {key} = {old.get(key)}, now it is {new.get(key)}; "
                    "keep the former value, or start a new run from these weights"
                )
    state: dict[int, dict[str, Any]] = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in saved.tensors.items():
        index, key = name.split(".", 1)
        own = tensor.clone()  # memory of its own, aligned as ever
        parameter = parameters[int(index)]
        state.setdefault(int(index), {})[key] = like(own, parameter) if own.shape == parameter.shape else own
    for number, entries in saved.numbers["state"].items():
        state.setdefault(int(number), {}).update(entries)
    for new, old in zip(groups, former, strict=True):
        new["lr"] = old["lr"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _as_json(value: Any) -> Any:
    """What `value` becomes on its way through JSON (tuples turn into lists), so that old and new can be compared."""
    return json.loads(json.dumps(value))
