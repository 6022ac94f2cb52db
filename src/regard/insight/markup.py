"""What every page shares: a head that loads nothing, with the fonts it needs inside."""

import base64
import html
from collections.abc import Sequence

from regard.insight.fonts import embedded_font
from regard.insight.page_template import page_head
from regard.insight.text import visible


def filled_head(style: str, title: str, texts: Sequence[str]) -> str:
    """The head of a page, with its title, and a small font for characters that a plain Latin font lacks.

    Args:
        style: CSS; no text of a user.
        title: of the page.
        texts: everything that the page shows.
    """
    face = font_face([*texts, title])
    return page_head(style).replace("@FONT@", face).replace("@TITLE@", html.escape(visible(title)))


def font_face(texts: Sequence[str]) -> str:
    """CSS of a small font for characters that a plain Latin font lacks; empty where there are none, or no font."""
    font = embedded_font(texts)
    if font is None:
        return ""
    content = base64.b64encode(font).decode("ascii")
    return f'@font-face {{ font-family: "regard-cjk"; src: url(data:font/woff;base64,{content}) format("woff"); }}'
