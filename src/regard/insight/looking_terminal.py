"""Highlighted texts, head summaries and rankings as text for the terminal."""

from rich.cells import cell_len

from regard.insight.best_head import HeadRanking
from regard.insight.cells import check_width, coloured, cut, right, shade, wrapped
from regard.insight.head_summary import MEASURES, HeadSummary, LayerSummary
from regard.insight.highlight import Highlight, rolled_out
from regard.insight.rollout import RollOut
from regard.insight.text import visible

_TOP = 5
_COLUMN = 5  # a percentage or an entropy
_SHORT = {
    "entropy": "H",
    "relative_entropy": "H/ln",
    "first": "first",
    "special": "spec.",
    "itself": "self",
    "previous": "prev",
    "next": "next",
    "sink": "sink",
}
_EXPLAINED = (
    "H: entropy in nats; H/ln: the same divided by ln of the keys in sight; then mass in per cent on: first key, "
    "special tokens, itself, the one before, the one after, the sink; then the keys that receive most."
)


def render_highlight(highlight: Highlight, width: int, color: bool, special: bool = True) -> str:
    """A highlighted text: the darker a word, the larger its share, relative to the largest that is shown.

    Without colour each word from a tenth of the largest share on is followed by a block that is the darker the larger
    it is. The last line has the heaviest words in per cent.

    Args:
        highlight: what to show.
        width: the terminal's width in cells, at least 20.
        color: whether to use colours (ANSI, 256 colours).
        special: whether special tokens are shown.

    Returns:
        Lines joined by newlines, none wider than `width`.

    Raises:
        ArgumentError: width is below 20.
    """
    check_width(width)
    pieces = highlight.pieces(special)
    top = max((one.share for one in pieces), default=0.0)
    shown = []
    for one in pieces:
        height = one.share / top if top > 0 else 0.0
        text = cut(visible(one.text), width - 1)
        plain = text + shade(height)
        shown.append((coloured(text, height), text) if color else (plain, plain))
    head = _folded(highlight.headline, width)
    heaviest = sorted(pieces, key=lambda one: -one.share)[:_TOP]
    per_cent = [(visible(one.text), f"{100 * one.share:.1f}") for one in heaviest if one.share >= 0.0005]
    bare = [f"{cut(text, width - 1 - len(number))} {number}" for text, number in per_cent]
    if color:
        head = [f"\x1b[1m{line}\x1b[0m" for line in head]
    return "\n".join([*head, *wrapped(shown, width), *wrapped([(x, x) for x in _dotted(bare, width)], width)])


def render_roll_out(result: RollOut, width: int, color: bool, special: bool = True) -> str:
    """A roll-out, a highlighted text for each position and each sequence it reads; see `render_highlight`.

    Raises:
        ArgumentError: width is below 20.
    """
    parts = [render_highlight(one, width, color, special) for one in rolled_out(result)]
    if result.lost.max(initial=0.0) >= 0.0005:
        lost = ", ".join(f"{place}: {100 * x:.1f}" for place, x in zip(result.positions, result.lost, strict=True))
        parts.append("\n".join(_folded(f"lost to sinks and masked rows, in per cent: {lost}", width)))
    return "\n\n".join(parts)


def render_head_summary(summary: HeadSummary, width: int, color: bool) -> str:
    """A table for each attention, a line for each head: its measures, and what it looks at most.

    Columns that don't fit are left out, from the right. Masses are in per cent.

    Args:
        summary: what to show.
        width: the terminal's width in cells, at least 20.
        color: whether to use colours (ANSI, 256 colours).

    Raises:
        ArgumentError: width is below 20.
    """
    check_width(width)
    parts = ["\n".join(_folded(_EXPLAINED, width))]
    parts += [_layer_table(layer, width, color) for layer in summary.layers]
    return "\n\n".join(parts)


def render_head_ranking(ranking: HeadRanking, width: int, color: bool, most: int = 20) -> str:
    """The heads that align best, a line each: alignment error rate, precision and recall in per cent.

    Args:
        ranking: what to show.
        width: the terminal's width in cells, at least 20.
        color: whether to use colours (ANSI).
        most: how many heads.

    Raises:
        ArgumentError: width is below 20.
    """
    check_width(width)
    rows = "the row that predicts a word" if ranking.predicting else "the row that reads a word"
    lines = _folded(f"{ranking.pairs} pairs, {rows}; AER, precision, recall in per cent", width)
    for number, one in enumerate(ranking.heads[:most]):
        score = one.score
        values = "".join(right(f"{100 * x:.1f}", 6) for x in (score.error_rate, score.precision, score.recall))
        values = values[: 6 * max(1, min(3, (width - 12) // 6))]
        head = "mean" if one.head is None else f"head {one.head}"
        name = cut(f"{one.layer} · {head}", width - len(values) - 2)
        line = f"{values}  {name}"
        lines.append(f"\x1b[1m{line}\x1b[0m" if color and number == 0 else line)
    left_out = len(ranking.heads) - most
    return "\n".join([*lines, *([f"… and {left_out} more"] if left_out > 0 else [])])


def _layer_table(layer: LayerSummary, width: int, color: bool) -> str:
    title = cut(f"{layer.name} · {layer.kind} · {layer.rows} rows", width)
    side = max(4, len(str(max(layer.head_numbers))))
    known = [name for name in MEASURES if layer.measures[name] is not None]
    known = known[: max(1, (width - side) // (_COLUMN + 1))]
    lines = [" ".join([right("head", side), *(right(_SHORT[name], _COLUMN) for name in known)])]
    room = width - cell_len(lines[0]) - 2
    for head, number in enumerate(layer.head_numbers):
        line = right(str(number), side)
        for name in known:
            of_heads = layer.measures[name]
            value = 0.0 if of_heads is None else float(of_heads[head])
            if name == "entropy":
                line += " " + right(f"{value:.2f}", _COLUMN)
                continue
            text = right(str(round(100 * value)), _COLUMN - 1) + " "
            # relative entropy is no mass: a dark ground would say "looks there"
            line += " " + (coloured(text, value) if color and name != "relative_entropy" else text)
        names = [f"{visible(one.text)} {round(100 * one.share)}" for one in layer.received[head] if one.share >= 0.005]
        if room >= 8 and names:
            line += "  " + cut(" · ".join(names), room)
        lines.append(line.rstrip())
    if color:
        title = f"\x1b[1m{title}\x1b[0m"
    return "\n".join([title, *lines])


def _folded(text: str, width: int) -> list[str]:
    """Plain text in lines of at most `width` cells."""
    words = [cut(visible(word), width) for word in text.split()]
    return wrapped([(word, word) for word in words], width)


def _dotted(items: list[str], width: int) -> list[str]:
    """Items with a dot after each but the last, where there is room for it."""
    return [f"{x} ·" if n + 1 < len(items) and cell_len(x) + 2 <= width else x for n, x in enumerate(items)]
