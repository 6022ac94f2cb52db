"""Recordings on disk: what is opened is what was recorded, without the model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import regard
from regard.attention import AttentionMap, Bias, Causal, Dense, Interval
from regard.attention.operands import Operand
from regard.errors import ArgumentError, UnsupportedError
from regard.insight.tokens import Role, Tokens, Word
from regard.recording import Recording, record
from regard.recording.file import load_recording
from regard.recording.writing import ENTRY, TensorStore, checksum, write_recording
from regard.runs.load import load_translator


class Maps:
    """A `Store` in memory."""

    def __init__(self, calls, sequences=None) -> None:
        self._calls, self._sequences = calls, sequences or {}

    def names(self):
        return self._calls.keys()

    def calls(self, name):
        return self._calls[name]

    def tokens(self, sequence):
        return self._sequences.get(sequence, [])


def _draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _one(table: AttentionMap) -> Recording:
    return Recording("Small", {"layer": Role("causal", "text", "text")}, Maps({"layer": [table]}))


def _assert_same(before: Recording, after: Recording) -> None:
    assert (after.model, after.heads, after.roles) == (before.model, before.heads, before.roles)
    assert list(after) == list(before)
    for name in before:
        assert after.tokens(name) == before.tokens(name)
        assert len(after.calls(name)) == len(before.calls(name))
        for a, b in zip(before.calls(name), after.calls(name), strict=True):
            assert torch.equal(a.dense(), b.dense()) and a.scoring.q.dtype == b.scoring.q.dtype


@pytest.fixture(scope="module")
def recorded(tiny_model) -> Recording:
    translator = load_translator(tiny_model.directory)
    texts = ["one dog sleeps", "today two cats play"]
    with torch.no_grad(), record(translator) as recording:
        for said in ("ein Hund schläft", "heute spielen zwei Katzen"):
            translator.score(texts, [said, said])
    return recording


def test_a_translators_recording(recorded: Recording, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    recorded.save(file)
    opened = regard.load_recording(file)
    _assert_same(recorded, opened)
    queries, keys = opened.tokens("decoder.layers.0.cross")
    assert [word.text for word in keys[1].words] == ["today", "two", "cats", "play"]
    assert queries[0].texts[0] == "<bos>" and queries[0].special[0]
    assert [file] == list(tmp_path.iterdir())
    opened.save(file)  # over the file that it still lies in
    _assert_same(recorded, load_recording(file))
    _assert_same(recorded, opened)


def test_which_heads_were_kept_is_known(tiny_model, tmp_path: Path) -> None:
    translator = load_translator(tiny_model.directory, device="cpu")
    with record(translator, heads=[1, 0]) as recording:
        translator.score(["two dogs play"], ["zwei hunde"])
    recording.save(tmp_path / "some.safetensors")
    after = load_recording(tmp_path / "some.safetensors")
    _assert_same(recording, after)
    assert after.heads == (1, 0)


def test_the_same_recording_is_the_same_file(recorded: Recording, tmp_path: Path) -> None:
    recorded.save(tmp_path / "a")
    recorded.save(str(tmp_path / "b"))
    load_recording(tmp_path / "a").save(tmp_path / "c")
    first = (tmp_path / "a").read_bytes()
    assert first == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_dtypes(dtype: torch.dtype, tmp_path: Path) -> None:
    table = AttentionMap(_draw(2, 4, 5, 6).to(dtype), _draw(2, 2, 7, 6).to(dtype), mask=Causal(), sink=_draw(4))
    _one(table).save(tmp_path / "a")
    _assert_same(_one(table), load_recording(tmp_path / "a"))


def test_several_calls_are_kept(tmp_path: Path) -> None:
    tables = [AttentionMap(_draw(1, 2, n, 4, seed=n), _draw(1, 2, n, 4), mask=Causal()) for n in (3, 1, 5)]
    roles = {
        "b": Role("causal", "text", "text"),
        "never ran": Role("cross", "text", "image"),
        "a": Role("self", "x", "x"),
    }
    before = Recording("M", roles, Maps({"a": tables[:1], "b": tables}))
    before.save(tmp_path / "file")
    after = load_recording(tmp_path / "file")
    _assert_same(before, after)
    assert [table.shape[2] for table in after.calls("b")] == [3, 1, 5] and after["b"].shape[2] == 5
    assert "never ran" not in after and after.roles["never ran"].keys == "image"
    with pytest.raises(KeyError, match="'c' was not recorded; recorded: b, a"):
        after["c"]


def test_tokens_of_any_kind(tmp_path: Path) -> None:
    texts = ("</s>", "同じ", '"\n\\', "\udcff", "crc32", "", "🐕")
    rows = [
        Tokens(texts, (True, *[False] * 6), (-1, 2, 3, 1 << 40, 0, 0, 9), (Word("同じ", (1, 2)), Word("x", ()))),
        Tokens(("0",) * 7, (False,) * 7),
    ]
    table = AttentionMap(_draw(2, 1, 7, 4), _draw(2, 1, 7, 4))
    before = Recording(
        '"crc32": "00000000"', {"layer": Role("self", "text", "text")}, Maps({"layer": [table]}, {"text": rows})
    )
    before.save(tmp_path / "file")
    after = load_recording(tmp_path / "file")
    _assert_same(before, after)
    assert after.tokens("layer") == (rows, rows)


def test_a_tensor_that_layers_share_is_stored_once(tmp_path: Path) -> None:
    mask = Dense(_draw(1, 1, 200, 200) > 0)
    roles = {f"layer {i}": Role("self", "text", "text") for i in range(20)}
    tables = {
        name: [AttentionMap(_draw(1, 1, 200, 2, seed=i), _draw(1, 1, 200, 2), mask=mask).detached()]
        for i, name in enumerate(roles)
    }
    Recording("M", roles, Maps(tables)).save(tmp_path / "file")
    assert 40_000 < (tmp_path / "file").stat().st_size < 2 * 40_000 + 20 * 3 * 1_600
    after = load_recording(tmp_path / "file")
    for name, (table,) in tables.items():
        assert torch.equal(after[name].dense(), table.dense())


def test_equal_bytes_of_another_shape_or_dtype_are_kept_apart() -> None:
    store, x = TensorStore(), torch.zeros(2, 3)
    names = [store.put(one) for one in (x, x.view(3, 2), x.to(torch.int32), x.clone(), x[:1], torch.zeros(0, 3), x[1:])]
    assert names == ["0", "1", "2", "0", "3", "4", "3"]
    storages = [one.untyped_storage().data_ptr() for one in store.tensors.values() if one.numel()]
    assert len(set(storages)) == len(storages)


def test_opened_tensors_are_not_read_and_the_file_is_never_written_to(tmp_path: Path) -> None:
    _one(AttentionMap(_draw(1, 2, 5, 6), _draw(1, 2, 5, 6))).save(tmp_path / "file")
    before = (tmp_path / "file").read_bytes()
    table = load_recording(tmp_path / "file")["layer"]
    table.scoring.q.fill_(3.0)
    assert (tmp_path / "file").read_bytes() == before


def test_what_calls_share_is_read_and_widened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = Interval(torch.tensor([0, 0, 1, 2, 3]), torch.tensor([1, 2, 3, 4, 5])) & Dense(_draw(5, 5) < 9)
    table = AttentionMap(_draw(1, 2, 5, 6), _draw(1, 2, 5, 6), mask=mask)
    roles = {name: Role("causal", "text", "text") for name in ("a", "b")}
    write_recording(tmp_path / "file", "M", None, roles, {"a": [table] * 20, "b": [table] * 20}, {})
    looked: list[int] = []

    def count(x: torch.Tensor) -> int:
        looked.append(checksum(x))
        return looked[-1]

    monkeypatch.setattr("regard.recording.file.checksum", count)
    opened = load_recording(tmp_path / "file")
    tables = [*opened.calls("a"), *opened.calls("b")]
    assert len(tables) == 40 and len(looked) == len(set(looked)) == 4  # q which is k, start, stop, dense
    for which in ("start", "stop"):
        assert len({getattr(one.scoring.visibility, which).data_ptr() for one in tables}) == 1
    assert torch.equal(tables[-1].dense(), table.dense())


def test_no_model_and_no_transformers_is_needed(recorded: Recording, tmp_path: Path) -> None:
    recorded.save(tmp_path / "file")
    code = (
        "import sys, regard; r = regard.load_recording(sys.argv[1]); print(len(r), r['decoder.layers.0.cross'].shape);"
        "assert 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "file"], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1)[0] == str(len(recorded))


def test_whole_or_not_at_all(recorded: Recording, tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    monkeypatch.setattr("regard.recording.writing.save_file", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        recorded.save(file)
    assert file.read_text() == "old" and [file] == list(tmp_path.iterdir())


class Mine(Bias):
    def operands(self, extent):
        return {"x": Operand(torch.zeros(1, 1, 1, 1), "table")}

    def block(self, parts, rows, columns, extent):
        return parts["x"]

    def at(self, parts, extent):
        return lambda b, h, i, j: parts["x"][0, 0, 0, 0]


def test_what_can_not_be_saved(recorded: Recording, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(ArgumentError, match="nothing was recorded"):
        Recording("M", recorded.roles, Maps({})).save(tmp_path / "file")
    q = _draw(1, 1, 3, 4)
    with pytest.raises(UnsupportedError, match=r"^layer: Mine can't be stored"):
        _one(AttentionMap(q, q, bias=Mine())).save(tmp_path / "file")
    monkeypatch.setattr("regard.recording.writing.LARGEST", 1000)
    with pytest.raises(UnsupportedError, match="of which a file can hold 1,000"):
        recorded.save(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        write_recording(
            tmp_path / "nowhere" / "file",
            "M",
            None,
            recorded.roles,
            {"x": []} | {"layer": [recorded["decoder.layers.0.cross"]]},
            {},
        )
    assert list(tmp_path.iterdir()) == []


def test_the_format_is_as_documented(tmp_path: Path) -> None:
    """Reads a file by what docs/recording-format.md says, and computes its weights by hand."""
    q, k = _draw(1, 2, 3, 4), _draw(1, 1, 3, 4, seed=1)
    _one(AttentionMap(q, k, mask=Causal(), softcap=2.0)).save(tmp_path / "file")
    with safe_open(tmp_path / "file", "pt") as file:
        content = json.loads(file.metadata()[ENTRY])
        assert (content["format"], content["version"], content["model"]) == ("regard recording", 1, "Small")
        (layer,) = content["attentions"]
        assert (layer["name"], layer["kind"], layer["queries"], layer["keys"]) == ("layer", "causal", "text", "text")
        (call,) = layer["calls"]
        assert content["tensors"][call["tensors"]["q"]]["shape"] == [1, 2, 3, 4]
        queries, keys = (file.get_tensor(call["tensors"][name]) for name in ("q", "k"))
    scores = call["scale"] * queries @ keys.transpose(-1, -2)
    scores = torch.tanh(scores / call["softcap"]) * call["softcap"]
    i, j = torch.arange(3)[:, None], torch.arange(3)
    weights = scores.masked_fill(j > i + call["visibility"]["causal"], -torch.inf).softmax(-1)
    torch.testing.assert_close(load_recording(tmp_path / "file")["layer"].dense(), weights)
