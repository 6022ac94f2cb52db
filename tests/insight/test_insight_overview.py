"""Overviews: shares that add up, cells that are unions of cells, pictures and text of any length."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from regard.attention import AttentionMap, Causal
from regard.errors import ArgumentError
from regard.insight import Reading, readings_of
from regard.insight.overview import Overview, draw_overview, overview, render_overview
from regard.insight.picture_page import write_picture_page
from regard.insight.tokens import Role, Tokens


def reading(queries: int, keys: int, heads: int = 2, causal: bool = False) -> Reading:
    torch.manual_seed(queries + keys)
    q, k = torch.randn(1, heads, queries, 4), torch.randn(1, heads, keys, 4)
    role = Role("causal", "text", "text") if causal else Role("cross", "target", "source")
    return readings_of({"a": AttentionMap(q, k, mask=Causal() if causal else None)}, {"a": role})[0]


def test_cells_are_shares_of_the_queries_attention() -> None:
    one = reading(5, 700)
    found = overview([one], head=1, cells=256)
    assert found.shares.shape == (5, 256) and found.rows == (0, 1, 2, 3, 4, 5) and found.columns[-1] == 700
    dense = one.table.dense()[0, 1].numpy()
    wanted = np.add.reduceat(dense, found.columns[:-1], axis=1)
    np.testing.assert_allclose(found.shares, wanted, atol=1e-6)
    np.testing.assert_allclose(found.shares.sum(1), 1.0, atol=1e-5)


def test_long_texts_have_256_cells_a_side() -> None:
    one = reading(1000, 1000, causal=True)
    found = overview([one])
    assert found.shares.shape == (256, 256) and found.view == "a · mean of heads"
    dense = one.table.dense()[0].mean(0).numpy()
    rows = slice(found.rows[100], found.rows[101])
    columns = slice(found.columns[40], found.columns[41])
    np.testing.assert_allclose(found.shares[100, 40], dense[rows, columns].sum(1).mean(), rtol=1e-4)
    assert not np.triu(found.shares, 1).any()


def test_padding_has_no_part_in_a_cell() -> None:
    real = 10
    tokens = Tokens(tuple("x" * 23), (False,) * 23, padding=tuple(n >= real for n in range(23)))
    torch.manual_seed(2)
    table = AttentionMap(torch.randn(1, 2, 23, 4), torch.randn(1, 2, 23, 4))
    role = {"a": Role("self", "text", "text")}
    some = readings_of({"a": table}, role, lambda _: ([tokens], [tokens]), heads=(1, 3))
    dense = table.dense()[0].numpy()
    found = overview(some, head=3, cells=5)
    for view in (found, found.coarser(2, 3)):
        for row in range(len(view.rows) - 1):
            rows = dense[1, view.rows[row] : min(view.rows[row + 1], real)]
            wanted = np.add.reduceat(rows, view.columns[:-1], 1).mean(0) if len(rows) else 0.0
            np.testing.assert_allclose(view.shares[row], wanted, atol=1e-6)
    assert found.view == "a · head 3" and not found.shares[3:].any()


@pytest.mark.parametrize(("high", "wide"), [(7, 5), (3, 4), (1, 1), (100, 100)])
def test_coarser_cells_are_unions(high: int, wide: int) -> None:
    one = reading(23, 31)
    fine = overview([one], cells=16)
    found = fine.coarser(high, wide)
    assert found.shares.shape == (min(high, 16), min(wide, 16))
    assert set(found.rows) <= set(fine.rows) and set(found.columns) <= set(fine.columns)
    dense = one.table.dense()[0].mean(0).numpy()
    summed = np.add.reduceat(np.add.reduceat(dense, found.rows[:-1], 0), found.columns[:-1], 1)
    np.testing.assert_allclose(found.shares, summed / np.diff(found.rows)[:, None], atol=1e-6)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (3, 300), (300, 3), (12, 12), (600, 600)])
@pytest.mark.parametrize("width", [20, 80, 200])
def test_text_fits_the_terminal(queries: int, keys: int, width: int) -> None:
    found = overview([reading(queries, keys)])
    plain = render_overview(found, width, False).splitlines()
    assert all(len(line) <= max(width, len(plain[1])) for line in plain) and len(plain) <= 100
    assert plain[0] == "a · mean of heads"
    coloured = render_overview(found, width, True)
    assert coloured.count("\x1b[0m") == len(coloured.splitlines()) - 2


def test_darker_is_heavier() -> None:
    shares = np.array([[0.9, 0.1, 0.0]], dtype=np.float32)
    found = Overview("v", "target", "source", (0, 1), (0, 1, 2, 3), shares)
    line = render_overview(found, 40, False).splitlines()[2]
    heavy, light = line[2], line[4]
    assert line[2:4] == "██" and light in "·░▒" and len(line) == 6  # nothing is blank, and blanks at an end go
    assert heavy != light
    with pytest.raises(ArgumentError, match="width is 19"):
        render_overview(found, 19, False)


def test_pictures_name_the_tokens_of_short_texts(tmp_path: Path) -> None:
    one = reading(3, 4)
    tokens = [Tokens(tuple(texts), (False,) * len(texts)) for texts in (("ein", "$x", "§"), ("a", "dog", "2", "<eos>"))]
    found = overview([replace(one, queries=tokens[0], keys=tokens[1])])
    assert found.row_texts == ("ein", "$x", "§") and found.to_json()["column_texts"] == ["a", "dog", "2", "<eos>"]
    draw_overview(found, tmp_path / "a.png", "title")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    draw_overview(found, tmp_path / "a.svg")
    again = (tmp_path / "a.svg").read_text("utf-8")
    assert "<svg" in again
    with pytest.raises(ArgumentError, match=r"a\.txt"):
        draw_overview(found, tmp_path / "a.txt")
    with pytest.raises(ArgumentError, match="no head 5"):
        overview([one], head=5)


def test_a_page_of_pictures_keeps_data_out_of_the_markup(tmp_path: Path) -> None:
    found = overview([reading(2, 2)])
    data = {"text": "</script><script>alert(1)</script>"}
    title = 'a "<b>" @DATA@'
    write_picture_page(
        tmp_path / "a.html",
        title,
        {"a map of \x1b<i>": lambda path: draw_overview(found, path)},
        "x 词 < y @DATA@",
        data,
    )
    page = (tmp_path / "a.html").read_text("utf-8")
    assert page.count("<script") == 1
    kept = page.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(kept) == data
    assert "<title>a &quot;&lt;b&gt;&quot; @DATA@</title>" in page
    assert 'alt="a map of &lt;i&gt;"' in page and "<pre>x 词 &lt; y @DATA@</pre>" in page
    assert 'font-family: "regard-cjk"; src: url(data:font/woff' in page
    assert "data:image/svg+xml;base64," in page and "default-src 'none'" in page
    write_picture_page(tmp_path / "b.html", "t\x1b[1m", {}, "", {})
    bare = (tmp_path / "b.html").read_text("utf-8")
    assert "<pre>" not in bare and "\x1b" not in bare and "@font-face" not in bare


def test_the_colour_bar_is_in_per_cent(tmp_path: Path) -> None:
    rcParams = pytest.importorskip("matplotlib").rcParams
    before, rcParams["svg.fonttype"] = rcParams["svg.fonttype"], "none"  # text stays text
    try:
        draw_overview(overview([reading(4, 5)]), tmp_path / "a.svg")
    finally:
        rcParams["svg.fonttype"] = before
    page = (tmp_path / "a.svg").read_text("utf-8")
    assert "10 %" in page and "mathdefault" not in page and "10^" not in page and "×" not in page
