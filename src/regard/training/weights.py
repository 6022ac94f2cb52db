"""Tensors as safetensors bytes, weights shared under several names included; and the average of several weights."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
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
    sums: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for path in paths:
        weights = load_weights(path)
        floats = {name: tensor for name, tensor in weights.items() if tensor.is_floating_point()}
        if sums and {n: t.shape for n, t in floats.items()} != {n: t.shape for n, t in sums.items()}:
            raise CheckpointError(f"{path}: names or shapes of its weights differ from those in {paths[0]}")
        for name, tensor in floats.items():
            sums[name] = sums[name] + tensor.double() if name in sums else tensor.double()
    means: dict[int, Tensor] = {}  # by the tensor they stand for, so that tied weights stay tied
    result: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name in sums:
            mean = means.setdefault(id(tensor), (sums[name] / len(paths)).to(tensor.dtype))
            result[name] = mean
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
