"""Text in the cells of a terminal: cut, set right, wrapped, shaded."""

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size

from regard.errors import ArgumentError

NARROWEST = 20
"""The least width that is laid out, in terminal cells."""

SHADES = ((0.75, "█"), (0.5, "▓"), (0.25, "▒"), (0.1, "░"))
"""From which height on which block stands for it."""
COLOURS = ((0.75, "1;97;48;5;25"), (0.5, "1;97;48;5;32"), (0.25, "30;48;5;117"), (0.1, "30;48;5;195"))
"""From which height on which colours stand for it."""


def check_width(width: int) -> None:
    """Raise `ArgumentError` if nothing can be laid out in `width` cells."""
    if width < NARROWEST:
        raise ArgumentError(f"width is {width}, expected at least {NARROWEST} terminal cells")


def cut(text: str, width: int) -> str:
    """The text in at most `width` cells, with an ellipsis where it was cut."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…"


def right(text: str, width: int) -> str:
    """The text at the right of `width` cells."""
    return " " * (width - cell_len(text)) + text


def shade(height: float) -> str:
    """A block that is the darker the nearer `height` is to 1; nothing below a tenth."""
    return next((block for least, block in SHADES if height >= least), "")


def coloured(text: str, height: float) -> str:
    """The text on a ground that is the darker the nearer `height` is to 1; as it is below a tenth."""
    code = next((code for least, code in COLOURS if height >= least), None)
    return text if code is None else f"\x1b[{code}m{text}\x1b[0m"


def wrapped(pieces: Iterable[tuple[str, str]], width: int) -> list[str]:
    """Pieces set one after another in lines of at most `width` cells.

    Args:
        pieces: each as it is printed, and the same without escape sequences, which says how wide it is.
        width: in cells; no piece is wider.
    """
    lines: list[str] = []
    line, used = "", 0
    for printed, bare in pieces:
        wide = cell_len(bare)
        if used and used + 1 + wide > width:
            lines.append(line)
            line, used = "", 0
        line, used = (f"{line} {printed}", used + 1 + wide) if used else (printed, wide)
    return [*lines, line] if used else lines
