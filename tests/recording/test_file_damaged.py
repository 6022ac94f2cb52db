"""Damaged and hostile recordings: whatever is in a file, it opens as what it is, or an error says what is wrong."""

import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from regard.attention import AttentionMap, Causal, Dense, Document, Padding
from regard.errors import ArgumentError, DataError, RegardError
from regard.insight.tokens import Role, Tokens, Word
from regard.recording.file import load_recording
from regard.recording.writing import ENTRY, write_recording


def _draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small recording with something of everything."""
    q, k = _draw(2, 4, 5, 6), _draw(2, 2, 7, 6, seed=1).bfloat16().float()
    mask = (Padding(torch.tensor([5, 7])) | Dense(_draw(5, 7) > 0)) & Document(
        torch.tensor([1, 0, 1, 0, 1]), torch.arange(7) % 2
    )
    tables = {
        "a": [AttentionMap(q, k, mask=mask, bias=_draw(4, 5, 7), factor=torch.rand(5, 7), softcap=3.0)],
        "b": [AttentionMap(q[:, :, :1].bfloat16(), k.bfloat16(), mask=Causal(), sink=_draw(4))] * 2,
    }
    roles = {"a": Role("cross", "target", "source"), "b": Role("cross", "target", "source")}
    words = (Word("one", (1, 2)), Word("two", (3,)))
    tokens = [Tokens(tuple("abcdefg"), (True, *[False] * 6), tuple(range(7)), words)] * 2
    file = tmp_path_factory.mktemp("sound") / "recording"
    write_recording(file, "Model", None, roles, tables, {"source": tokens, "target": []})
    return file.read_bytes()


def _use(path: Path) -> str | None:
    """Open a recording and use all of it; what the error says, if there is one."""
    try:
        recording = load_recording(path)
        for name in recording:
            recording.tokens(name)
            for table in recording.calls(name):
                assert table.dense().shape == table.shape
                table.received()
    except RegardError as error:
        assert isinstance(error, DataError) and str(error).startswith(f"{path}: "), error
        return str(error)
    return None


def _header(content: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


def _with_header(content: bytes, header: dict[str, Any]) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def _with_json(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A file whose description was changed on purpose, its checksum with it."""
    header = _header(content)
    described = json.loads(header["__metadata__"][ENTRY])
    described = change(described) or described
    described["crc32"] = "0" * 8
    text = json.dumps(described, ensure_ascii=False)
    check = f"{zlib.crc32(text.encode()):08x}"
    header["__metadata__"][ENTRY] = text.replace('"crc32": "00000000"', f'"crc32": "{check}"', 1)
    return _with_header(content, header)


