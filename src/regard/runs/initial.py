"""Starting a run from what another one has learned."""

from pathlib import Path

from torch import nn

from regard.runs.directory import CHECKPOINTS, WEIGHTS, load_weights_file
from regard.training import CheckpointStore, load_weights, load_weights_into


def load_initial(model: nn.Module, directory: Path) -> None:
    """Start a model from the weights of another run: its finished model, or its last checkpoint if it has none.

    Raises:
        CheckpointError: there are none, or they are of another model.
    """
    steps = CheckpointStore(directory / CHECKPOINTS).steps()
    if (directory / WEIGHTS).exists() or not steps:
        load_weights_file(directory / WEIGHTS, model)
    else:
        path = CheckpointStore(directory / CHECKPOINTS).path(steps[-1])
        load_weights_into(model, load_weights(path), path)
