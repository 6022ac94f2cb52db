"""`record`: the attention of a model's forward passes, as `AttentionMap`s keyed by module path."""

import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from numbers import Integral
from types import TracebackType
from typing import Any, Literal, Protocol, TypeGuard

from torch import nn

from regard.errors import ArgumentError, UnsupportedError
from regard.insight.tokens import Tokens
from regard.interop.huggingface import is_pretrained
from regard.interop.watching import Observer, Source
from regard.recording.calls import Calls, Reader
from regard.recording.joined import Joined
from regard.recording.own import OwnModel, Runs
from regard.recording.recording import Recording


class HoldsModel(Runs, Protocol):
    """Something that runs a model, such as a translator, and knows what its tokens are."""

    def tokens_of(self, sequence: str, ids: Sequence[int], real: Sequence[bool]) -> Tokens:
        """What stands at the positions of a sequence of the model ("source", "target", "text")."""
        ...


class Recorder:
    """Watches a model while it is open; `with recorder as recording`.

    Args:
        source: the model.
        recording: what is handed out.
        observer: what fills it.
    """

    def __init__(self, source: Source, recording: Recording, observer: Observer) -> None:
        self._source, self._recording, self._observer = source, recording, observer
        self._open = False

    def __enter__(self) -> Recording:
        if self._open:
            raise ArgumentError("this recording is already open")
        self._open = True
        try:
            self._source.open(list(self._recording.roles), self._observer)
        except BaseException:
            self._close()
            raise
        return self._recording

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._open = False
        self._source.close()


def record(
    model: nn.Module | HoldsModel,
    where: str = "*",
    *,
    heads: list[int] | None = None,
    keep: int | Literal["generation"] = 1,
    tokenizer: Any = None,
) -> Recorder:
    """Record the attention of a model while a `with` block runs; the model computes what it always does.

        with regard.record(translator, where="decoder.*") as recording:
            translator.model(source, source_lengths, target)
        recording["decoder.layers.3.cross"].top(3)

        with regard.record(huggingface_model, tokenizer=tokenizer, keep="generation") as recording:
            huggingface_model.generate(**inputs, num_beams=4)
        recording["model.layers.0.self_attn"].received()

    Args:
        model: a regard model, what holds one as `.model`, or a model of Hugging Face transformers.
        where: a pattern over module paths, with `*` and `?`.
        heads: which query heads to keep; None keeps all.
        keep: how many calls of each module to keep, the last ones; or "generation": the steps of the last generation
            joined to one map, of each sequence that was found.
        tokenizer: of a Hugging Face model, for the names of its tokens; without it they are numbers.

    Raises:
        ArgumentError: an argument is of another kind, or the pattern matches nothing. A head that doesn't exist is one
            too, when the first attention without it is computed: they may have different numbers.
        UnsupportedError: the model has no attention that can be recorded; the message says why.
    """
    module = model if isinstance(model, nn.Module) else getattr(model, "model", None)
    if not isinstance(module, nn.Module):
        raise ArgumentError(f"model must be a model, or what holds one as .model, not {type(model).__name__}")
    _check(where, heads, keep)
    compiler = sys.modules.get("torch._dynamo.eval_frame")  # which is there if it made this module
    if compiler is not None and isinstance(module, compiler.OptimizedModule):
        raise UnsupportedError("a compiled model can't be recorded: record the model that torch.compile was given")
    source: Source
    reader: Reader
    if is_pretrained(module):
        from transformers import PreTrainedTokenizerBase

        from regard.interop.huggingface.source import HuggingFaceModel
        from regard.interop.huggingface.tokens import reader_of

        if not isinstance(tokenizer, PreTrainedTokenizerBase | None):
            kind = type(tokenizer).__name__
            raise ArgumentError(f"tokenizer must be one of transformers, as AutoTokenizer loads it, not a {kind}")
        source, reader = HuggingFaceModel(module), _numbers if tokenizer is None else reader_of(tokenizer)
    else:
        if tokenizer is not None:
            raise ArgumentError("tokenizer is for models of Hugging Face transformers; a translator knows its own")
        source, reader = OwnModel(model), _numbers if isinstance(model, nn.Module) else model.tokens_of
    chosen = {name: role for name, role in source.roles.items() if fnmatchcase(name, where)}
    if not chosen:
        raise ArgumentError(f"where={where!r} matches no attention of the model; there are: {', '.join(source.roles)}")
    store: Calls | Joined = Joined(chosen, heads, reader) if keep == "generation" else Calls(heads, keep, reader)
    return Recorder(source, Recording(type(module).__name__, chosen, store, heads), store)


def _check(where: object, heads: object, keep: object) -> None:
    """Raise `ArgumentError` for arguments of another kind, before a model runs."""
    if not isinstance(where, str):
        raise ArgumentError(f"where must be a pattern over module paths, not {where!r}")
    if heads is not None and not (isinstance(heads, Sequence) and heads and all(map(_is_integer, heads))):
        raise ArgumentError(f"heads must be a list of one or more integers, or None, not {heads!r}")
    if keep != "generation" and not (_is_integer(keep) and keep >= 1):
        raise ArgumentError(f'keep must be 1 or more, or "generation", not {keep!r}')


def _is_integer(x: object) -> TypeGuard[int]:
    return isinstance(x, Integral) and not isinstance(x, bool)


def _numbers(sequence: str, ids: Sequence[int], real: Sequence[bool]) -> Tokens:
    """Tokens of which nothing but the id is known."""
    padding = tuple(not one for one in real)
    return Tokens(tuple(map(str, ids)), padding, tuple(ids), padding=padding)
