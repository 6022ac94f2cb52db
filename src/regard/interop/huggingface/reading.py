"""What a Hugging Face model is fed: its sequences, and the steps of `generate`."""

from torch import nn

from regard.interop.watching import Observer


class Reading:
    """Tells an observer what a model of transformers reads, and how its generation goes on."""

    def __init__(self, model: nn.Module, observer: Observer) -> None:
        self._model, self._observer = model, observer

    def open(self) -> None:
        """Begin to watch."""

    def close(self) -> None:
        """Leave the model, and transformers, as they were found."""
