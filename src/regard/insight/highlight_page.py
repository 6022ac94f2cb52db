"""Highlighted texts as a page without a script."""

import html
from collections.abc import Sequence
from pathlib import Path

from regard.errors import ArgumentError
from regard.files import write_text
from regard.insight.highlight import Highlight
from regard.insight.markup import filled_head
from regard.insight.page_template import STYLE
from regard.insight.text import language_of, visible

_STYLE = (
    STYLE
    + """
body { font-family: regard-cjk, system-ui, "Segoe UI", Roboto, sans-serif; }
.pair h2 { font-size: .95rem; font-weight: 400; color: var(--soft); margin: 0 0 .6rem; overflow-wrap: anywhere; }
.text { display: flex; flex-wrap: wrap; gap: .3rem .25rem; margin: 0; }
.text .word { cursor: default; }
.text .special { color: var(--soft); }
.text .strong { color: var(--on-heat); }
"""
)
_TOP = 6


def write_highlight(
    highlights: Highlight | Sequence[Highlight], path: Path, title: str = "Attention", special: bool = True
) -> None:
    """Write highlighted texts as one HTML file that loads nothing; see `highlight_html`.

    Raises:
        ArgumentError: there is no highlight.
        OSError: the file cannot be written.
    """
    write_text(Path(path), highlight_html(highlights, title, special))


def highlight_html(highlights: Highlight | Sequence[Highlight], title: str = "Attention", special: bool = True) -> str:
    """A page of highlighted texts: the darker a word, the larger its share, relative to the largest that is shown.

    It has no script and requests nothing. Pointing at a word shows its share, the largest are named below each text.

    Args:
        highlights: one or several.
        title: the heading.
        special: whether special tokens are shown.

    Raises:
        ArgumentError: there is no highlight.
    """
    several = [highlights] if isinstance(highlights, Highlight) else list(highlights)
    if not several:
        raise ArgumentError("highlights is empty, expected one text at least")
    texts = [visible(piece.text) for one in several for piece in one.pieces(special)]
    sections = "\n".join(_section(one, special) for one in several)
    heading = html.escape(visible(title))
    head = filled_head(_STYLE, title, [*texts, *(one.headline for one in several)])
    return f"{head}<body>\n<main>\n<h1>{heading}</h1>\n{sections}\n</main>\n</body>\n</html>\n"


def _section(one: Highlight, special: bool) -> str:
    pieces = one.pieces(special)
    most = max((piece.share for piece in pieces), default=0.0)
    words = []
    for piece in pieces:
        depth = piece.share / most if most > 0 else 0.0
        names = "word" + (" strong" if depth > 0.65 else " special" if piece.special and depth < 0.2 else "")
        words.append(
            f'<span class="{names}" style="--w:{depth:.3f}" title="{100 * piece.share:.2f} %">'
            f"{html.escape(visible(piece.text))}</span>"
        )
    largest = sorted(pieces, key=lambda piece: -piece.share)[:_TOP]
    named = " · ".join(f"<b>{html.escape(visible(p.text))}</b> {100 * p.share:.1f} %" for p in largest if p.share > 0)
    language = language_of(piece.text for piece in pieces)
    tag = f' lang="{language}"' if language else ""
    return (
        f'<section class="pair"><h2>{html.escape(visible(one.headline))}</h2>\n'
        f'<p class="text" dir="auto"{tag}>{" ".join(words)}</p>\n<p class="says">{named}</p></section>'
    )
