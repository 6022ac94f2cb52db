"""Alignments as text for the terminal, with and without colour, with Chinese in line."""

from rich.cells import cell_len

from regard.insight.alignment import Alignment
from regard.insight.cells import COLOURS, SHADES, check_width, cut, right
from regard.insight.text import visible

_NUMBER = 4  # a shade and three digits
_HEAD_LIMIT = 12  # longer source words are cut in the table's head
_TOP = 3


def render_alignment(alignment: Alignment, width: int, color: bool) -> str:
    """Lay an alignment out as text: one line per target word, weights in per cent.

    Where it fits, a table with a column per source word: each weight from 1 per cent on as a number, with a block that
    is the darker the heavier it is from 10 per cent on (a coloured ground instead where `color` is true). Where it
    does not fit, each target word is followed by its three heaviest source words. Wide characters count two cells;
    no line is wider than `width`; words that would be are cut with an ellipsis.

    Args:
        alignment: what to show.
        width: the terminal's width in cells, at least 20.
        color: whether to use colours (ANSI, 256 colours).

    Returns:
        Lines joined by newlines, none at the end; empty when there are no target words.

    Raises:
        ArgumentError: width is below 20.
    """
    check_width(width)
    source = [visible(word) for word in alignment.source_words]
    target = [visible(word) for word in alignment.target_words]
    if not target:
        return ""
    heads = [cut(word, _HEAD_LIMIT) for word in source]
    columns = [max(cell_len(head), _NUMBER) for head in heads]
    side = max(map(cell_len, target))
    if source and side + sum(column + 1 for column in columns) <= width:
        return _table(alignment, heads, columns, target, side, color)
    return _heaviest(alignment, source, target, width, color)


def _table(
    alignment: Alignment, heads: list[str], columns: list[int], target: list[str], side: int, color: bool
) -> str:
    head = " ".join([" " * side, *(right(name, column) for name, column in zip(heads, columns, strict=True))])
    lines = [head.rstrip()]
    for word, row in zip(target, alignment.weights, strict=True):
        cells = [_cell(float(weight), column, color) for weight, column in zip(row, columns, strict=True)]
        lines.append(" ".join([right(word, side), *cells]).rstrip())
    return "\n".join(lines)


def _cell(weight: float, column: int, color: bool) -> str:
    percent = round(weight * 100)
    if percent < 1:
        return ("· " if color else "·").rjust(column)
    if not color:
        return (_pick(weight, SHADES, " ") + str(percent).rjust(_NUMBER - 1)).rjust(column)
    code = _pick(weight, COLOURS, "2")
    # only the number's own cells are coloured, so columns of any width show equal patches
    return " " * (column - _NUMBER) + f"\x1b[{code}m{str(percent).rjust(_NUMBER - 1)} \x1b[0m"


def _heaviest(alignment: Alignment, source: list[str], target: list[str], width: int, color: bool) -> str:
    side = min(max(map(cell_len, target)), width // 3)
    lines = []
    for word, row in zip(target, alignment.weights, strict=True):
        order = sorted(range(len(row)), key=lambda i: (-float(row[i]), i))[:_TOP]
        line, room = right(cut(word, side), side), width - side
        for i in order:
            weight = float(row[i])
            percent = str(round(weight * 100))
            least = 2 + 1 + len(percent) + 2  # two spaces, a block and a space, the number, one cell of the word
            if percent == "0" or room < least + 2:
                break
            name = cut(source[i], room - least)
            room -= 2 + 2 + cell_len(name) + 1 + len(percent)
            shade = _pick(weight, SHADES, " ")
            number = f"\x1b[1m{percent}\x1b[0m" if color else percent
            shown = f"\x1b[34m{shade}\x1b[0m" if color and shade != " " else shade
            line += f"  {shown} {name} {number}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _pick(weight: float, steps: tuple[tuple[float, str], ...], otherwise: str) -> str:
    return next((value for least, value in steps if weight >= least), otherwise)
