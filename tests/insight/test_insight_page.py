import json
import re
from pathlib import Path

import numpy as np
import pytest

from regard.errors import ArgumentError
from regard.insight.alignment import Alignment
from regard.insight.page import render_page, write_page

NASTY = ("</script><script>alert(1)</script>", "<!--", "&amp;", "\u2028", "@DATA@", "@TITLE@", "三")


def alignment(source: tuple[str, ...] = ("a", "b", "c"), target: tuple[str, ...] = NASTY, seed: int = 0) -> Alignment:
    raw = np.random.default_rng(seed).random((len(target), len(source))) + 1e-3
    return Alignment(source, target, (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32))


def data_of(page: str) -> dict[str, object]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    return json.loads(match[1])  # type: ignore[no-any-return]


def test_words_and_weights_survive_and_nothing_escapes() -> None:
    table = alignment()
    page = render_page([{"mean": table}], title="</title><b> @DATA@ & 三月", gold=[{(2, 1)}])
    data = data_of(page)
    pair = data["pairs"][0]  # type: ignore[index]
    assert pair["target"] == [*NASTY[:3], "␣", *NASTY[4:]]
    assert pair["source"] == ["a", "b", "c"]
    assert pair["targetLanguage"] == "zh-Hans" and pair["sourceLanguage"] is None
    np.testing.assert_allclose(np.reshape(pair["weights"][0], (7, 3)) / 1000, table.weights, atol=5e-4)
    assert pair["gold"] == [[2, 1]]
    assert page.count("<script") == page.count("</script>") == 2
    assert "<title>&lt;/title&gt;&lt;b&gt; @DATA@ &amp; 三月</title>" in page


def test_the_page_loads_nothing() -> None:
    page = render_page([{"mean": alignment()}])
    addresses = set(re.findall(r"https?://[^\s\"'<]*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name space: its name is all that is used
    assert "default-src 'none'" in page
    assert not re.search(r"(?:\ssrc|\shref)\s*=|@import|url\((?!data:)", page)


def test_chinese_is_embedded_once_and_only_when_needed() -> None:
    plain = render_page([{"mean": alignment(target=("x", "y"))}])
    assert "@font-face" not in plain and "@FONT@" not in plain
    page = render_page([{"mean": alignment(target=("三", "月"))}] * 3)
    assert page.count("@font-face") == 1 and "url(data:font/woff;base64," in page


def test_several_views_and_pairs(tmp_path: Path) -> None:
    views = ("mean", "layer 1 · head 2")
    entries = [{view: alignment(target=("x", "y"), seed=n) for view in views} for n in range(53)]
    path = tmp_path / "page.html"
    write_page(entries, path, gold=[None] * 53)
    data = data_of(path.read_text(encoding="utf-8"))
    assert data["views"] == list(views)
    assert len(data["pairs"]) == 53  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_wrong_arguments_are_named() -> None:
    one = alignment()
    with pytest.raises(ArgumentError, match="entries is empty"):
        render_page([])
    with pytest.raises(ArgumentError, match=r"entries\[0\] has no"):
        render_page([{}])
    with pytest.raises(ArgumentError, match=r"entries\[1\] has views"):
        render_page([{"a": one}, {"b": one}])
    with pytest.raises(ArgumentError, match=r"entries\[0\]\['b'\] has other words"):
        render_page([{"a": one, "b": alignment(source=("a", "b", "d"))}])
    with pytest.raises(ArgumentError, match="gold has 2 pairs, expected 1"):
        render_page([{"a": one}], gold=[None, None])
    with pytest.raises(ArgumentError, match=r"gold\[0\] has link 3-0"):
        render_page([{"a": one}], gold=[{(3, 0)}])
