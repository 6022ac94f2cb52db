"""Tensors as safetensors bytes, weights shared under several names included; and the average of several weights."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from regard.errors import ArgumentError, CheckpointError
from regard.training.store import read_checkpoint_file

WEIGHTS = "model.safetensors"
ALIASES = "aliases"


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Safetensors bytes of `tensors`, wherever they are; views and strided tensors are written in full."""
    return _serialise(tensors, {})


def unpack(content: bytes) -> dict[str, Tensor]:
    """The inverse of `pack`; the tensors are on the CPU."""
    return safetensors.torch.load(content)


def pack_weights(weights: Mapping[str, Tensor]) -> bytes:
    """Safetensors bytes of a `state_dict`. A tensor with several names (tied embeddings) is written once.

    The other names are in the header's metadata, under "aliases", as JSON {name: name it is stored under}: one entry,
    because the library writes several in an order that differs between processes, and equal weights must give equal
    bytes.
    """
    stored: dict[tuple[object, ...], str] = {}
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in weights.items():
        where = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        if tensor.numel() and where in stored:
            aliases[name] = stored[where]
        else:
            stored[where] = name
            kept[name] = tensor
    return _serialise(kept, {ALIASES: json.dumps(aliases)} if aliases else {})


def unpack_weights(content: bytes) -> dict[str, Tensor]:
    """The inverse of `pack_weights`: all names are there, those of a shared tensor with the same tensor."""
    weights = unpack(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    for name, target in json.loads(header.get("__metadata__", {}).get(ALIASES, "{}")).items():
        weights[name] = weights[target]
    return weights


def load_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The weights in the checkpoint directory `checkpoint`, verified, on the CPU.

    Raises:
        DamagedCheckpointError: the file is missing, truncated or altered.
        CheckpointError: there is no such checkpoint, or it is of a newer version.
    """
    return unpack_weights(read_checkpoint_file(checkpoint, WEIGHTS))


def average_checkpoints(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights of several checkpoints of one run (Vaswani et al. 2017, section 6.1).

    Sums are made in float64 and rounded once, to the weights' own dtype. Integer and boolean buffers are those of
    the last checkpoint. A tensor with several names stays one tensor.

    Args:
        paths: checkpoint directories, the last one last; at least one.

    Raises:
        ArgumentError: `paths` is empty.
        CheckpointError: one is missing or damaged, or has other names or shapes than the others.
    """
    if not paths:
        raise ArgumentError("paths is empty; expected at least one checkpoint to average")

    def parts() -> Iterator[dict[str, Tensor]]:
        first: dict[str, torch.Size] | None = None
        for path in paths:
            weights = load_weights(path)
            shapes = {name: tensor.shape for name, tensor in weights.items() if tensor.is_floating_point()}
            first = shapes if first is None else first
            if shapes != first:
                raise CheckpointError(f"{path}: names or shapes of its weights differ from those in {paths[0]}")
            yield weights

    return mean_weights(parts(), [1.0] * len(paths))


def mean_weights(parts: Iterable[dict[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of the weights of several models of one kind.

    Sums are made in float64 and rounded once, to the weights' own dtype. Integer and boolean buffers are those of
    the last model. A tensor with several names stays one tensor.

    Args:
        parts: the weights of each model, drawn one after the other, so that only one need be in memory.
        shares: how much each counts; only their proportions matter.
    """
    sums: dict[str, Tensor] = {}
    last: dict[str, Tensor] = {}
    for share, part in zip(shares, parts, strict=True):
        last = part
        for name, tensor in part.items():
            if tensor.is_floating_point():
                weighted = tensor.double() * share
                sums[name] = sums[name] + weighted if name in sums else weighted
    means: dict[tuple[object, ...], Tensor] = {}  # by the memory they stand for, so that tied weights stay tied
    result: dict[str, Tensor] = {}
    for name, tensor in last.items():
        if name in sums:
            where = (tensor.data_ptr(), tensor.shape, tensor.stride())
            result[name] = means.setdefault(where, (sums[name] / math.fsum(shares)).to(tensor.dtype))
        else:
            result[name] = tensor
    return result


def _serialise(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    seen: set[int] = set()
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        storage = own.untyped_storage()
        if storage.nbytes() != own.nbytes or storage.data_ptr() in seen:
            own = own.clone()  # safetensors refuses tensors that share memory
        seen.add(own.untyped_storage().data_ptr())
        whole[name] = own
    return safetensors.torch.save(
        whole, metadata or None
    )  # version 0.8 writes an invalid header for {} without tensors
