"""The weights of each validation of a run, kept for those who look at how a model became what it is."""

import re
from pathlib import Path

from torch import nn

from regard.files import write_bytes
from regard.training import pack_weights

SNAPSHOTS = "snapshots"


def save_snapshot(directory: Path, step: int, model: nn.Module) -> None:
    """Write the weights of a model after a step of the run in `directory`."""
    path = snapshot_path(directory, step)
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, pack_weights(model.state_dict()))


def snapshot_path(directory: Path, step: int) -> Path:
    """The safetensors file of a step's weights."""
    return directory / SNAPSHOTS / f"step-{step:08}.safetensors"


def snapshot_steps(directory: Path) -> list[int]:
    """The steps whose weights were kept, in order."""
    names = (re.fullmatch(r"step-([0-9]{8,})\.safetensors", path.name) for path in (directory / SNAPSHOTS).glob("*"))
    return sorted(int(name[1]) for name in names if name)
