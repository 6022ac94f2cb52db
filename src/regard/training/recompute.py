"""Gradient checkpointing: memory for time."""

from collections.abc import Iterable
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(layers: Iterable[nn.Module]) -> None:
    """Let each layer keep only its inputs for the backward pass, and be computed again there (Chen et al. 2016).

    Results, gradients and drawn random numbers stay the same. Memory for activations falls from all that layers keep
    to their inputs and one layer's insides; a step computes every layer's forward pass twice. Names of parameters
    don't change.

    Args:
        layers: modules whose `forward` returns tensors; changed in place.
    """
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
