"""The weights of a Hugging Face directory, read one by one from its safetensors files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor

from regard.errors import CheckpointError
from regard.interop.huggingface.directory import CONFIG, check_weights, read_object

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
HALF = ("F16", "BF16")


class Stored:
    """The weights of a directory: names at once, tensors when they are asked for.

    Attributes:
        where: the file, for messages.
        config: the file that says what the weights should be, for messages.
        names: of all weights.
    """

    def __init__(self, directory: Path, architecture: str) -> None:
        """Open the files.

        Args:
            directory: of the model.
            architecture: what config.json calls the model's class, for the command that converts pickled weights.

        Raises:
            CheckpointError: there are none, they are pickled, damaged or incomplete.
        """
        check_weights(directory, architecture)
        self.config = CONFIG
        self.where = directory / WEIGHTS
        if not self.where.exists():
            self.where = directory / INDEX
        files = [self.where] if self.where.name == WEIGHTS else _shards(self.where)
        self._files: dict[str, tuple[Any, str]] = {}
        for file in files:
            opened = _opened(file)
            for name in opened.keys():  # noqa: SIM118 - no mapping
                self._files[name] = (opened, name)
        if self.where.name == INDEX:
            listed = set(read_object(self.where)["weight_map"])
            if listed != self._files.keys():
                odd = sorted(listed ^ self._files.keys())[0]
                raise CheckpointError(f"{self.where}: {odd} is in the index or in a file of it, but not in both")

    @property
    def names(self) -> set[str]:
        """The names of all weights."""
        return set(self._files)

    def rename(self, change: Callable[[str], str]) -> None:
        """Call the weights otherwise from here on.

        Raises:
            CheckpointError: two get the same name.
        """
        renamed = {change(name): place for name, place in self._files.items()}
        if len(renamed) < len(self._files):
            raise CheckpointError(f"{self.where}: two of its weights have the same place in the model")
        self._files = renamed

    def read(self, name: str) -> Tensor:
        """A weight, float32, on the CPU.

        Raises:
            CheckpointError: it isn't made of numbers with a fraction, or is damaged.
        """
        file, stored = self._files[name]
        try:
            tensor: Tensor = file.get_tensor(stored)
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(f"{self.where}: {name} can't be read ({error})") from error
        if not tensor.is_floating_point() or tensor.element_size() == 1:
            raise CheckpointError(f"{self.where}: {name} is {tensor.dtype}; quantised weights are not supported")
        return tensor.to(torch.float32)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a weight."""
        file, stored = self._files[name]
        return tuple(file.get_slice(stored).get_shape())

    def half(self, name: str) -> bool:
        """Whether a weight is stored in half precision."""
        file, stored = self._files[name]
        return file.get_slice(stored).get_dtype() in HALF


def _shards(index: Path) -> list[Path]:
    """The files that an index names, which lie beside it."""
    mapped = read_object(index).get("weight_map")
    if not isinstance(mapped, dict) or not all(isinstance(file, str) for file in mapped.values()):
        raise CheckpointError(f"{index}: it has no weight_map of names to files")
    files = [index.parent / file for file in sorted(set(mapped.values()))]
    for file in files:
        if file.parent != index.parent or file.suffix != ".safetensors":
            raise CheckpointError(f"{index}: it names {file.name}, which is no safetensors file beside it")
        if not file.exists():
            raise CheckpointError(f"{index}: {file.name}, which it names, is missing")
    return files


def _opened(file: Path) -> Any:
    try:
        return safetensors.safe_open(file, "pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file}: damaged or not safetensors ({error})") from error
