"""One self-contained HTML page on which sentence pairs can be questioned: point at a word, see what it looked at."""

import html
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.errors import ArgumentError
from regard.files import write_text
from regard.insight.alignment import Alignment, Link
from regard.insight.markup import font_face
from regard.insight.page_template import TEMPLATE
from regard.insight.text import language_of, visible


def write_page(
    entries: Sequence[Mapping[str, Alignment]],
    path: Path,
    title: str = "Attention",
    gold: Sequence[Collection[Link] | None] | None = None,
) -> None:
    """Write a page that shows sentence pairs with their alignments.

    The file loads nothing: style, script and data are inside, and its content security policy forbids requests. It
    works by mouse, touch and keyboard, in light and dark, and prints. Chinese, Japanese and Korean characters are
    embedded as a small font where the `cjk` extra is installed, and used where the reader's machine has none. A word
    can be linked to: `#p0t3` opens the page with target word 3 of pair 0 held, `#p0s2` source word 2, `#p0map` the
    heat map of pair 0.

    Args:
        entries: one per sentence pair: view name (for example "mean", "layer 2 · head 3") → alignment. All entries
            have the same view names, all views of an entry the same words. A page of some fifty pairs stays quick.
        path: the HTML file; written whole or not at all.
        title: the heading.
        gold: gold links `(source, target)` of each pair, or None where there are none.

    Raises:
        ArgumentError: no entries or views, views or words that differ, gold links of another number of pairs or
            outside their sentence.
        OSError: the file cannot be written.
    """
    write_text(Path(path), render_page(entries, title, gold))


def render_page(
    entries: Sequence[Mapping[str, Alignment]],
    title: str = "Attention",
    gold: Sequence[Collection[Link] | None] | None = None,
) -> str:
    """Return the page that `write_page` writes, as text; for its arguments and errors see there."""
    views = _views(entries)
    if gold is not None and len(gold) != len(entries):
        raise ArgumentError(f"gold has {len(gold)} pairs, expected {len(entries)}, as many as entries")
    pairs = [
        _pair(number, entry, views, gold[number] if gold is not None else None) for number, entry in enumerate(entries)
    ]
    data = {"views": views, "pairs": pairs}
    words = [word for pair in pairs for side in ("source", "target") for word in pair[side]]
    head, rest = TEMPLATE.split("@DATA@")
    head = head.replace("@FONT@", font_face([*words, title])).replace("@TITLE@", html.escape(visible(title)))
    return head + script_json(data) + rest


def _views(entries: Sequence[Mapping[str, Alignment]]) -> list[str]:
    if not entries:
        raise ArgumentError("entries is empty, expected at least one sentence pair")
    views = list(entries[0])
    if not views:
        raise ArgumentError("entries[0] has no alignment, expected at least one view")
    for number, entry in enumerate(entries):
        if set(entry) != set(views):
            raise ArgumentError(
                f"entries[{number}] has views {sorted(entry)}, expected {sorted(views)} as in entries[0]"
            )
    return views


def _pair(
    number: int, entry: Mapping[str, Alignment], views: Sequence[str], gold: Collection[Link] | None
) -> dict[str, Any]:
    first = entry[views[0]]
    source, target = first.source_words, first.target_words
    for view in views:
        if (entry[view].source_words, entry[view].target_words) != (source, target):
            raise ArgumentError(f"entries[{number}][{view!r}] has other words than entries[{number}][{views[0]!r}]")
    for i, j in gold or ():
        if not (0 <= i < len(source) and 0 <= j < len(target)):
            raise ArgumentError(
                f"gold[{number}] has link {i}-{j}, outside {len(source)} source, {len(target)} target words"
            )
    return {
        "source": [visible(word) for word in source],
        "target": [visible(word) for word in target],
        "sourceLanguage": language_of(source),
        "targetLanguage": language_of(target),
        # thousandths, row by row: a third of the size of decimals, and finer than a screen shows
        "weights": [[round(float(weight) * 1000) for weight in entry[view].weights.flat] for view in views],
        "gold": sorted([i, j] for i, j in gold) if gold is not None else None,
    }


def script_json(data: dict[str, Any]) -> str:
    """Return JSON that can stand in a script element: no `<`, `>` or `&` that could end it or start a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
