"""One self-contained HTML page on which the attentions of a model to one text can be questioned, head by head."""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regard.errors import ArgumentError
from regard.files import write_text
from regard.insight.head_summary import MEASURES, summarise_heads
from regard.insight.looking_template import BODY, STYLE
from regard.insight.markup import filled_head
from regard.insight.page import script_json
from regard.insight.pooled import pooled
from regard.insight.reading import Reading, check_head, special_of, texts_of
from regard.insight.text import language_of, visible
from regard.insight.tokens import Tokens

NUMBERS = 1 << 21  # weights that go into a page, 2 bytes each; beyond it, the heaviest keys only
KEYS = 8  # of each query, where not all do
CELLS = 1 << 20  # of all overviews together
FINEST = 64  # cells across an overview, at most


def write_looking_page(
    readings: Sequence[Reading],
    path: Path,
    title: str = "Attention",
    *,
    heads: Mapping[str, Sequence[int]] | None = None,
) -> tuple[str, ...]:
    """Write a page on which to choose a layer, a head and a token, and see what it looked at and what looked at it.

    Beside the highlighted text there are a grid of all heads by any measure of `summarise_heads`, and an overview of
    the whole map. The file loads nothing and may request nothing; it works by mouse and keyboard, in light and dark.

    Padding isn't shown, and looks at nothing.

    It holds at most two million weights, of the smallest maps first. Of the others it has the 8 heaviest keys of each
    query, for as many heads as there is room for, and of the rest the overview alone.

    Args:
        readings: of one batch element.
        path: the HTML file; written whole or not at all.
        title: the heading.
        heads: of some attentions, the heads whose weights go into the page; the others have all theirs.

    Returns:
        What was left out, in words; the page says it too.

    Raises:
        ArgumentError: no readings, or heads that aren't there.
        OSError: the file cannot be written.
    """
    content, notes = _render(readings, title, heads)
    write_text(Path(path), content)
    return notes


def render_looking_page(
    readings: Sequence[Reading], title: str = "Attention", *, heads: Mapping[str, Sequence[int]] | None = None
) -> str:
    """The page that `write_looking_page` writes, as text; for its arguments and errors see there."""
    return _render(readings, title, heads)[0]


