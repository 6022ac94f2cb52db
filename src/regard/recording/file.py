"""`load_recording`: a recording from its file, without the model that it is of.

Tensors are mapped into memory, not read: pages of the file come in when a map is asked for something. Everything but
the numbers in the tensors is checked when the file is opened, those numbers, by their checksums, when a map is first
taken out.
"""

import json
from collections.abc import Collection, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final, cast, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from regard.attention import AttentionMap
from regard.attention.known import Known
from regard.attention.plain import (
    fields_of,
    integer_of,
    integers_of,
    list_of,
    object_of,
    text_of,
    texts_of,
    wrong,
)
from regard.attention.stored import rebuild
from regard.errors import ArgumentError, DataError, RegardError
from regard.insight.tokens import Kind, Role, Tokens, Word
from regard.recording.recording import Recording
from regard.recording.writing import ENTRY, FORMAT, VERSION, checksum, mark, text_checksum

DTYPES: Final = {
    "float32": (torch.float32, "F32"),
    "float64": (torch.float64, "F64"),
    "float16": (torch.float16, "F16"),
    "bfloat16": (torch.bfloat16, "BF16"),
    "int32": (torch.int32, "I32"),
    "int64": (torch.int64, "I64"),
    "bool": (torch.bool, "BOOL"),
}
"""Dtypes of tensors, and what safetensors calls them."""

LONGEST: Final = 1 << 20
"""An axis of this length may stand in a small file, if another axis is empty."""

WHOLE: Final = ("format", "version", "crc32", "regard", "model", "heads", "attentions", "sequences", "tensors")


def load_recording(path: str | Path) -> Recording:
    """Open what `Recording.save` or `regard record` wrote; neither the model nor its library is needed.

    Maps are on the CPU. Their tensors lie in the file until they are used, so it must stay as it is meanwhile; saving
    a recording there again is safe, as that makes a new file.

    Raises:
        ArgumentError: `path` is no path.
        DataError: the file is missing, no recording, of a newer version, or damaged; the message says what is wrong.
            Damage to numbers is found when a map is first taken out of the recording.
    """
    if not isinstance(path, str | PathLike):
        raise wrong("path", "a path", path)
    path = Path(path)
    try:
        file: Any = safe_open(path, "pt")
        entries = file.metadata() or {}
    except OSError as error:
        reason = "is a folder" if path.is_dir() else error.strerror or str(error)
        raise DataError(f"{path}: can't be read as a recording: {reason}") from error
    except SafetensorError as error:
        raise DataError(f"{path}: no recording, or damaged: not safetensors ({error})") from error
    if ENTRY not in entries:
        raise DataError(f"{path}: no recording: its metadata have no entry {ENTRY!r}")
    try:
        return _opened(_content(entries[ENTRY]), StoredTensors(file, path.stat().st_size), path)
    except (ArgumentError, SafetensorError) as error:
        raise DataError(f"{path}: damaged recording: {error}") from error


class StoredTensors:
    """The tensors of a file.

    Args:
        file: open safetensors.
        size: of the file in bytes.
    """

    def __init__(self, file: Any, size: int) -> None:
        self._file, self._names = file, set(file.keys())
        self._longest = max(size, LONGEST)
        self._facts: dict[str, tuple[torch.dtype, tuple[int, ...], int]] = {}
        self._sound: dict[str, Tensor] = {}  # whose checksums are right; they lie in the file

    def expect(self, content: Any) -> None:
        """Take what the recording says of its tensors, and check it against the file.

        Raises:
            ArgumentError: they differ.
        """
        facts = object_of("tensors", content)
        if facts.keys() != self._names:
            some = min(facts.keys() ^ self._names)
            raise ArgumentError(f"tensor {some[:80]!r} is missing, either in the file or in what describes it")
        for name, given in facts.items():
            what = f"tensor {name[:80]}"
            fact = fields_of(what, given, ("dtype", "shape", "crc32"))
            dtype = text_of(f"{what}: dtype", fact["dtype"])
            if dtype not in DTYPES:
                raise wrong(f"{what}: dtype", "one of " + ", ".join(DTYPES), dtype)
            sizes = integers_of(f"{what}: shape", fact["shape"], 0, self._longest)
            check = text_of(f"{what}: crc32", fact["crc32"])
            if len(check) != 8 or not set(check) <= set("0123456789abcdef"):
                raise wrong(f"{what}: crc32", "eight hexadecimal digits", check)
            part = self._file.get_slice(name)
            there = part.get_dtype(), tuple(part.get_shape())
            if there != (DTYPES[dtype][1], sizes):
                raise ArgumentError(f"{what} is {there[1]} {there[0]}, and should be {sizes} {DTYPES[dtype][1]}")
            self._facts[name] = DTYPES[dtype][0], sizes, int(check, 16)

    def shaped(self, name: str) -> Tensor:
        """A tensor without its numbers."""
        dtype, sizes, _ = self._fact(name)
        return torch.empty(sizes, dtype=dtype, device="meta")

    def get(self, name: str) -> Tensor:
        """A tensor.

        Raises:
            ArgumentError: there is none of this name, or its numbers are not those that were written.
        """
        check = self._fact(name)[2]
        if name in self._sound:
            return self._sound[name]
        x: Tensor = self._file.get_tensor(name)
        if checksum(x) != check:
            raise ArgumentError(
                f"tensor {name} is damaged: its checksum is {checksum(x):08x} and should be {check:08x}"
            )
        self._sound[name] = x
        return x

    def _fact(self, name: str) -> tuple[torch.dtype, tuple[int, ...], int]:
        if name not in self._facts:
            raise ArgumentError(f"there is no tensor {name[:80]!r}")
        return self._facts[name]


