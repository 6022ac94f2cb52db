"""Running text from a file or from standard input."""

import sys
from pathlib import Path

from regard.data.documents import text_blocks
from regard.data.sources import decode_line, display_name
from regard.runs.streaming import check_input


def read_text(path: Path) -> str:
    """All text of a file (compressed ones too), or of standard input where `path` is `-`.

    `\\r\\n` becomes `\\n`, and a byte-order mark is removed, as where models are trained.

    Raises:
        DataError: the file is missing or is not UTF-8 text, or standard input is closed; the message names the file,
            and the line.
    """
    check_input(path)
    if str(path) != "-":
        return "".join(text_blocks(path))
    name = display_name(path)
    lines = sys.stdin.buffer.read().split(b"\n")
    return "\n".join(decode_line(line, name, number) for number, line in enumerate(lines, start=1))
