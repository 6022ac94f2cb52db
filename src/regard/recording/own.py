"""Watching models of this package: hooks on the modules through which every layer calls `attend`."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regard.attention import AttentionMap
from regard.errors import UnsupportedError
from regard.insight.tokens import Role
from regard.interop.watching import Observer
from regard.layers import Attend
from regard.models.encoder_decoder import EncoderDecoder


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
            "such as the Transformer of regard.load(directory), and models of Hugging Face transformers"
        )
    return found


def role_of(name: str) -> Role:
    """The role of an attention by its path: the convention of this package's models."""
    if name.rpartition(".")[2] == "cross":
        return Role("cross", "target", "source")
    if name.startswith("encoder."):
        return Role("self", "source", "source")
    return Role("causal", "target", "target") if name.startswith("decoder.") else Role("self", "text", "text")


class OwnModel:
    """A model of this package, watched by hooks.

    Args:
        model: the model, or a layer of it.

    Raises:
        UnsupportedError: it has no attention.
    """

    def __init__(self, model: nn.Module | Any) -> None:
        self._model = model if isinstance(model, nn.Module) else model.model
        self._modules = attention_modules(self._model)
        self._undo: list[Callable[[], None]] = []

    @property
    def roles(self) -> Mapping[str, Role]:
        """See `Source.roles`."""
        return {name: role_of(name) for name in self._modules}

    def open(self, names: Collection[str], observer: Observer) -> None:
        """See `Source.open`."""
        for name in names:
            hook = self._modules[name].register_forward_hook(_seen(name, observer), with_kwargs=True)
            self._undo.append(hook.remove)
        if isinstance(self._model, EncoderDecoder):
            self._undo.append(self._model.register_forward_pre_hook(_reads(observer)).remove)

    def close(self) -> None:
        """See `Source.close`."""
        while self._undo:
            self._undo.pop()()


def _seen(name: str, observer: Observer) -> Any:
    def see(module: Attend, arguments: tuple[Tensor, ...], named: dict[str, Any], context: Tensor) -> None:
        q, k, _ = arguments
        # tensors made in inference mode could not be used with a gradient later
        with torch.inference_mode(False), torch.no_grad():
            observer.attended(name, AttentionMap(q, k, **named))

    return see


def _reads(observer: Observer) -> Any:
    def read(model: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        source, lengths, target = arguments
        real = torch.arange(source.shape[1], device=source.device) < lengths[:, None]
        observer.read("source", source, real)
        observer.read("target", target, None)

    return read
