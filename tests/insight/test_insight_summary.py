"""Head summaries against dense tables; which rows count; tables for the terminal."""

import json
import math

import numpy as np
import pytest
import torch
from rich.cells import cell_len
from rich.text import Text

from regard.attention import AttentionMap, Causal, Dense, Padding, Window
from regard.attention.masks import Mask
from regard.errors import ArgumentError
from regard.insight import Reading, readings_of, render_head_summary, summarise_heads
from regard.insight.head_summary import distance_label
from regard.insight.tokens import Role, Tokens
from regard.insight.visible_keys import visible_keys


def tokens_of(texts: str) -> Tokens:
    words = texts.split()
    padding = tuple(word == "[PAD]" for word in words)
    return Tokens(tuple(words), tuple(word[0] in "<[" for word in words), padding=padding)


LEFT = tokens_of("[PAD] [PAD] <s> the old lamp burned")
RIGHT = tokens_of("<s> the old lamp </s> [PAD] [PAD]")


def reading(mask: Mask | None, role: Role, tokens: Tokens | None, **options: torch.Tensor) -> Reading:
    torch.manual_seed(3)
    table = AttentionMap(torch.randn(2, 6, 7, 5), torch.randn(2, 3, 7, 5), mask=mask, **options)
    given = None if tokens is None else (lambda name: ([tokens] * 2, [tokens] * 2))
    return readings_of({"a": table}, {"a": role}, given, element=1)[0]


@pytest.mark.parametrize(
    ("mask", "kind", "tokens", "rows"),
    [
        (None, "self", None, range(7)),
        (Padding(torch.tensor([7, 5])), "self", None, range(5)),
        (Padding(torch.tensor([7, 5])), "self", RIGHT, range(5)),
        (Causal() & Dense((torch.arange(7) >= 2).expand(7, 7)), "causal", None, range(2, 7)),
        (Causal(), "causal", LEFT, range(2, 7)),  # nothing masks the padding, but its tokens say so
        (Causal(), "causal", RIGHT, range(5)),
        (Causal() & Window(2, 0), "causal", None, range(7)),
    ],
)
def test_against_the_dense_table(mask: Mask | None, kind: str, tokens: Tokens | None, rows: range) -> None:
    role = Role("self" if kind == "self" else "causal", "text", "text")
    one = reading(mask, role, tokens)
    assert np.flatnonzero(one.counted).tolist() == list(rows)
    layer = summarise_heads([one], keys=3).layers[0]
    weights = one.table.dense()[0].double()[:, list(rows)]  # (H, rows, K)
    seen = weights > 0
    entropy = torch.special.entr(weights).sum(-1)
    several = seen.sum(-1) > 1
    relative = torch.where(several, entropy / seen.sum(-1).clamp(min=2).log(), 0).sum(-1) / several.sum(-1)
    first = int(seen.any(0).any(0).nonzero()[0])
    diagonal = {
        name: torch.stack([weights[:, n, row - away] for n, row in enumerate(rows) if 0 <= row - away < 7]).sum(0)
        / len(rows)
        for name, away in (("itself", 0), ("previous", 1), ("next", -1))
    }
    expected = {"entropy": entropy.mean(-1), "relative_entropy": relative, "first": weights[..., first].mean(-1)}
    expected |= diagonal
    if kind == "causal":
        assert layer.measures["next"] is None
        del expected["next"]
    for name, value in expected.items():
        found = layer.measures[name]
        assert found is not None
        np.testing.assert_allclose(found, value, atol=1e-6, err_msg=name)
    assert layer.rows == len(rows) and layer.measures["sink"] is None
    if tokens is None:
        assert layer.measures["special"] is None
    else:
        marked = torch.tensor(tokens.special)
        np.testing.assert_allclose(layer.measures["special"], weights[..., marked].sum(-1).mean(-1), atol=1e-6)
    received = weights.mean(1)
    for head, found_keys in enumerate(layer.received):
        order = received[head].argsort(descending=True)[:3].tolist()
        assert [key.position for key in found_keys] == order
        assert [key.share for key in found_keys] == pytest.approx(received[head][order].tolist(), abs=1e-6)
        assert all(key.text == (tokens.texts[key.position] if tokens else str(key.position)) for key in found_keys)
    assert layer.distances is not None
    for n in range(len(layer.edges) + 1):
        low = layer.edges[n - 1] if n else -math.inf
        high = layer.edges[n] if n < len(layer.edges) else math.inf
        mass = sum(
            weights[:, at, key] for at, row in enumerate(rows) for key in range(7) if low <= row - key < high
        ) / len(rows)
        np.testing.assert_allclose(layer.distances[:, n], mass * torch.ones(6), atol=1e-6)


