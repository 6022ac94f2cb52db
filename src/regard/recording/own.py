"""Watching models of this package: hooks on the modules through which every layer calls `attend`, and their steps."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from regard.attention import AttentionMap
from regard.errors import UnsupportedError
from regard.insight.tokens import Role
from regard.interop.putting import Hook, put
from regard.interop.watching import Observer
from regard.layers import Attend, State
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


Step = Callable[[Tensor, State], tuple[Tensor, State]]


class Searches(Protocol):
    """Something that runs a model and says what its searches found, such as a translator."""

    @property
    def model(self) -> nn.Module:
        """The model that is run."""
        ...

    @property
    def listeners(self) -> list[Callable[[Sequence[int], Sequence[Sequence[int]]], None]]:
        """Called after each search with what `Observer.returned` takes."""
        ...


class OwnModel:
    """A model of this package, watched by hooks; an encoder–decoder model also step by step.

    Args:
        model: the model, a layer of it, or what holds a model and searches with it.

    Raises:
        UnsupportedError: it has no attention.
    """

    def __init__(self, model: nn.Module | Searches) -> None:
        self._model: nn.Module = model if isinstance(model, nn.Module) else model.model
        self._listeners = [] if isinstance(model, nn.Module) else model.listeners
        self._modules = attention_modules(self._model)
        self._undo = ExitStack()

    @property
    def roles(self) -> Mapping[str, Role]:
        """See `Source.roles`."""
        return {name: role_of(name) for name in self._modules}

    def open(self, names: Collection[str], observer: Observer) -> None:
        """See `Source.open`."""
        for name in names:
            hook = Hook(_seen(name, observer))
            self._undo.callback(self._modules[name].register_forward_hook(hook, with_kwargs=True).remove)
        if isinstance(self._model, EncoderDecoder):
            self._undo.callback(self._model.register_forward_pre_hook(Hook(_reads(observer))).remove)
            followed = _Followed(observer)
            for name, method in (("start", followed.start), ("step", followed.step)):
                self._undo.callback(put(self._model, name, method))
            self._listeners.append(observer.returned)
            self._undo.callback(self._listeners.remove, observer.returned)

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


def _reads(observer: Observer) -> Any:
    def read(model: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        source, lengths, target = arguments
        observer.read("source", source, _real(source, lengths))
        observer.read("target", target, None)

    return read


class _Followed:
    """`start` and `step` of a model, which tell an observer what is fed to whom.

    Hypotheses carry a number through the state, and sentences too, so that whatever a search selects says what goes on;
    the model doesn't see them.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._key = f"followed.{id(self)}"  # each recording of a model has its own
        # numbers of hypotheses are never used again: an older state is told from the newest
        self._first = self._next = 0

    def start(self, own: Callable[[Tensor, Tensor], State], source: Tensor, source_lengths: Tensor) -> State:
        """See `EncoderDecoder.start`."""
        self._observer.began()
        self._observer.read("source", source, _real(source, source_lengths))
        state = own(source, source_lengths)
        sentences = torch.arange(len(source), device=source.device)
        return self._numbered(state, sentences, len(source))

    def step(self, own: Step, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `EncoderDecoder.step`."""
        hypothesis, sentence = {**state.hypothesis}, {**state.sentence}
        rows, sentences = hypothesis.pop(self._key, None), sentence.pop(self._key, None)
        state = State(sentence, hypothesis, state.position)
        if rows is None or sentences is None:  # started before the recording
            for name in ("source", "target"):
                self._observer.read(name, None, None)
            return own(tokens, state)
        each = sentences.repeat_interleave(len(rows) // max(1, len(sentences)))
        self._observer.fed("target", tokens[:, None], rows - self._first, each)
        log_probs, state = own(tokens, state)
        return log_probs, self._numbered(state, sentences, len(tokens))

    def _numbered(self, state: State, sentences: Tensor, count: int) -> State:
        self._first, self._next = self._next, self._next + count
        rows = torch.arange(self._first, self._next, device=sentences.device)
        return State({**state.sentence, self._key: sentences}, {**state.hypothesis, self._key: rows}, state.position)


def _real(source: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(source.shape[1], device=source.device) < lengths[:, None]
