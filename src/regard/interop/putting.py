"""Putting a function around an object's own method, or a hook on a module, for a while; copies have neither."""

import copy
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any


class Hook:
    """A function that modules call as a hook. A copy of such a module has one that does nothing.

    Args:
        function: what is called.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """What the function returns."""
        return self._function(*arguments, **named)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return _nothing


def _nothing(*arguments: Any, **named: Any) -> None:
    """The hook of a copy."""


class _Surrounded:
    """A method with functions around it, the last one outermost.

    Args:
        own: the method.
        before: what the object itself held under its name; None where its class did.
    """

    def __init__(self, own: Callable[..., Any], before: Any) -> None:
        self.own, self.before = own, before
        self.around: list[Callable[..., Any]] = []

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        call = self.own
        for function in self.around:
            call = update_wrapper(partial(function, call), self.own)  # whose arguments still have their names
        return call(*arguments, **named)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.own, memo)  # a method of the copied object


def put(owner: Any, name: str, function: Callable[..., Any]) -> Callable[[], None]:
    """Put a function around an object's method `name`, on this object alone.

    Args:
        owner: the object.
        name: of the method.
        function: called with what it stands around, and the arguments.

    Returns:
        what takes it away again, in whichever order several are taken away.
    """
    here = vars(owner).get(name)
    if not isinstance(here, _Surrounded):
        here = _Surrounded(getattr(owner, name), here)
        setattr(owner, name, here)
    method = here
    method.around.append(function)

    def take() -> None:
        method.around.remove(function)
        if method.around or vars(owner).get(name) is not method:  # someone put another in its place
            return
        if method.before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, method.before)

    return take