class StoredMaps:
    """A `Store` whose maps are in a file.

    Args:
        path: of the file, for messages.
        calls: of each attention, what describes its maps.
        sequences: what was read, for each batch element.
        tensors: of the file.
    """

    def __init__(
        self,
        path: Path,
        calls: Mapping[str, list[Any]],
        sequences: Mapping[str, list[Tokens]],
        tensors: StoredTensors,
    ) -> None:
        self._path, self._calls, self._sequences, self._tensors = path, calls, sequences, tensors
        self._made: dict[str, list[AttentionMap]] = {}
        self._known = Known()

    def names(self) -> Collection[str]:
        """See `Store.names`."""
        return self._calls.keys()

    def calls(self, name: str) -> list[AttentionMap]:
        """See `Store.calls`.

        Raises:
            DataError: the file is damaged.
        """
        if name not in self._made:
            try:
                self._made[name] = [
                    AttentionMap.of(rebuild(one, self._tensors.get, self._known)) for one in self._calls[name]
                ]
            except (RegardError, SafetensorError) as error:
                raise DataError(f"{self._path}: damaged recording: {name}: {error}") from error
        return list(self._made[name])

    def tokens(self, sequence: str) -> list[Tokens]:
        """See `Store.tokens`."""
        return list(self._sequences.get(sequence, []))


def _content(text: str) -> dict[str, Any]:
    """The JSON of a recording, of this format and version, and undamaged."""
    try:
        content = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        # a JSON library that gives up on nesting does so without harm
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ArgumentError(f"the JSON in its metadata can't be read: {reason}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArgumentError(f"the JSON in its metadata is no {FORMAT}")
    integer_of("version", content.get("version"), 1, 1 << 31)
    if content["version"] != VERSION:
        raise ArgumentError(
            f"version {content['version']} of the format; this program reads version {VERSION}: a newer regard made it"
        )
    check = text_of("crc32", content.get("crc32"))
    if check != text_checksum(text.replace(mark(check), mark("0" * 8), 1)):
        raise ArgumentError("the JSON in its metadata is damaged: its checksum is another")
    return fields_of("the JSON in its metadata", content, WHOLE)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field comes twice")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _opened(content: dict[str, Any], tensors: StoredTensors, path: Path) -> Recording:
    tensors.expect(content["tensors"])
    heads = integers_of("heads", content["heads"], 0, 1 << 31)
    if len(set(heads)) < len(heads):
        raise ArgumentError("heads: one comes twice")
    roles: dict[str, Role] = {}
    calls: dict[str, list[Any]] = {}
    for one in list_of("attentions", content["attentions"]):
        given = fields_of("an attention", one, ("name", "kind", "queries", "keys", "calls"))
        name = text_of("an attention's name", given["name"])
        if not name.isprintable():
            raise ArgumentError(f"the attention {name[:80]!r}: expected a name that can be printed")
        if name in roles:
            raise ArgumentError(f"the attention {name[:80]!r} comes twice")
        if given["kind"] not in get_args(Kind):
            raise wrong(f"{name}: kind", "one of " + ", ".join(get_args(Kind)), given["kind"])
        queries, keys = (text_of(f"{name}: {side}", given[side]) for side in ("queries", "keys"))
        roles[name] = Role(cast(Kind, given["kind"]), queries, keys)
        maps = list_of(f"{name}: calls", given["calls"])
        for number, described in enumerate(maps):
            try:
                count = rebuild(described, tensors.shaped).extent.heads
                if heads and count != len(heads):
                    raise ArgumentError(f"it has {count} heads, and the recording {len(heads)}")
            except RegardError as error:
                raise ArgumentError(f"{name}, call {number}: {error}") from error
        if maps:
            calls[name] = maps
    sequences = {
        name: [_tokens(f"{name}[{i}]", row) for i, row in enumerate(list_of(name, rows))]
        for name, rows in object_of("sequences", content["sequences"]).items()
    }
    text_of("regard", content["regard"])
    return Recording(
        text_of("model", content["model"]), roles, StoredMaps(path, calls, sequences, tensors), heads or None
    )


def _tokens(name: str, content: Any) -> Tokens:
    given = fields_of(name, content, ("texts", "special", "padding", "ids", "words"))
    texts = texts_of(f"{name}: texts", given["texts"])
    last = len(texts) - 1
    special = set(integers_of(f"{name}: special", given["special"], 0, last))
    padding = set(integers_of(f"{name}: padding", given["padding"], 0, last))
    ids = integers_of(f"{name}: ids", given["ids"], -(1 << 63), (1 << 63) - 1)
    if ids and len(ids) != len(texts):
        raise ArgumentError(f"{name}: {len(ids)} ids for {len(texts)} tokens")
    words = []
    for one in list_of(f"{name}: words", given["words"]):
        pair = list_of(f"{name}: words", one)
        if len(pair) != 2:
            raise ArgumentError(f"{name}: words: expected pairs of a text and positions")
        words.append(Word(text_of(f"{name}: words", pair[0]), integers_of(f"{name}: words", pair[1], 0, last)))
    everywhere = range(len(texts))
    barred = tuple(i in padding for i in everywhere) if padding else ()
    return Tokens(texts, tuple(i in special for i in everywhere), ids, tuple(words), barred)
