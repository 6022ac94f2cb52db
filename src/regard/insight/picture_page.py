"""A self-contained HTML page of pictures, with the same in words and the numbers they were drawn from."""

import base64
import html
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.files import write_text

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>@TITLE@</title>
<style>
:root { color-scheme: light dark; --ground: #f6f8fa; --card: #fff; --ink: #1f2430; --line: #dfe4ea; }
@media (prefers-color-scheme: dark) { :root { --ground: #12151c; --card: #1b202a; --ink: #e8ecf2; --line: #303846; } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
img { display: block; max-width: 100%; margin: 0 0 1rem; padding: .8rem; background: #fff; box-sizing: border-box;
  border: 1px solid var(--line); border-radius: 12px; }
pre { overflow-x: auto; padding: 1rem; background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  font: 13px/1.35 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
</style>
</head>
<body>
<main>
<h1>@TITLE@</h1>
@PICTURES@
@WORDS@
</main>
<script type="application/json" id="data">@DATA@</script>
</body>
</html>
"""


def write_picture_page(
    path: Path, title: str, pictures: Sequence[Callable[[Path], None]], words: str, data: Mapping[str, Any]
) -> None:
    """Write a page that shows pictures. It loads nothing, and runs no script.

    Args:
        path: the HTML file; written whole or not at all.
        title: the heading.
        pictures: each draws an SVG file.
        words: the same as text, below them; may be empty.
        data: the numbers, kept in the page's element `data` as JSON.
    """
    shown = []
    with tempfile.TemporaryDirectory() as folder:
        for number, draw in enumerate(pictures):
            file = Path(folder) / f"{number}.svg"
            draw(file)
            content = base64.b64encode(file.read_bytes()).decode("ascii")
            alternative = html.escape(title, quote=True)
            shown.append(f'<img alt="{alternative}" src="data:image/svg+xml;base64,{content}">')
    parts = {
        "@TITLE@": html.escape(title),
        "@PICTURES@": "\n".join(shown),
        "@WORDS@": f"<pre>{html.escape(words)}</pre>" if words else "",
        # no tag can begin inside of the data
        "@DATA@": json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
    }
    # in one pass: what is filled in may look like a mark
    write_text(path, re.sub("|".join(parts), lambda mark: parts[mark[0]], PAGE))
