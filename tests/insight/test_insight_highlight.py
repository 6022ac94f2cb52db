"""Highlighted texts: rows and columns of maps, joined to words; finding a token; text for the terminal; a page."""

import json
import re

import numpy as np
import pytest
import torch
from rich.cells import cell_len
from rich.text import Text

from regard.attention import AttentionMap, Causal
from regard.errors import ArgumentError
from regard.insight import (
    Highlight,
    Reading,
    find_token,
    highlight_html,
    looked_at,
    looked_at_by,
    readings_between,
    readings_of,
    render_highlight,
    render_roll_out,
    roll_out,
    rolled_out,
)
from regard.insight.tokens import Role, Tokens, Word

SOURCE = Tokens(
    ("<s>", "▁two", "▁do", "gs", "▁play", "</s>"),
    (True, False, False, False, False, True),
    words=(Word("two", (1,)), Word("dogs", (2, 3)), Word("play", (4,))),
)
TARGET = Tokens(
    ("<bos>", "zwei", "Hun", "de", "zwei"),
    (True, False, False, False, False),
    words=(Word("zwei", (1,)), Word("Hunde", (2, 3)), Word("zwei", (4,))),
)


def readings() -> list[Reading]:
    torch.manual_seed(1)
    maps = {
        "encoder.0": AttentionMap(torch.randn(1, 4, 6, 3) * 3, torch.randn(1, 2, 6, 3)),
        "encoder.1": AttentionMap(torch.randn(1, 4, 6, 3) * 3, torch.randn(1, 2, 6, 3)),
        "decoder.0.self": AttentionMap(torch.randn(1, 4, 5, 3), torch.randn(1, 4, 5, 3), mask=Causal()),
        "decoder.0.cross": AttentionMap(torch.randn(1, 4, 5, 3) * 3, torch.randn(1, 4, 6, 3)),
        "decoder.1.cross": AttentionMap(torch.randn(1, 4, 5, 3), torch.randn(1, 4, 6, 3)),
    }
    roles = {name: Role("self", "source", "source") for name in ("encoder.0", "encoder.1")}
    roles["decoder.0.self"] = Role("causal", "target", "target")
    roles |= {name: Role("cross", "target", "source") for name in ("decoder.0.cross", "decoder.1.cross")}
    of = {"source": [SOURCE], "target": [TARGET]}
    return readings_of(maps, roles, lambda name: (of[roles[name].queries], of[roles[name].keys]))


def cross() -> list[Reading]:
    return readings_between(readings(), "target", "source")


def dense(some: list[Reading]) -> torch.Tensor:
    return torch.stack([one.table.dense()[0].double() for one in some])  # (layers, H, Q, K)


def test_rows_and_columns() -> None:
    some = cross()
    weights = dense(some)
    for layer, head, expected in (
        (None, None, weights.mean((0, 1))),
        (None, 2, weights[:, 2].mean(0)),
        ("decoder.1.cross", None, weights[1].mean(0)),
        ("decoder.1.cross", 3, weights[1, 3]),
    ):
        row = looked_at(some, [-3], layer=layer, head=head)
        np.testing.assert_allclose(row.shares, expected[2], atol=1e-6)
        assert (row.sequence, row.other, row.chosen, row.positions) == ("target", "source", "Hun", (2,))
        column = looked_at_by(some, [4], layer=layer, head=head)
        np.testing.assert_allclose(column.shares, expected[:, 4], atol=1e-6)
        assert (column.sequence, column.other, column.chosen) == ("source", "target", "play")
        several = looked_at(some, [2, 3], layer=layer, head=head)
        np.testing.assert_allclose(several.shares, expected[2:4].mean(0), atol=1e-6)
        assert several.chosen == "Hunde"
        np.testing.assert_allclose(
            looked_at_by(some, [2, 3], layer=layer, head=head).shares, expected[:, 2:4].sum(1), atol=1e-6
        )
    assert row.headline == (
        "what Hun (target 2) looked at in the source when it was read, to say de · decoder.1.cross · head 3"
    )


