"""Watching models of Hugging Face transformers."""

from collections.abc import Collection, Mapping

from torch import nn

from regard.errors import UnsupportedError
from regard.insight.tokens import Role
from regard.interop.watching import Observer


class HuggingFaceModel:
    """A model of Hugging Face transformers."""

    def __init__(self, model: nn.Module) -> None:
        raise UnsupportedError("Hugging Face models: not built yet")

    @property
    def roles(self) -> Mapping[str, Role]:
        """See `Source.roles`."""
        return {}

    def open(self, names: Collection[str], observer: Observer) -> None:
        """See `Source.open`."""

    def close(self) -> None:
        """See `Source.close`."""
