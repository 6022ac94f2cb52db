"""Functions around methods, and hooks: taken away in any order, and no part of a copy."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from regard.interop.putting import Hook, put


class Doubler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor, more: float = 0.0) -> Tensor:
        return self.twice(x, more)

    def twice(self, x: Tensor, more: float = 0.0) -> Tensor:
        return x * self.factor + more


X = torch.tensor(3.0)


def _noting(said: list[str], name: str) -> Callable[..., Any]:
    def around(own: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        said.append(f"{name}: {', '.join(inspect.signature(own).parameters)}")
        return own(*arguments, **named)

    return around


def test_all_that_are_around_see_the_methods_arguments() -> None:
    model, said = Doubler(), list[str]()
    take = [put(model, "twice", _noting(said, name)) for name in ("inner", "outer")]
    assert model.twice(X, 1.0) == 7 and said == ["outer: x, more", "inner: x, more"]
    take[0]()
    assert model.twice(X) == 6 and said[2:] == ["outer: x, more"]
    take[1]()
    assert model.twice(X) == 6 and len(said) == 3 and "twice" not in vars(model)


def test_what_was_there_before_comes_back_and_what_came_after_stays() -> None:
    model, said = Doubler(), list[str]()
    model.twice = before = lambda x, more: x  # type: ignore[method-assign]
    put(model, "twice", _noting(said, "mine"))()
    assert vars(model)["twice"] is before
    take = put(model, "twice", _noting(said, "mine"))
    model.twice = after = lambda x, more: -x  # type: ignore[method-assign]
    take()
    assert vars(model)["twice"] is after


def test_a_copy_has_the_plain_method_and_hooks_that_do_nothing() -> None:
    model, said = Doubler(), list[str]()
    take = put(model, "twice", _noting(said, "mine"))
    hook = model.register_forward_pre_hook(Hook(lambda *_: said.append("hook")))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.factor.fill_(5)
    assert other(X) == 15 and not said
    assert model(X) == 6 and said == ["hook", "mine: x, more"]
    take()
    hook.remove()
    assert other(X) == 15 and model(X) == 6 and len(said) == 2
