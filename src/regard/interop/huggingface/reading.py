"""What a Hugging Face model is fed: its sequences, and the steps of `generate`.

`generate` computes a memory of an encoder–decoder model once, repeats what it was given for each beam or sample, feeds
the prompt, and then a token at a time. Between the steps of a beam search the cache is brought into the order of the
hypotheses that go on: that is where their parents are learned.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache

from regard.errors import UnsupportedError
from regard.interop.huggingface.modules import ancestors
from regard.interop.putting import Hook, put
from regard.interop.watching import Observer

UNDONE = ("crop", "batch_repeat_interleave", "batch_select_indices")
"""What assisted decoding and others do to a cache, so that the next step doesn't continue the last."""

NAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

USUAL = list(inspect.signature(GenerationMixin.generate).parameters)[1:]
"""The arguments of `generate`."""


class Reading:
    """Tells an observer what a model of transformers reads, and how its generation goes on.

    Args:
        model: the model.
        observer: who is told.
    """

    def __init__(self, model: PreTrainedModel, observer: Observer) -> None:
        self._model, self._observer = model, observer
        self._generation: Generation | None = None
        self._readers = readers(model)
        self._running: nn.Module | None = None  # the outermost of `wholes`
        self._undo = ExitStack()

    def open(self) -> None:
        """Begin to watch."""
        for module in wholes(self._model):
            self._undo.callback(module.register_forward_pre_hook(Hook(self._begins)).remove)
            self._undo.callback(module.register_forward_hook(Hook(self._has_run), always_call=True).remove)
        for sequence, modules in self._readers.items():
            for module in modules:
                hook = Hook(partial(self._reads, sequence))
                self._undo.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        methods: dict[str, Callable[..., Any]] = {
            "generate": self._generates,
            "_reorder_cache": self._reorders,
            "get_compiled_call": _refuse_compiled,
        }
        for name, around in methods.items():
            if getattr(self._model, name, None) is not None:
                self._undo.callback(put(self._model, name, around))

    def close(self) -> None:
        """Leave the model, and transformers, as they were found."""
        self._undo.close()

    def _begins(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if self._running is None:
            self._running = module
            if self._generation is None:
                self._know_nothing()

    def _know_nothing(self) -> None:
        """What is not read from now on isn't known: embeddings, or a memory that was computed before."""
        for sequence in self._readers:
            self._observer.read(sequence, None, None)

    def _reads(self, sequence: str, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if sequence == "text" and self._running is not module:
            return  # models read within models, of which the outermost has the ids first
        given = _by_name(inspect.signature(module.forward).parameters, arguments, named)
        ids = given.get("input_ids")
        if not isinstance(ids, Tensor) or ids.ndim != 2:  # embeddings, pixels, sound
            self._observer.read(sequence, None, None)
            return
        mask = given.get("attention_mask")
        real = mask.bool() if isinstance(mask, Tensor) and mask.shape == ids.shape else None
        if self._generation is None or sequence == "source":
            self._observer.read(sequence, ids, real)
        else:
            self._generation.step(sequence, ids, real, given.get("past_key_values"))

    def _has_run(self, module: nn.Module, arguments: tuple[Any, ...], result: Any) -> None:
        if self._running is module:
            self._running = None

    def _generates(self, generate: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if self._generation is not None:  # a model whose `generate` calls itself
            return generate(*arguments, **named)
        names = [name for name, one in inspect.signature(generate).parameters.items() if one.kind in NAMED]
        names += USUAL[len(names) :]  # of a model whose own `generate` takes *arguments
        self._generation = Generation(self._model, self._observer, _by_name(names, arguments, named))
        self._running = None
        self._observer.began()
        self._know_nothing()
        try:
            result = generate(*arguments, **named)
            self._generation.end(result)
            return result
        finally:
            self._generation.close()
            self._generation = None

    def _reorders(self, reorder: Callable[..., Any], past: Any, order: Tensor, **named: Any) -> Any:
        if self._generation is None:
            return reorder(past, order, **named)
        with self._generation.reordering(order):
            return reorder(past, order, **named)


class Generation:
    """A run of `generate`.

    Args:
        model: whose.
        observer: who is told.
        given: its arguments by name.
    """

    def __init__(self, model: PreTrainedModel, observer: Observer, given: Mapping[str, Any]) -> None:
        self._model, self._observer, self._given = model, observer, given
        self._sentences = _batch(model, given)
        self._first: Tensor | None = None  # (N, P) what was fed first
        self._real: Tensor | None = None  # (N, ·) what of the prompt is no padding
        self._total = 0  # positions that were fed
        self._parents: Tensor | None = None  # of the step to come
        self._caches: list[Any] = []
        self._undo = ExitStack()
        self._within = False  # a reordering of the model's own

    def step(self, sequence: str, ids: Tensor, real: Tensor | None, cache: Any) -> None:
        """The model is fed (N, T), with a cache."""
        sentences = None
        if self._first is None:
            self._first = ids.clone()
            sentences = torch.arange(len(ids), device=ids.device) // max(1, len(ids) // self._sentences)
            whole = self._padding(ids, cache)
            self._real = real if whole is None else whole
            self._observer.read(sequence, ids, self._real)
        elif self._real is not None and self._real.shape[1] > self._total:  # the prompt goes on
            self._observer.read(sequence, ids, self._real[:, self._total :])
        self._total += ids.shape[1]
        self._observer.fed(sequence, ids, self._parents, sentences)
        self._parents = None
        if cache is not None and not isinstance(cache, tuple) and all(cache is not one for one in self._caches):
            self._caches.append(cache)
            self._watch(cache)

    def end(self, result: Any) -> None:
        """`generate` has returned ids (R, L), or an object that has them."""
        if self._first is None:
            self._observer.returned([], [])
            return
        sequences = result if isinstance(result, Tensor) else getattr(result, "sequences", None)
        if not isinstance(sequences, Tensor) or sequences.ndim != 2:
            return
        each = len(sequences) // self._sentences  # sequences of a sentence
        beside = len(self._first) // self._sentences
        if each * self._sentences != len(sequences) or beside * self._sentences != len(self._first):
            return
        length = self._first.shape[1]
        prompts = self._first[:: max(1, beside)].repeat_interleave(each, 0).to(sequences.device)
        if not torch.equal(sequences[:, :length], prompts):
            return  # a `generate` that returns a part, as Whisper's may: then all hypotheses are shown
        given = self._given.get("inputs", self._given.get("input_ids"))
        prompt = length if self._model.config.is_encoder_decoder or given is None else max(length, given.shape[1])
        ends = self._ends()
        ids = [_until(row, prompt, ends) for row in sequences.tolist()]
        self._observer.returned([number // each for number in range(len(ids))], ids)

    def reordering(self, order: Tensor) -> "_Within":
        """A reordering (N,) of hypotheses, during which the cache's own is a part of it."""
        self._reordered(order)
        return _Within(self)

    def close(self) -> None:
        """Leave the caches as they were found."""
        self._undo.close()

    def _watch(self, cache: Any) -> None:
        def reorder(own: Callable[..., Any], order: Tensor) -> Any:
            if not self._within:
                self._reordered(order)
            return own(order)

        def undone(own: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            assert self._first is not None
            self._parents = torch.full((len(self._first),), -1, device=self._first.device)  # of nothing
            return own(*arguments, **named)

        for name, around in (("reorder_cache", reorder), *((name, undone) for name in UNDONE)):
            if getattr(cache, name, None) is not None:
                self._undo.callback(put(cache, name, around))

    def _reordered(self, order: Tensor) -> None:
        order = order.detach().clone()
        self._parents = order if self._parents is None else self._parents.to(order.device)[order]

    def _padding(self, ids: Tensor, cache: Any) -> Tensor | None:
        """Which tokens of the prompt, that begins with `ids`, are no padding, by the mask that `generate` was given."""
        mask = self._given.get("decoder_attention_mask" if self._model.config.is_encoder_decoder else "attention_mask")
        if not isinstance(mask, Tensor) or mask.ndim != 2 or mask.shape[1] < ids.shape[1] or len(ids) % len(mask):
            return None
        if mask.shape[1] > ids.shape[1] and (not isinstance(cache, Cache) or int(cache.get_seq_length()) > 0):
            return None  # its beginning may be of what the cache holds
        return mask.bool().repeat_interleave(len(ids) // len(mask), 0)

    def _ends(self) -> set[int]:
        """The tokens that end a sequence."""
        config = self._given.get("generation_config") or self._model.generation_config
        ends = self._given.get("eos_token_id")
        if ends is None and config is not None:
            ends = config.eos_token_id
        if ends is None and self._model.generation_config is not None:
            ends = self._model.generation_config.eos_token_id
        return set() if ends is None else set(torch.as_tensor(ends).flatten().tolist())


class _Within:
    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def __enter__(self) -> None:
        self._generation._within = True

    def __exit__(self, *error: object) -> None:
        self._generation._within = False


def _refuse_compiled(compiled: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    raise UnsupportedError(
        "generate would compile the model's steps, as it does for a static cache on an accelerator, and what is "
        "compiled can't be watched: give it disable_compile=True"
    )


def readers(model: PreTrainedModel) -> dict[str, list[nn.Module]]:
    """The modules that read token ids, by the name of the sequence that they read."""
    if not model.config.is_encoder_decoder:
        parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
        return {"text": [part for part in parts if _reads_ids(part)]}
    found: dict[str, list[nn.Module]] = {}
    for stack, sequence in (("encoder", "source"), ("decoder", "target")):
        named = (part for path, part in model.named_modules() if path.rpartition(".")[2].endswith(stack))
        found[sequence] = [part for part in [*named][:1] if _reads_ids(part)]  # the outermost
    return found


def wholes(model: PreTrainedModel) -> list[nn.Module]:
    """The modules of which the outermost that runs makes a pass over all that is read in it."""
    if not model.config.is_encoder_decoder:
        return readers(model)["text"]
    path = next((path for path, _ in model.named_modules() if path.rpartition(".")[2].endswith("decoder")), "")
    return [*ancestors(model, path)]


def _reads_ids(module: nn.Module) -> bool:
    return "input_ids" in inspect.signature(module.forward).parameters


def _by_name(names: Iterable[str], arguments: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    return {**dict(zip(names, arguments, strict=False)), **named}


def _batch(model: PreTrainedModel, given: Mapping[str, Any]) -> int:
    """How many sentences `generate` is given."""
    for name in ("inputs", model.main_input_name, "input_ids", "inputs_embeds", "decoder_input_ids"):
        if isinstance(given.get(name), Tensor):
            return max(1, len(given[name]))
    memory = given.get("encoder_outputs")
    return 1 if memory is None else max(1, len(memory[0]))


def _until(row: Sequence[int], prompt: int, ends: set[int]) -> list[int]:
    """A sequence up to its end: the token that ends it, and the padding after it, are no part of it."""
    for place in range(prompt, len(row)):
        if row[place] in ends:
            return [*row[:place]]
    return [*row]
