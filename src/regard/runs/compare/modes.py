"""Looking at a model without changing it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def kept_mode(model: nn.Module) -> Iterator[None]:
    """Each part of the model is afterwards in training or evaluation as before, whatever the block puts it into."""
    before = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