def test_a_headline_says_which_row_of_a_decoder_is_meant() -> None:
    some = readings()
    for where, places, said in (
        (cross(), [1], "zwei (target 1) looked at in the source when it was read, to say Hunde ·"),
        (some[2:3], [2, 3], "Hunde (target 2, 3) looked at when it was read, to say zwei ·"),
        (cross(), [4], "zwei (target 4) looked at in the source when it was read ·"),
        (some[:1], [1], "two (source 1) looked at · "),
    ):
        assert said in looked_at(where, places).headline
    assert "looked at two (source 1) in the target, each when it was read ·" in looked_at_by(cross(), [1]).headline
    assert "looked at two (source 1) · " in looked_at_by(some[:1], [1]).headline


def test_heads_keep_their_numbers_and_padding_looks_at_nothing() -> None:
    q, k = torch.randn(1, 2, 4, 3), torch.randn(1, 2, 4, 3)
    tokens = Tokens(tuple("ab__"), (False,) * 4, padding=(False, False, True, True))
    role = {"a": Role("self", "text", "text")}
    one = readings_of({"a": AttentionMap(q, k)}, role, lambda _: ([tokens], [tokens]), heads=(1, 3))
    weights = one[0].table.dense()[0]
    np.testing.assert_allclose(looked_at(one, [0], head=3).shares, weights[1, 0], atol=1e-6)
    np.testing.assert_allclose(looked_at_by(one, [0], head=3).shares, [*weights[1, :2, 0], 0, 0], atol=1e-6)
    assert looked_at(one, [0]).view == "a · mean of heads 1, 3" and looked_at(one, [0], head=3).view == "a · head 3"
    with pytest.raises(ArgumentError, match="'a' has no head 0, only 1, 3"):
        looked_at(one, [0], head=0)
    with pytest.raises(ArgumentError, match="heads names 3 heads, 'a' has 2"):
        readings_of({"a": AttentionMap(q, k)}, role, heads=(0, 1, 2))


def test_words_get_the_sum_and_give_the_mean() -> None:
    row, column = looked_at(cross(), [1]), looked_at_by(cross(), [1])
    texts = [piece.text for piece in row.pieces()]
    assert texts == ["<s>", "two", "dogs", "play", "</s>"]
    assert [piece.text for piece in row.pieces(special=False)] == ["two", "dogs", "play"]
    assert row.pieces()[2].share == pytest.approx(float(row.shares[2] + row.shares[3]))
    assert column.pieces()[2].text == "Hunde"
    assert column.pieces()[2].share == pytest.approx(float(column.shares[2] + column.shares[3]) / 2)
    masked = looked_at(readings_between(readings(), "target", "target"), [0])  # sees itself alone
    assert [round(piece.share, 6) for piece in masked.pieces()] == [1, 0, 0, 0]


def test_special_tokens_without_a_share_are_left_out() -> None:
    tokens = Tokens(("a", "</s>", "<pad>"), (False, True, True))
    one = Highlight("looked at", "a", (0,), "x", "x", "view", np.float32([0.5, 0.5, 0]), tokens)
    assert [piece.text for piece in one.pieces()] == ["a", "</s>"]


def test_a_roll_out_is_a_text_for_each_sequence() -> None:
    result = roll_out(readings(), [2])
    own, source = rolled_out(result)
    assert (own.other, source.other, source.tokens) == ("target", "source", SOURCE)
    np.testing.assert_array_equal(source.shares, result.shares["source"][0])
    assert own.headline == "what Hun (target 2) gathered from the target · roll-out of 5 attentions"
    assert "gathered from the source" in render_roll_out(result, 200, False)


def test_unknown_tokens_are_numbers() -> None:
    one = readings_of({"a": AttentionMap(torch.randn(3, 2), torch.randn(4, 2))}, {"a": Role("cross", "text", "image")})
    row = looked_at(one, [1])
    assert [piece.text for piece in row.pieces()] == ["0", "1", "2", "3"] and row.chosen == "1"