def test_the_sound_file_is_sound(sound: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content in (sound, _with_header(sound, _header(sound)), _with_json(sound, lambda _: None)):
        file.write_bytes(content)
        assert _use(file) is None


def test_every_flipped_bit_that_matters_is_found(sound: bytes, tmp_path: Path) -> None:
    """A bit of the file, anywhere: it opens with the same numbers, or not at all."""
    file = tmp_path / "file"
    file.write_bytes(sound)
    whole = {name: [table.dense() for table in load_recording(file).calls(name)] for name in ("a", "b")}
    draw = random.Random(1)
    (header,) = struct.unpack("<Q", sound[:8])
    places = [*range(8), *draw.sample(range(8, 8 + header), 400), *draw.sample(range(8 + header, len(sound)), 200)]
    found = 0
    for place in places:
        damaged = bytearray(sound)
        damaged[place] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        if _use(file) is None:
            after = load_recording(file)
            assert all(
                torch.equal(a, b.dense()) for name in whole for a, b in zip(whole[name], after.calls(name), strict=True)
            )
        else:
            found += 1
    assert found > 0.95 * len(places)  # the rest is padding, and names of tensors in another order


def test_a_file_that_was_cut(sound: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for length in [*range(40), *range(40, len(sound), 97), len(sound) - 1]:
        file.write_bytes(sound[:length])
        assert _use(file) is not None
    file.write_bytes(sound + b"more")
    assert _use(file) is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not safetensors"),
        (b"some text that is no recording", "not safetensors"),
        (struct.pack("<Q", 1 << 40) + b"{}", "header too large"),
        (struct.pack("<Q", 2) + b"{}", "its metadata have no entry"),
        (struct.pack("<Q", 2) + b"[]", "not safetensors"),
    ],
)
def test_files_of_another_kind(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert message in str(_use(file))


def test_other_places(tmp_path: Path) -> None:
    assert "No such file" in str(_use(tmp_path / "nothing"))
    assert "is a folder" in str(_use(tmp_path))
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.safetensors", {"format": "pt"})
    assert "no recording: its metadata have no entry" in str(_use(tmp_path / "model.safetensors"))


JSONS = [
    ("[", "can't be read"),
    ("[]", "is no regard recording"),
    ("3", "is no regard recording"),
    ('{"format": "regard recording", "format": "regard recording"}', "a field comes twice"),
    (
        '{"format": "regard recording", "version": 2, "more": {}}',
        "version 2 of the format; this program reads version 1",
    ),
    ('{"format": "regard recording", "version": "1"}', "version is '1'"),
    ('{"format": "regard recording", "version": true}', "version is True"),
    ('{"format": "regard recording", "version": 1}', "crc32 is None"),
    ('{"format": "regard recording", "version": 1, "crc32": "00000000"}', "its checksum is another"),
    ('{"format": "regard recording", "version": NaN}', "NaN is no JSON number"),
    ('{"a": ' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
    ('{"version": ' + "9" * 5000 + "}", "can't be read"),
]


@pytest.mark.parametrize(("text", "message"), JSONS, ids=[text[:50] for text, _ in JSONS])
def test_json_of_another_kind(text: str, message: str, sound: bytes, tmp_path: Path) -> None:
    header = _header(sound)
    header["__metadata__"][ENTRY] = text
    file = tmp_path / "file"
    file.write_bytes(_with_header(sound, header))
    assert message in str(_use(file))


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Put the last of a path at the place that the others lead to."""
    *steps, last, value = path

    def change(content: Any) -> None:
        for step in steps:
            content = content[step]
        content[last] = value

    return change


def _twice(content: dict[str, Any]) -> None:
    content["attentions"].append(content["attentions"][0])


def _deep(content: dict[str, Any]) -> None:
    seen = flat = content["attentions"][0]["calls"][0]["visibility"]
    for _ in range(100):
        seen = {**flat, "unions": [[seen, flat]]}
    content["attentions"][0]["calls"][0]["visibility"] = seen


A, Q = ("attentions", 0), ("attentions", 0, "calls", 0)
CHANGES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (_set("more", 1), "has an unknown field 'more'"),
    (lambda content: content.pop("model") and None, "lacks field 'model'"),
    (_set("model", 3), "model is 3: expected a string"),
    (_set("heads", [0, 0]), "heads: one comes twice"),
    (_set("heads", [7]), "4 heads, and the recording 1"),
    (_set("regard", None), "regard is None"),
    (_set("attentions", {}), "attentions is dict"),
    (_set("attentions", 0, []), "an attention is list"),
    (_set(*A, "name", "layer\x1b[2J"), "expected a name that can be printed"),
    (_twice, "the attention 'a' comes twice"),
    (_deep, "at most 64 in the whole mask"),
    (_set(*A, "kind", "sideways"), "a: kind is 'sideways': expected one of self, causal, cross"),
    (_set(*A, "kind", {}), "a: kind is dict"),
    (_set(*A, "queries", 1), "a: queries is 1"),
    (_set(*A, "calls", None), "a: calls is None"),
    (_set(*Q, 3), "a, call 0: the map is 3"),
    (_set(*Q, "scale", 0), "a, call 0: scale is 0"),
    (_set(*Q, "tensors", "q", "999"), "a, call 0: there is no tensor '999'"),
    (_set(*Q, "leading", [2, 1 << 40]), "a, call 0: leading[1] is"),
    (_set("sequences", []), "sequences is list"),
    (_set("sequences", "source", 0, "texts", 1), "source[0]: texts is 1"),
    (_set("sequences", "source", 0, "texts", 2, None), "source[0]: texts[2] is None"),
    (_set("sequences", "source", 0, "special", [7]), "source[0]: special[0] is 7: expected an integer from 0 to 6"),
    (_set("sequences", "source", 0, "ids", [1]), "1 ids for 7 tokens"),
    (_set("sequences", "source", 0, "ids", 0, 1 << 80), "source[0]: ids[0] is"),
    (_set("sequences", "source", 0, "words", [["x"]]), "words: expected pairs"),
    (_set("sequences", "source", 0, "words", [["x", [-1]]]), "is -1: expected an integer from 0 to 6"),
    (_set("tensors", {}), "is missing"),
    (_set("tensors", "7777", {}), "tensor '7777' is missing"),
    (_set("tensors", "0", "dtype", "int8"), "tensor 0: dtype is 'int8'"),
    (_set("tensors", "0", "dtype", "float64"), "and should be"),
    (_set("tensors", "0", "shape", [1, 1, 1, 1]), "and should be"),
    (_set("tensors", "0", "shape", 0, 1 << 50), "tensor 0: shape[0] is"),
    (_set("tensors", "0", "crc32", "xyz"), "expected eight hexadecimal digits"),
    (_set("tensors", "0", "crc32", "0" * 8), "tensor 0 is damaged: its checksum is"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=[message[:40] for _, message in CHANGES])
def test_descriptions_that_were_changed(
    change: Callable[[dict[str, Any]], Any], message: str, sound: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(_with_json(sound, change))
    assert message in str(_use(file))


def test_shapes_that_pretend_to_be_huge(tmp_path: Path) -> None:
    """Without any element a shape costs nothing to write."""
    q = torch.zeros(0, 1, 5, 6)
    file = tmp_path / "file"
    write_recording(file, "M", None, {"a": Role("self", "x", "x")}, {"a": [AttentionMap(q, q)]}, {})
    assert _use(file) is None
    content = file.read_bytes()
    header = _header(content)
    (name,) = [name for name in header if name != "__metadata__"]
    header[name]["shape"] = [0, 1, 1 << 40, 6]
    content = _with_header(content, header)
    file.write_bytes(_with_json(content, _set("tensors", name, "shape", [0, 1, 1 << 40, 6])))
    assert "expected an integer from 0 to" in str(_use(file))


@pytest.mark.parametrize("path", [None, 3, b"file"])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(ArgumentError, match=r"path is .*: expected a path"):
        load_recording(path)


def _places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else []
    return [here for key in keys for here in ((*path, key), *_places(content[key], (*path, key)))]


def test_hundreds_of_random_changes(sound: bytes, tmp_path: Path) -> None:
    """Each place of the description in turn: another value, one from elsewhere in it, or none."""
    draw = random.Random(3)
    described = json.loads(_header(sound)["__metadata__"][ENTRY])
    places = _places(described)
    junk = [None, True, -1, 0, 1, 7, 1 << 62, 10**40, 0.5, -1e300, 5e-324, "", "0", "q", [], {}, [[]], [0, 0]]

    def value(at: tuple[Any, ...]) -> Any:
        found: Any = described
        for step in at:
            found = found[step]
        return found

    file = tmp_path / "file"
    opened = 0
    for place in places * 2:
        new = value(draw.choice(places)) if draw.random() < 0.5 else draw.choice(junk)
        file.write_bytes(_with_json(sound, _set(*place, json.loads(json.dumps(new)))))
        opened += _use(file) is None
    assert 0 < opened < len(places)
