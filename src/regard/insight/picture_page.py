"""A self-contained HTML page of pictures, with the same in words and the numbers they were drawn from."""

import base64
import html
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from regard.files import write_text
from regard.insight.markup import filled_head
from regard.insight.page import script_json
from regard.insight.page_template import STYLE
from regard.insight.text import visible

_STYLE = (
    STYLE
    + """
body { font-family: regard-cjk, system-ui, "Segoe UI", Roboto, sans-serif; }
img { display: block; max-width: 100%; margin: 0 0 1rem; padding: .8rem; background: #fff;
  border: 1px solid var(--line); border-radius: 12px; }
pre { overflow-x: auto; padding: 1rem; background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  font: 13px/1.35 regard-cjk, ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
"""
)


def write_picture_page(
    path: Path, title: str, pictures: Mapping[str, Callable[[Path], None]], words: str, data: dict[str, Any]
) -> None:
    """Write a page that shows pictures. It loads nothing, and runs no script.

    Args:
        path: the HTML file; written whole or not at all.
        title: the heading.
        pictures: what each shows, for those who can't see it; and what draws it into an SVG file.
        words: the same as text, below them; may be empty.
        data: the numbers, kept in the page's element `data` as JSON.
    """
    shown = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, draw) in enumerate(pictures.items()):
            file = Path(folder) / f"{number}.svg"
            draw(file)
            content = base64.b64encode(file.read_bytes()).decode("ascii")
            shown.append(f'<img alt="{html.escape(visible(name))}" src="data:image/svg+xml;base64,{content}">\n')
    text = f"<pre>{html.escape(words)}</pre>\n" if words else ""
    write_text(
        path,
        filled_head(_STYLE, title, [words])
        + f"<body>\n<main>\n<h1>{html.escape(visible(title))}</h1>\n{''.join(shown)}{text}</main>\n"
        + f'<script type="application/json" id="data">{script_json(data)}</script>\n</body>\n</html>\n',
    )
