"""`record`: the attention of a model's forward passes, as `AttentionMap`s keyed by module path.

Every layer calls `attend` through a parameter-free module, `regard.layers.Attend`; a forward hook on these modules sees
all that determines the weights: queries, keys, score, mask, bias, factor, soft-cap and sink. The model's code doesn't
know that it is watched, and its results don't change.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from regard.attention import AttentionMap
from regard.errors import ArgumentError, UnsupportedError
from regard.layers import Attend


class HoldsModel(Protocol):
    """Something that runs a model, such as a translator."""

    model: nn.Module


class Recording(Mapping[str, AttentionMap]):
    """Attention maps by module path, for example `decoder.layers.3.cross`, in the order of the model.

    Used as a context manager it records while it is open; afterwards it only holds what it recorded. A module that ran
    several times has its last call here; `calls(name)` has those that were kept.

    Everything in them is a detached copy, parameters of scores and biases included, so neither the graph nor a larger
    projection stays alive through them, and training on doesn't change them.
    """

    def __init__(self, model: nn.Module, where: str, heads: list[int] | None, keep: int) -> None:
        self._modules = attention_modules(model)
        chosen = [name for name in self._modules if fnmatchcase(name, where)]
        if not chosen:
            known = ", ".join(self._modules) or "none"
            raise ArgumentError(f"where={where!r} matches no attention of the model; there are: {known}")
        if keep < 1:
            raise ArgumentError(f"keep must be 1 or more, not {keep}")
        self._chosen, self._heads, self._keep = chosen, heads, keep
        self._calls: dict[str, list[AttentionMap]] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Self:
        if self._hooks:
            raise ArgumentError("this recording is already open")
        for name in self._chosen:
            hook = self._modules[name].register_forward_hook(self._hook(name), with_kwargs=True)
            self._hooks.append(hook)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def __getitem__(self, name: str) -> AttentionMap:
        return self.calls(name)[-1]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._chosen if name in self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def calls(self, name: str) -> list[AttentionMap]:
        """The recorded calls of one module, oldest first, at most the last `keep`.

        Raises:
            KeyError: nothing was recorded under this name.
        """
        if name not in self._calls:
            known = ", ".join(self) or "nothing yet"
            raise KeyError(f"{name!r} was not recorded; recorded: {known}")
        return list(self._calls[name])

    def _hook(self, name: str) -> Any:
        def see(module: Attend, arguments: tuple[Tensor, ...], named: dict[str, Any], context: Tensor) -> None:
            q, k, _ = arguments
            # tensors made in inference mode could not be used with a gradient later
            with torch.inference_mode(False), torch.no_grad():
                table = AttentionMap(q, k, **named).detached(self._heads)
            kept = self._calls.setdefault(name, [])
            kept.append(table)
            del kept[: -self._keep]

        return see


def record(
    model: nn.Module | HoldsModel, where: str = "*", *, heads: list[int] | None = None, keep: int = 1
) -> Recording:
    """Record the attention of a regard model while a `with` block runs.

        with regard.record(translator, where="decoder.*") as recording:
            translator.model(source, source_lengths, target)
        recording["decoder.layers.3.cross"].top(3)

    Whole sequences are recorded: encoder, decoder and cross-attention of teacher-forced passes. Attention within
    step-wise decoding is recorded a step at a time, so its maps have one query; to see a translation as a whole, use
    `Translator.attention`, which runs the model over the finished sentence.

    Args:
        model: a regard model, or what holds one as `.model`.
        where: a pattern over module paths, with `*` and `?`.
        heads: which query heads to keep; None keeps all.
        keep: how many calls of each module to keep, the last ones.

    Raises:
        ArgumentError: the pattern matches nothing, or a head doesn't exist.
        UnsupportedError: the model has no attention of this package.
    """
    module = model if isinstance(model, nn.Module) else model.model
    return Recording(module, where, heads, keep)


def attention_modules(model: nn.Module) -> dict[str, Attend]:
    """The model's attention modules by the path of the layer that owns them.

    Raises:
        UnsupportedError: there is none.
    """
    found = {
        name.rpartition(".")[0] or name: module for name, module in model.named_modules() if isinstance(module, Attend)
    }
    if not found:
        raise UnsupportedError(
            f"{type(model).__name__} has no attention of this package; recording supports regard models that attend, "
            "such as the Transformer of regard.load(directory)"
        )
    return found