def test_cross_attention_and_sinks() -> None:
    one = reading(None, Role("cross", "target", "source"), None, sink=torch.arange(6.0) - 2)
    layer = summarise_heads([one]).layers[0]
    assert layer.distances is None and layer.edges == ()
    assert all(layer.measures[name] is None for name in ("itself", "previous", "next"))
    sink = layer.measures["sink"]
    assert sink is not None
    np.testing.assert_allclose(sink, 1 - one.table.dense()[0].sum(-1).mean(-1), atol=1e-6)
    assert (np.diff(sink) > 0).mean() > 0.5


def test_rows_that_see_nothing_do_not_count() -> None:
    seen = torch.ones(7, 7, dtype=torch.bool)
    seen[3] = False
    one = reading(Dense(seen), Role("cross", "target", "source"), None)
    assert np.flatnonzero(one.counted).tolist() == [0, 1, 2, 4, 5, 6]
    found = summarise_heads([one]).layers[0].measures["entropy"]
    assert found is not None
    np.testing.assert_allclose(found, one.table.entropy()[0][:, [0, 1, 2, 4, 5, 6]].mean(-1), atol=1e-6)


@pytest.mark.parametrize(
    "mask",
    [None, Causal(), Causal() & Window(2, 0), Padding(torch.tensor([3, 5])) & Causal(), Dense(torch.eye(7) > 0)],
)
def test_visible_keys(mask: Mask | None) -> None:
    table = AttentionMap(torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4), mask=mask)
    torch.testing.assert_close(visible_keys(table.scoring).expand(2, 3, 7), (table.dense() > 0).sum(-1))


def test_names_of_distances() -> None:
    edges = (-3, -1, 0, 1, 2, 4)
    labels = [distance_label(edges, n) for n in range(7)]
    assert labels == ["≤ −4", "−3 … −2", "−1", "0", "1", "2 … 3", "≥ 4"]


def test_plain_data_and_layouts() -> None:
    for shape in ((7, 4), (1, 7, 4), (1, 2, 7, 4)):
        table = AttentionMap(torch.randn(shape), torch.randn(shape))
        one = readings_of({"a": table}, {"a": Role("self", "text", "text")})
        data = json.loads(json.dumps(summarise_heads(one).to_json()))["layers"][0]
        assert len(data["measures"]["entropy"]) == (shape[1] if len(shape) == 4 else 1)
        assert sum(data["distances"]["mass"][0]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("width", [20, 47, 100])
def test_terminal(width: int) -> None:
    summary = summarise_heads([reading(None, Role("self", "text", "text"), RIGHT)])
    plain = render_head_summary(summary, width, False)
    assert all(cell_len(line) <= width for line in plain.splitlines())
    assert "\x1b" not in plain and "a · self · 5 rows" in plain
    coloured = Text.from_ansi(render_head_summary(summary, width, True)).plain
    assert [line.split() for line in coloured.splitlines()] == [line.split() for line in plain.splitlines()]
    entropy = summary.layers[0].measures["entropy"]
    assert entropy is not None and f"{entropy[2]:.2f}" in plain
    with pytest.raises(ArgumentError, match="width is 19"):
        render_head_summary(summary, 19, False)


def test_heads_keep_their_numbers() -> None:
    table = AttentionMap(torch.randn(1, 2, 7, 4), torch.randn(1, 2, 7, 4))
    summary = summarise_heads(readings_of({"a": table}, {"a": Role("self", "text", "text")}, heads=(1, 13)))
    assert summary.to_json()["layers"][0]["heads"] == [1, 13]
    rows = [line.split()[0] for line in render_head_summary(summary, 60, False).splitlines()[-2:]]
    assert rows == ["1", "13"]


def test_errors() -> None:
    table = AttentionMap(torch.zeros(2, 2, 7, 4), torch.zeros(2, 2, 7, 4))
    role = {"a": Role("self", "text", "text")}
    for message, call in (
        ("keys is 0", lambda: summarise_heads(readings_of({"a": table}, role), keys=0)),
        ("readings is empty", lambda: summarise_heads([])),
        ("element is 2: 'a' has batch elements 0 to 1", lambda: readings_of({"a": table}, role, element=2)),
        ("element is -1", lambda: readings_of({"a": table}, role, element=-1)),
        ("maps is empty", lambda: readings_of({}, role)),
        ("roles has none for 'b'", lambda: readings_of({"b": table}, role)),
        ("3 for the rows, of which there are 7", lambda: readings_of({"a": table}, role, lambda _: ([THREE] * 2, []))),
        ("tokens of 1 batch elements", lambda: readings_of({"a": table}, role, lambda _: ([LEFT], []), element=1)),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


THREE = tokens_of("a b c")