@pytest.mark.parametrize(
    ("wanted", "positions"),
    [("3", (3,)), ("-1", (4,)), ("Hunde", (2, 3)), ("zwei", (1,)), ("zwei#2", (4,)), ("<bos>", (0,)), ("de", (3,))],
)
def test_finding_a_token(wanted: str, positions: tuple[int, ...]) -> None:
    assert find_token(TARGET, wanted, 5) == positions


@pytest.mark.parametrize("wanted", ["5", "Katze", "zwei#3", "zwei#0", "", "#1"])
def test_finding_no_token(wanted: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(wanted) if wanted else "no token"):
        find_token(TARGET, wanted, 5)
    with pytest.raises(ArgumentError, match="tokens aren't known"):
        find_token(None, "Hunde", 5)
    assert find_token(SOURCE, "do", 6) == (2,)


def test_pieces_as_plain_data() -> None:
    row = looked_at(cross(), [2])
    data = json.loads(json.dumps(row.to_json()))
    np.testing.assert_array_equal(np.float32(data["shares"]), row.shares)
    assert [piece["text"] for piece in data["pieces"]] == ["<s>", "two", "dogs", "play", "</s>"]
    with pytest.raises(ValueError, match="read-only"):
        row.shares[0] = 0


@pytest.mark.parametrize("width", [20, 33, 120])
def test_terminal_wraps(width: int) -> None:
    words = [f"词{n}" if n % 3 else "a-very-long-word-that-does-not-fit-at-all" for n in range(30)]
    shares = np.float32([1 if n == 7 else 0.3 if n == 8 else 0.01 for n in range(30)])
    one = Highlight("looked at", "x", (0,), "a", "b", "view", shares, Tokens(tuple(words), (False,) * 30))
    plain = render_highlight(one, width, False)
    assert all(cell_len(line) <= width for line in plain.splitlines())
    assert "词7█" in plain and "词8▒" in plain and "词10 " in plain.replace("\n", " ")
    coloured = render_highlight(one, width, True)
    assert all(cell_len(Text.from_ansi(line).plain) <= width for line in coloured.splitlines())
    assert "\x1b[1;97;48;5;25m词7\x1b[0m" in coloured and "█" not in coloured
    assert "词7 100.0" in plain.replace("\n", " ")
    with pytest.raises(ArgumentError, match="width is 5"):
        render_highlight(one, 5, False)


def test_page_shows_shares_and_escapes() -> None:
    tokens = Tokens(("<b>", "x&y"), (False, False))
    one = Highlight("looked at", "<i>", (0,), "a", "b", "view", np.float32([0.25, 0.5]), tokens)
    page = highlight_html([one, one], "<title> & more")
    assert "<b>" not in page.replace("<b>&lt;b&gt;</b>", "").replace("<b>x&amp;y</b>", "") and "<i>" not in page
    assert page.count('<section class="pair">') == 2 and "default-src 'none'" in page
    assert '--w:1.000" title="50.00 %">x&amp;y' in page and '--w:0.500" title="25.00 %">&lt;b&gt;' in page
    assert "<script" not in page and "&lt;title&gt; &amp; more" in page
    with pytest.raises(ArgumentError, match="empty"):
        highlight_html([])


def test_errors() -> None:
    some = cross()
    for message, call in (
        ("choose with readings_between", lambda: looked_at(readings(), [0])),
        ("no position 6, only 0 to 4", lambda: looked_at(some, [6])),
        ("no position 6, only 0 to 5", lambda: looked_at_by(some, [6])),
        ("'decoder.0.cross' has no head 4, only 0 to 3", lambda: looked_at(some, [0], head=4)),
        ("has no head -1", lambda: looked_at_by(some, [0], head=-1)),
        ("layer is 'x', expected one of decoder.0.cross", lambda: looked_at(some, [0], layer="x")),
        ("readings is empty", lambda: looked_at([], [0])),
        ("no attention goes source → target", lambda: readings_between(some, "source", "target")),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