def _render(
    readings: Sequence[Reading], title: str, heads: Mapping[str, Sequence[int]] | None
) -> tuple[str, tuple[str, ...]]:
    if not readings:
        raise ArgumentError("readings is empty, expected one attention at least")
    wanted = _wanted(readings, heads or {})
    with torch.no_grad():
        weights, notes = _weights(readings, wanted)
        finest = max(4, min(FINEST, math.isqrt(CELLS // max(1, sum(one.heads for one in readings)))))
        attentions = [
            {
                "name": one.name,
                "kind": one.role.kind,
                "queries": one.role.queries,
                "keys": one.role.keys,
                "rows": _sequence(one.queries, one.table.shape[-2]),
                "columns": _sequence(one.keys, one.table.shape[-1]),
                "heads": list(one.head_numbers),
                "weights": weights[one.name],
                "overview": _overview(one, finest),
            }
            for one in readings
        ]
    sequences, texts = _shared(attentions)
    summary = summarise_heads(readings, keys=1)
    data = {
        "attentions": attentions,
        "sequences": sequences,
        "measures": [
            {
                "name": name,
                "label": label,
                "values": [
                    None if (x := layer.measures[name]) is None else [round(float(value), 4) for value in x]
                    for layer in summary.layers
                ],
            }
            for name, label in MEASURES.items()
            if any(layer.measures[name] is not None for layer in summary.layers)
        ],
        "notes": list(notes),
    }
    body, rest = BODY.split("@DATA@")
    body = body.replace("@TITLE@", html.escape(visible(title)))
    return filled_head(STYLE, title, texts) + body + script_json(data) + rest, notes


def _wanted(readings: Sequence[Reading], heads: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Which heads of each attention."""
    strangers = sorted(heads.keys() - {one.name for one in readings})
    if strangers:
        raise ArgumentError(f"heads has {strangers[0]!r}, expected some of {', '.join(one.name for one in readings)}")
    for one in readings:
        for head in heads.get(one.name, ()):
            check_head(one, head)
    return {one.name: sorted(set(heads.get(one.name, one.head_numbers))) for one in readings}


def _weights(
    readings: Sequence[Reading], wanted: Mapping[str, list[int]]
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """The weights of each attention that go into the page, and what doesn't."""
    room = NUMBERS
    found: dict[str, dict[str, Any]] = {}
    fitting: dict[str, list[int]] = {}  # heads of which there is a part
    for one in sorted(readings, key=lambda one: one.table.shape[-2] * one.table.shape[-1]):
        chosen = wanted[one.name]
        count = len(chosen) * one.table.shape[-2] * one.table.shape[-1]
        if count <= room:
            room -= count
            found[one.name] = {"kind": "all", "heads": chosen, "values": _all(one, chosen)}
        else:
            fitting[one.name] = []
    long = [one for one in readings if one.name in fitting]
    for number in range(max((one.heads for one in long), default=0)):  # a head of each layer before a second of any
        for one in long:
            count = 3 * one.table.shape[-2] * min(KEYS, one.table.shape[-1])  # an index takes as much as two weights
            if number < len(wanted[one.name]) and count <= room:
                room -= count
                fitting[one.name].append(wanted[one.name][number])
    notes = []
    for one in readings:
        count, chosen = min(KEYS, one.table.shape[-1]), wanted[one.name]
        if one.name in fitting:
            chosen = fitting[one.name]
            found[one.name] = {"kind": "top", "heads": chosen, "n": count, **_top(one, chosen, count)}
        if one.name in fitting or len(chosen) < one.heads:
            notes.append(_note(one, chosen, count if one.name in fitting else None))
    return found, tuple(notes)


def _note(one: Reading, heads: Sequence[int], count: int | None) -> str:
    """What there is of an attention, where it isn't everything."""
    if not heads:
        return f"{one.name}: the overview only"
    some = "all heads" if len(heads) == one.heads else f"heads {', '.join(map(str, heads))}"
    rest = "" if len(heads) == one.heads else "; of the other heads the overview"
    what = "the weights" if count is None else f"the {count} heaviest keys of each token"
    return f"{one.name}: {what} of {some}{rest}"


def _all(one: Reading, heads: Sequence[int]) -> str:
    """Weights (heads, Q, K) as numbers from 0 to 65,535."""
    table = one.table[0].float().cpu()[_places(one, heads)] * _counted(one)
    return _packed(_fraction(table, 65535).astype("<u2"))


def _top(one: Reading, heads: Sequence[int], count: int) -> dict[str, str]:
    """The heaviest keys (heads, Q, count): their weights from 0 to 65,535 and their indices."""
    if not heads:
        return {"values": "", "places": ""}
    weights, places = one.table.detached(_places(one, heads)).top(count)
    weights = weights[0].float().cpu() * _counted(one)
    indices = places[0].clamp(min=0).cpu().numpy().astype("<u4")
    return {"values": _packed(_fraction(weights, 65535).astype("<u2")), "places": _packed(indices)}


def _places(one: Reading, heads: Sequence[int]) -> list[int]:
    """Where these heads are in the map."""
    return [one.head_numbers.index(head) for head in heads]


def _counted(one: Reading) -> Tensor:
    """1 for each row that counts, else 0: (Q, 1)."""
    return torch.as_tensor(one.counted.astype(np.float32))[:, None]


def _overview(one: Reading, finest: int) -> dict[str, Any]:
    """Of each head a grid of means, as numbers from 0 to 255 of the largest in it."""
    cells = tuple(min(finest, length) for length in one.table.shape[2:])
    means = pooled(one, (cells[0], cells[1])).float().cpu()  # (H, h, w)
    largest = means.amax((1, 2)).clamp(min=1e-12)
    return {
        "cells": list(cells),
        "values": _packed(_fraction(means / largest[:, None, None], 255).astype(np.uint8)),
        "largest": [float(f"{x:.6g}") for x in largest.tolist()],
    }


def _fraction(x: Tensor, steps: int) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = (x.clamp(0, 1) * steps).round().numpy()
    return found


def _packed(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _sequence(tokens: Tokens | None, length: int) -> dict[str, Any]:
    texts = [visible(text) for text in texts_of(tokens, length)]
    words = [] if tokens is None else [[visible(word.text), list(word.tokens)] for word in tokens.words if word.tokens]
    return {
        "texts": texts,
        "special": [int(x) for x in special_of(tokens, length)],
        "padding": [] if tokens is None else [int(x) for x in tokens.padding],
        "words": words,
        "language": language_of(texts),
    }


def _shared(attentions: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Each sequence once; attentions refer to them by number. And everything that is shown."""
    sequences: list[dict[str, Any]] = []
    for one in attentions:
        for side in ("rows", "columns"):
            if one[side] not in sequences:
                sequences.append(one[side])
            one[side] = sequences.index(one[side])
    texts = [text for one in sequences for text in (*one["texts"], *(word for word, _ in one["words"]))]
    return sequences, [*texts, *(one["name"] for one in attentions)]
