"""Watching models of Hugging Face transformers."""

import threading
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from regard.errors import UnsupportedError
from regard.insight.tokens import Role
from regard.interop.huggingface.entry import Call, listen
from regard.interop.huggingface.masks import Masks
from regard.interop.huggingface.modules import attention_modules, places_of
from regard.interop.huggingface.reading import Reading
from regard.interop.huggingface.roles import roles_of
from regard.interop.huggingface.tables import RULES, Rule
from regard.interop.putting import Hook
from regard.interop.watching import Observer


class HuggingFaceModel:
    """A model of Hugging Face transformers, heard at the functions that its attention modules call.

    Args:
        model: the model.

    Raises:
        UnsupportedError: its attention can't be heard; the message says why.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, PreTrainedModel):
            raise UnsupportedError(f"{type(model).__name__} is no model of Hugging Face transformers")
        self._model = model
        self._modules = attention_modules(model)
        self._roles = roles_of(model, self._modules)
        self._undo = ExitStack()

    @property
    def roles(self) -> Mapping[str, Role]:
        """See `Source.roles`."""
        return self._roles

    def open(self, names: Collection[str], observer: Observer) -> None:
        """See `Source.open`."""
        reading = Reading(self._model, observer)
        self._undo.callback(reading.close)
        reading.open()
        watch = Watch({self._modules[name]: name for name in names}, self._roles, observer)
        self._undo.callback(watch.masks.forget)
        for module in watch.modules:
            self._undo.callback(module.register_forward_pre_hook(Hook(watch.begins), with_kwargs=True).remove)
            self._undo.callback(module.register_forward_hook(Hook(watch.ends)).remove)
        for part in self._model.modules():
            if isinstance(part, PreTrainedModel):
                self._undo.callback(part.register_forward_hook(Hook(watch.passed), always_call=True).remove)
        places = {key: place for module in watch.modules for key, place in places_of(type(module)).items()}
        for (_, name), place in places.items():
            self._undo.callback(listen(place, Ear(watch, RULES.get(name, RULES["eager"]))))

    def close(self) -> None:
        """See `Source.close`."""
        self._undo.close()


class Watch:
    """What is known while a model is watched.

    Args:
        modules: the attention modules, and what they are called.
        roles: of all attentions of the model.
        observer: who is told.
    """

    def __init__(self, modules: Mapping[nn.Module, str], roles: Mapping[str, Role], observer: Observer) -> None:
        self.modules = modules
        self.masks = Masks()
        self._roles, self._observer = roles, observer
        self._running: dict[tuple[int, nn.Module], Running] = {}

    def begins(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """An attention module begins to run."""
        cache = next((x for x in (*arguments, *named.values()) if isinstance(x, Cache)), None)
        self._running[threading.get_ident(), module] = Running(cache)

    def ends(self, module: nn.Module, arguments: tuple[Any, ...], result: Any) -> None:
        """An attention module has run; its attention must have been heard, once."""
        running = self._running.pop((threading.get_ident(), module), None)
        if running is None or running.heard == 1 or recomputing():
            return
        times = f"called {running.heard} times" if running.heard else "not called"
        raise UnsupportedError(
            f"the attention of {type(module).__name__} at {self.modules.get(module, 'a replica of the model')!r} "
            f"can't be recorded: the function that tells of it was {times} where one call was expected"
        )

    def passed(self, *_: Any) -> None:
        """The model, or a model in it, has run, or failed."""
        self.masks.forget()

    def hear(self, call: Call, rule: Rule) -> None:
        """An attention module has called its function."""
        if recomputing():  # of gradient checkpointing; the call in the pass itself has been recorded
            return
        name = self.modules[call.module]
        running = self._running.get((threading.get_ident(), call.module), Running(None))
        running.heard += 1
        # tensors made in inference mode could not be used with a gradient later
        with torch.inference_mode(False), torch.no_grad():
            filled = None if self._roles[name].kind == "cross" else running.filled(call.module)
            self._observer.attended(name, rule.table(call, self.masks, filled))


class Running:
    """A run of an attention module.

    Args:
        cache: of keys, that it was given.
    """

    def __init__(self, cache: Cache | None) -> None:
        self._cache = cache
        self.heard = 0

    def filled(self, module: nn.Module) -> int | None:
        """How many keys the cache holds for the module; None if there is none."""
        layer = vars(module).get("layer_idx")
        return None if self._cache is None or layer is None else int(self._cache.get_seq_length(layer))


class Ear:
    """Listens to one function.

    Args:
        watch: whom it tells.
        rule: what the function does with its arguments.
    """

    def __init__(self, watch: Watch, rule: Rule) -> None:
        self._watch, self._rule = watch, rule

    @property
    def modules(self) -> Collection[nn.Module]:
        """See `Listener.modules`."""
        return self._watch.modules.keys()

    def heard(self, call: Call) -> None:
        """See `Listener.heard`."""
        self._watch.hear(call, self._rule)


def recomputing() -> bool:
    """Whether this runs inside of a backward pass."""
    return torch._C._current_graph_task_id() != -1
