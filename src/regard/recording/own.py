"""Watching models of this package: hooks on the modules through which every layer calls `attend`, and their steps."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from regard.attention import AttentionMap, Document, Padding
from regard.errors import UnsupportedError
from regard.insight.tokens import Role
from regard.interop.putting import Hook, put
from regard.interop.watching import Observer
from regard.layers import Attend
from regard.models.bert import BERT, Headed
from regard.models.encoder_decoder import EncoderDecoder
from regard.models.gpt import GPT
from regard.recording.following import FollowedTarget, FollowedText, real_places

Listener = Callable[[Sequence[int], Sequence[Sequence[int]]], None]
RealTargets = Callable[[Tensor], Tensor]


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


def roles_of(model: nn.Module) -> dict[str, Role]:
    """The roles of a model's attentions by their paths.

    Raises:
        UnsupportedError: there is none.
    """
    names = attention_modules(model)
    if isinstance(model, GPT):
        return {name: Role("causal", "text", "text") for name in names}
    if isinstance(model, Headed):  # whose encoder reads no source
        return {name: Role("self", "text", "text") for name in names}
    return {name: role_of(name) for name in names}


class Runs(Protocol):
    """Something that runs a model, such as a classifier."""

    @property
    def model(self) -> nn.Module:
        """The model that is run."""
        ...


@runtime_checkable
class Searches(Runs, Protocol):
    """Something that runs a model and says what its searches found, such as a translator."""

    @property
    def listeners(self) -> list[Listener]:
        """Called after each search with what `Observer.returned` takes."""
        ...


@runtime_checkable
class Pads(Runs, Protocol):
    """Something that runs a model on targets that it pads, such as a translator: the model isn't told their lengths."""

    def real_targets(self, inputs: Tensor) -> Tensor:
        """Which of what the decoder reads, (N, T) integers, is no padding: bool (N, T)."""
        ...


class OwnModel:
    """A model of this package, watched by hooks; one that generates also step by step.

    Args:
        model: the model, a layer of it, or what holds a model, and perhaps searches with it or pads its targets.

    Raises:
        UnsupportedError: it has no attention.
    """

    def __init__(self, model: nn.Module | Runs) -> None:
        self._model: nn.Module = model if isinstance(model, nn.Module) else model.model
        self._listeners: list[Listener] = []
        self._real_targets: RealTargets | None = None
        if not isinstance(model, nn.Module) and isinstance(model, Searches):
            self._listeners = model.listeners
        if not isinstance(model, nn.Module) and isinstance(model, Pads):
            self._real_targets = model.real_targets
        self._modules = attention_modules(self._model)
        self._undo = ExitStack()

    @property
    def roles(self) -> Mapping[str, Role]:
        """See `Source.roles`."""
        return roles_of(self._model)

    def open(self, names: Collection[str], observer: Observer) -> None:
        """See `Source.open`."""
        for name in names:
            hook = Hook(_seen(name, observer))
            self._undo.callback(self._modules[name].register_forward_hook(hook, with_kwargs=True).remove)
        if isinstance(self._model, EncoderDecoder):
            read = Hook(_reads(observer, self._real_targets))
            self._undo.callback(self._model.register_forward_pre_hook(read).remove)
            target = FollowedTarget(observer)
            self._follow({"start": target.start, "step": target.step}, observer.returned)
        elif isinstance(self._model, GPT):
            hook = Hook(_reads_text(observer))
            self._undo.callback(self._model.register_forward_pre_hook(hook, with_kwargs=True).remove)
            text = FollowedText(observer)
            self._follow({"start": text.start, "step": text.step, "extend": text.extend}, text.returned)
        for encoder in (one for one in self._model.modules() if isinstance(one, BERT)):
            hook = Hook(_reads_framed(observer))
            self._undo.callback(encoder.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def _follow(self, methods: Mapping[str, Callable[..., Any]], returned: Listener) -> None:
        """Stand around the model's methods, and listen to what a search returns."""
        for name, method in methods.items():
            self._undo.callback(put(self._model, name, method))
        self._listeners.append(returned)
        self._undo.callback(self._listeners.remove, returned)

    def close(self) -> None:
        """See `Source.close`."""
        self._undo.close()


def _seen(name: str, observer: Observer) -> Any:
    def see(module: Attend, arguments: tuple[Tensor, ...], named: dict[str, Any], context: Tensor) -> None:
        q, k, _ = arguments
        # tensors made in inference mode could not be used with a gradient later
        with torch.inference_mode(False), torch.no_grad():
            observer.attended(name, AttentionMap(q, k, **named))

    return see


def _reads(observer: Observer, real_targets: RealTargets | None) -> Any:
    def read(model: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        source, lengths, target = arguments
        observer.read("source", source, real_places(source, lengths))
        observer.read("target", target, None if real_targets is None else real_targets(target))

    return read


def _reads_text(observer: Observer) -> Any:
    """What `GPT.forward` is given; a mask may say what of it is padding."""

    def read(model: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        tokens, mask = _given(("tokens", "mask"), arguments, named)
        real = None
        if isinstance(mask, Padding):
            real = real_places(tokens, mask.lengths)
        elif isinstance(mask, Document):
            real = (mask.query_ids >= 0).expand(tokens.shape)
        observer.read("text", tokens, real)

    return read


def _reads_framed(observer: Observer) -> Any:
    """What `BERT.forward` is given."""

    def read(model: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        tokens, lengths = _given(("tokens", "lengths"), arguments, named)
        observer.read("text", tokens, real_places(tokens, lengths))

    return read


def _given(names: tuple[str, ...], arguments: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
    """The first arguments of a call, None where one is left out."""
    known = {**dict(zip(names, arguments, strict=False)), **named}
    return [known.get(name) for name in names]
