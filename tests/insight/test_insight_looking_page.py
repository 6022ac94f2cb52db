"""The page on which maps are questioned: what is in it is what the map says, and it is bounded and loads nothing."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regard.attention import AttentionMap, Causal
from regard.errors import ArgumentError
from regard.insight import Reading, looking_page, readings_of, render_looking_page, write_looking_page
from regard.insight.tokens import Role, Tokens, Word

SOURCE = Tokens(("<s>", "</script>", "do", "gs"), (True, False, False, False), words=(Word("dogs", (2, 3)),))
TARGET = Tokens(("Hun", "de", "三"), (False,) * 3, words=(Word("Hunde", (0, 1)),))


def readings() -> list[Reading]:
    torch.manual_seed(0)
    maps = {
        "decoder.self": AttentionMap(torch.randn(1, 4, 3, 5), torch.randn(1, 2, 3, 5), mask=Causal()),
        "decoder.cross": AttentionMap(torch.randn(1, 2, 3, 5), torch.randn(1, 2, 4, 5)),
    }
    roles = {"decoder.self": Role("causal", "target", "target"), "decoder.cross": Role("cross", "target", "source")}
    of = {"source": [SOURCE], "target": [TARGET]}
    return readings_of(maps, roles, lambda name: (of[roles[name].queries], of[roles[name].keys]))


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def unpacked(text: str, kind: str) -> Any:
    return np.frombuffer(base64.b64decode(text), kind)


def test_every_weight_is_in_it() -> None:
    some = readings()
    data = data_of(render_looking_page(some))
    for one, record in zip(some, data["attentions"], strict=True):
        assert (record["name"], record["kind"], record["heads"]) == (one.name, one.role.kind, [*range(one.heads)])
        assert record["weights"]["kind"] == "all" and record["weights"]["heads"] == list(range(one.heads))
        weights = unpacked(record["weights"]["values"], "<u2").reshape(one.table.shape[1:]) / 65535
        np.testing.assert_allclose(weights, one.table.dense()[0], atol=1e-5)
        high, wide = record["overview"]["cells"]
        cells = unpacked(record["overview"]["values"], "u1").reshape(one.heads, high, wide) / 255
        largest = np.array(record["overview"]["largest"])[:, None, None]
        np.testing.assert_allclose(cells * largest, one.table.pool((high, wide))[0], atol=3e-3)
    target, source = (data["sequences"][data["attentions"][1][side]] for side in ("rows", "columns"))
    assert target["texts"] == ["Hun", "de", "三"] and target["words"] == [["Hunde", [0, 1]]]
    assert target["language"] == "zh-Hans" and source["special"] == [1, 0, 0, 0]
    assert data["attentions"][0]["rows"] == data["attentions"][0]["columns"] == data["attentions"][1]["rows"]
    assert data["notes"] == []
    measures = {one["name"]: one["values"] for one in data["measures"]}
    assert measures["itself"][1] is None and len(measures["itself"][0]) == 4 and "next" not in measures


@pytest.mark.parametrize("most", [1 << 21, 0])
def test_padding_is_not_shown_and_heads_keep_their_numbers(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(("a", "b", "c", "<pad>"), (False, False, False, True), padding=(False, False, False, True))
    table = AttentionMap(torch.randn(1, 2, 4, 5), torch.randn(1, 2, 4, 5))
    some = readings_of({"a": table}, {"a": ROLE}, lambda _: ([tokens], [tokens]), heads=(1, 3))
    monkeypatch.setattr(looking_page, "NUMBERS", most or 50)  # of which one head's heaviest keys
    data = data_of(render_looking_page(some, heads={"a": [3]} if not most else None))
    record = data["attentions"][0]
    assert data["sequences"][0]["padding"] == [0, 0, 0, 1] and record["heads"] == [1, 3]
    assert record["weights"]["heads"] == ([1, 3] if most else [3])
    weights = unpacked(record["weights"]["values"], "<u2").reshape(-1, 4, 4) / 65535
    assert not weights[:, 3].any()
    wanted = table.dense()[0] if record["weights"]["kind"] == "all" else table.dense()[0, 1:]
    if most:
        np.testing.assert_allclose(weights[:, :3], wanted[:, :3], atol=1e-5)
    cells = unpacked(record["overview"]["values"], "u1").reshape(2, 4, 4)
    assert not cells[:, 3].any() and cells[:, :3].any()


def test_of_long_texts_the_heaviest_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(looking_page, "NUMBERS", 3000)
    torch.manual_seed(1)
    maps = {f"layers.{n}": AttentionMap(torch.randn(1, 4, 40, 5), torch.randn(1, 2, 40, 5)) for n in range(3)}
    some = readings_of(maps, dict.fromkeys(maps, Role("self", "text", "text")))
    notes = write_looking_page(some, tmp_path / "a.html")
    data = data_of((tmp_path / "a.html").read_text("utf-8"))
    # 3 × 40 × 8 numbers a head: one of each layer
    assert [record["weights"]["heads"] for record in data["attentions"]] == [[0], [0], [0]]
    assert list(notes) == data["notes"] and "8 heaviest keys of each token of heads 0" in notes[0]
    weights, places = maps["layers.1"].top(8)
    record = data["attentions"][1]["weights"]
    np.testing.assert_allclose(unpacked(record["values"], "<u2").reshape(40, 8) / 65535, weights[0, 0], atol=1e-5)
    np.testing.assert_array_equal(unpacked(record["places"], "<u4").reshape(40, 8), places[0, 0])
    notes = write_looking_page(some, tmp_path / "b.html", heads={"layers.0": [3], "layers.1": [], "layers.2": [2, 0]})
    data = data_of((tmp_path / "b.html").read_text("utf-8"))
    assert [record["weights"]["heads"] for record in data["attentions"]] == [[3], [], [0]]  # room for one of two
    assert data["attentions"][0]["weights"]["kind"] == "all"
    assert notes[0] == "layers.0: the weights of heads 3; of the other heads the overview"
    monkeypatch.setattr(looking_page, "NUMBERS", 10)
    assert write_looking_page(some, tmp_path / "c.html")[2] == "layers.2: the overview only"


def test_the_overview_of_many_heads_is_coarser(monkeypatch: pytest.MonkeyPatch) -> None:
    one = readings_of({"a": AttentionMap(torch.randn(1, 4, 90, 5), torch.randn(1, 4, 90, 5))}, {"a": ROLE})
    assert data_of(render_looking_page(one))["attentions"][0]["overview"]["cells"] == [64, 64]
    monkeypatch.setattr(looking_page, "CELLS", 4 * 10 * 10)
    assert data_of(render_looking_page(one))["attentions"][0]["overview"]["cells"] == [10, 10]


ROLE = Role("self", "text", "text")


def test_nothing_is_loaded_and_nothing_ends_the_data() -> None:
    page = render_looking_page(readings(), "<img src=x> @DATA@ @TITLE@")
    policy = re.search(r'Content-Security-Policy"\s+content="([^"]*)"', page)
    assert policy is not None and "default-src 'none'" in policy[1] and "http" not in policy[1]
    assert "<img" not in page and "&lt;img" in page
    assert page.count("</script>") == 2 and page.count("<script") == 2
    assert not re.search(r"""(?:src|href)=["']?https?:""", page) and "@import" not in page
    assert data_of(page)["sequences"][1]["texts"][1] == "</script>"


def test_errors(tmp_path: Path) -> None:
    for message, call in (
        ("readings is empty", lambda: render_looking_page([])),
        ("'decoder.cross' has no head 2", lambda: render_looking_page(readings(), heads={"decoder.cross": [2]})),
        ("heads has 'x', expected some of decoder.self", lambda: render_looking_page(readings(), heads={"x": [0]})),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
    with pytest.raises(OSError):
        write_looking_page(readings(), tmp_path / "no" / "a.html")
