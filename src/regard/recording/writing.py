"""Recordings as files: one safetensors file of tensors, with JSON in its metadata that says what they are.

docs/recording-format.md describes it.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from regard.attention import AttentionMap
from regard.attention.stored import describe
from regard.errors import ArgumentError, UnsupportedError
from regard.files import write_whole
from regard.insight.tokens import Role, Tokens

FORMAT: Final = "regard recording"
VERSION: Final = 1
ENTRY: Final = "regard recording"
"""The one entry of the metadata: the library writes several in an order that differs between processes."""

LARGEST: Final = 90_000_000
"""Bytes of JSON; the library refuses to open a file with a header of more than 100 MB."""


def write_recording(
    path: Path,
    model: str,
    heads: Sequence[int] | None,
    roles: Mapping[str, Role],
    calls: Mapping[str, Sequence[AttentionMap]],
    sequences: Mapping[str, Sequence[Tokens]],
) -> None:
    """Write a recording, whole or not at all.

    Args:
        path: the file.
        model: what the model is called.
        heads: which of its query heads the maps have; None is all.
        roles: of all attentions, in the order of the model.
        calls: the maps of those that have some.
        sequences: what was read, by the name of the sequence, for each batch element.

    Raises:
        ArgumentError: there is no map.
        UnsupportedError: a bias or factor of a class of someone else, or more text than fits into a header.
        OSError: the file can't be written.
    """
    if not any(calls.values()):
        raise ArgumentError("nothing was recorded: run the model inside the `with` block, then save")
    store = TensorStore()
    attentions = []
    for name, role in roles.items():
        try:
            maps = [describe(table.scoring, store.put) for table in calls.get(name, ())]
        except UnsupportedError as error:
            raise UnsupportedError(f"{name}: {error}") from error
        attentions.append({"name": name, "kind": role.kind, "queries": role.queries, "keys": role.keys, "calls": maps})
    content = {
        "regard": version("regard"),
        "model": model,
        "heads": [*(heads or ())],
        "attentions": attentions,
        "sequences": {name: [_plain(one) for one in rows] for name, rows in sequences.items()},
        "tensors": store.facts,
    }
    text = _sealed(content)
    if len(text.encode()) > LARGEST:
        raise UnsupportedError(
            f"the text of this recording and what describes it take {len(text.encode()):,} bytes, of which a file "
            f"can hold {LARGEST:,}; record fewer calls, or fewer texts"
        )
    write_whole(path, lambda temporary: save_file(store.tensors, temporary, {ENTRY: text}))


class TensorStore:
    """Tensors by names of their own; equal ones are kept once.

    Attributes:
        tensors: on the CPU, in contiguous storage.
        facts: of each of them, its dtype, shape and checksum.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self._storages: set[int] = set()
        self._known: dict[tuple[str, tuple[int, ...], int], list[str]] = {}

    def put(self, x: Tensor) -> str:
        """Keep a tensor; the name that it has."""
        x = x.detach().cpu().contiguous()
        dtype, sizes, check = str(x.dtype).removeprefix("torch."), tuple(x.shape), checksum(x)
        same = self._known.setdefault((dtype, sizes, check), [])
        for name in same:
            if torch.equal(_bytes(self.tensors[name]), _bytes(x)):
                return name
        if x.untyped_storage().data_ptr() in self._storages:
            x = x.clone()  # the library refuses tensors that share storage
        name = str(len(self.tensors))
        same.append(name)
        self.tensors[name] = x
        self._storages.add(x.untyped_storage().data_ptr())
        self.facts[name] = {"dtype": dtype, "shape": [*sizes], "crc32": f"{check:08x}"}
        return name


def checksum(x: Tensor) -> int:
    """CRC-32 of the bytes of a contiguous tensor on the CPU."""
    return zlib.crc32(_bytes(x).numpy().data)


def _bytes(x: Tensor) -> Tensor:
    return x.reshape(-1).view(torch.uint8)


def text_checksum(text: str) -> str:
    """CRC-32 of a text, as eight hexadecimal digits."""
    return f"{zlib.crc32(text.encode()):08x}"


def mark(check: str) -> str:
    """How a checksum stands in the JSON text, once, before anything that a user could have written."""
    return f'"crc32": "{check}"'


def _sealed(content: dict[str, Any]) -> str:
    """As JSON with the checksum of that text, in which the checksum itself counts as eight zeros."""
    whole = {"format": FORMAT, "version": VERSION, "crc32": "0" * 8, **content}
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False)
    if not _encodable(text):  # half a surrogate pair, which a name of a token might have
        text = json.dumps(whole, allow_nan=False)
    return text.replace(mark("0" * 8), mark(text_checksum(text)), 1)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(tokens: Tokens) -> dict[str, Any]:
    return {
        "texts": [*tokens.texts],
        "special": [i for i, special in enumerate(tokens.special) if special],
        "padding": [i for i, padding in enumerate(tokens.padding) if padding],
        "ids": [*tokens.ids],
        "words": [[word.text, [*word.tokens]] for word in tokens.words],
    }
