"""From a module to the file of an ONNX graph whose axes have names instead of the sizes of the example."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from regard.interop.exported import library

OPSET: Final = 18
NEXT: Final = "next."
"""Stands before the name of a tensor of the state as a step leaves it."""
NEEDED: Final = ("onnx", "onnxscript")


@dataclass(frozen=True)
class Place:
    """A tensor that a graph takes or gives.

    Attributes:
        name: of the tensor.
        example: as it may be; a graph is made while examples go through its module. An axis with a name is 2 or more.
        axes: of each axis its name, or None where every tensor has the size of the example's.
    """

    name: str
    example: Tensor
    axes: tuple[str | None, ...]

    def describe(self) -> dict[str, Any]:
        """Plain values for config.json: name, type and axes; an axis without a name by its size."""
        axes = [size if axis is None else axis for axis, size in zip(self.axes, self.example.shape, strict=True)]
        return {"name": self.name, "type": str(self.example.dtype).removeprefix("torch."), "axes": axes}


@dataclass(frozen=True)
class Graph:
    """A module to be exported.

    Attributes:
        module: `forward(*tensors)` takes those of `inputs` in this order and gives a tuple of those of `outputs`.
        inputs: what it takes.
        outputs: the names of what it gives.
        most: the largest size of an axis, by its name, where there is one.
    """

    module: nn.Module
    inputs: Sequence[Place]
    outputs: Sequence[str]
    most: Mapping[str, int] = field(default_factory=dict)


def check_libraries() -> None:
    """Refuse to begin where something is missing.

    Raises:
        MissingExtraError: the extra `onnx` is not installed.
    """
    for name in NEEDED:
        library(name, "onnx", "writing ONNX graphs")


def write_graph(path: Path, graph: Graph) -> None:
    """Write a graph with its weights; those of a model too large for one file lie beside it, in `<path>.data`.

    Args:
        path: ends with .onnx.
        graph: what to write.

    Raises:
        MissingExtraError: the extra `onnx` is not installed.
    """
    check_libraries()
    names = {axis for place in graph.inputs for axis in place.axes if axis is not None}
    sizes: dict[str, Any] = {name: torch.export.Dim(name, max=graph.most.get(name)) for name in names}
    axes = tuple({at: sizes[name] for at, name in enumerate(place.axes) if name is not None} for place in graph.inputs)
    with torch.no_grad(), _quiet():
        program = torch.export.export(
            graph.module.eval(),
            tuple(place.example for place in graph.inputs),
            dynamic_shapes=(axes,),
            strict=False,
            # that all sizes are right, torch can't always prove; a graph has no checks in the end
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        made: Any = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=[place.name for place in graph.inputs],
            output_names=list(graph.outputs),
            verbose=False,
        )
        _tidy(made.model.graph, graph)
        made.save(str(path))


def _tidy(made: Any, graph: Graph) -> None:
    """Give axes their names, which torch calls s0, s1, …, and leave out from which line of which file a node is."""
    names = {}
    for given, place in zip(made.inputs, graph.inputs, strict=True):
        for at, name in enumerate(place.axes):
            if name is not None:
                names[str(given.shape[at])] = name
                given.shape[at] = name
    for given in made.outputs:
        for at, axis in enumerate(given.shape):
            given.shape[at] = names.get(str(axis), axis)
    for node in made.all_nodes():
        node.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter warns of, which is about its own inside."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
