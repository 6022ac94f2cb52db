"""The functions of transformers that attention modules call, heard while someone listens.

A module looks its function up at every call: in a mapping of the library by the name of the implementation ("sdpa"),
or, where that is "eager", as a variable of its own source file. `listen` puts an `Entry` there, which calls the
function with the very same arguments, hands on its result and tells its listeners; when the last one stops, the
function is put back. Listeners may come and go in any order, and calls of modules that none asked for pass untouched.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from regard.errors import UnsupportedError

LOCK = threading.Lock()  # entries are put in and taken out by one thread at a time


@dataclass(frozen=True)
class Call:
    """A call of an attention function.

    Attributes:
        function: which was called.
        module: whose attention it is.
        arguments: by the names of the function's parameters, its defaults included, and those that it takes as others.
        result: what it returned.
    """

    function: Callable[..., Any]
    module: nn.Module
    arguments: dict[str, Any]
    result: Any


class Listener(Protocol):
    """Who wants to know of calls."""

    @property
    def modules(self) -> Collection[nn.Module]:
        """Of which modules."""
        ...

    def heard(self, call: Call) -> None:
        """One of them has called."""
        ...


class Place(Protocol):
    """Where a function is looked up."""

    def get(self) -> Callable[..., Any]:
        """What is there."""
        ...

    def put(self, function: Callable[..., Any]) -> None:
        """Put another there."""
        ...

    def put_back(self, function: Callable[..., Any]) -> None:
        """Put back what was there at first."""
        ...


class Variable:
    """A variable of a source file.

    Args:
        variables: of the file.
        name: of the variable.
    """

    def __init__(self, variables: dict[str, Any], name: str) -> None:
        self._variables, self._name = variables, name

    def get(self) -> Callable[..., Any]:
        """See `Place.get`."""
        function: Callable[..., Any] = self._variables[self._name]
        return function

    def put(self, function: Callable[..., Any]) -> None:
        """See `Place.put`."""
        self._variables[self._name] = function

    def put_back(self, function: Callable[..., Any]) -> None:
        """See `Place.put_back`."""
        self._variables[self._name] = function


class Registered:
    """A name in a mapping of transformers, whose own entries lie over those that all mappings share.

    Args:
        mapping: `ALL_ATTENTION_FUNCTIONS`.
        name: of the implementation.
    """

    def __init__(self, mapping: MutableMapping[str, Callable[..., Any]], name: str) -> None:
        self._mapping, self._name = mapping, name

    def get(self) -> Callable[..., Any]:
        """See `Place.get`."""
        return self._mapping[self._name]

    def put(self, function: Callable[..., Any]) -> None:
        """See `Place.put`."""
        self._mapping[self._name] = function

    def put_back(self, function: Callable[..., Any]) -> None:
        """See `Place.put_back`."""
        del self._mapping[self._name]  # which uncovers the shared one, if there is one
        if self._mapping.get(self._name) is not function:
            self._mapping[self._name] = function


class Entry:
    """A function and who listens to it.

    Args:
        function: what is called.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._signature = inspect.signature(function)
        self._others = next((p.name for p in self._signature.parameters.values() if p.kind == p.VAR_KEYWORD), "")
        self.listeners: tuple[Listener, ...] = ()

    @property
    def function(self) -> Callable[..., Any]:
        """What is called."""
        return self._function

    def __call__(self, module: nn.Module, *arguments: Any, **named: Any) -> Any:
        """Call the function, and tell who asked for this module."""
        listeners = [one for one in self.listeners if module in one.modules]
        result = self._function(module, *arguments, **named)
        if listeners:
            if torch.compiler.is_compiling():
                _refuse_compiled()
            bound = self._signature.bind(module, *arguments, **named)
            bound.apply_defaults()
            by_name = dict(list(bound.arguments.items())[1:])
            by_name |= by_name.pop(self._others, {})
            for one in listeners:
                one.heard(Call(self._function, module, by_name, result))
        return result


def _refuse() -> None:
    raise UnsupportedError("a compiled model can't be recorded: call it uncompiled while the recording is open")


# raised when the compiled code runs: what is raised while it is compiled makes torch.compile leave this part out
_refuse_compiled: Callable[[], None] = torch.compiler.disable(_refuse)  # type: ignore[no-untyped-call]


def listen(place: Place, listener: Listener) -> Callable[[], None]:
    """Hear the calls of the function at a place.

    Returns:
        what ends it; the last one puts the function back, unless another has been put there since.
    """
    with LOCK:
        there = place.get()
        entry = there if isinstance(there, Entry) else Entry(there)
        entry.listeners += (listener,)
        if entry is not there:
            place.put(entry)

    def stop() -> None:
        with LOCK:
            entry.listeners = tuple(one for one in entry.listeners if one is not listener)
            if not entry.listeners and place.get() is entry:
                place.put_back(entry.function)

    return stop
