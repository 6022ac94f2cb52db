"""Putting a function around an object's own method, for a while."""

from collections.abc import Callable
from functools import partial
from typing import Any


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
            call = partial(function, call)
        return call(*arguments, **named)


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
        if method.around:
            return
        if method.before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, method.before)

    return take
