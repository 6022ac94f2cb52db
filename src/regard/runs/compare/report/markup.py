"""Pieces of HTML. Whatever comes from outside goes through `text` or `phrase`, and no other way, into the page."""

import html
from collections.abc import Sequence

from regard.insight.text import language_of, visible
from regard.runs.compare.report.style import Look, Picture
from regard.runs.compare.report.svg import inline

_SHAPES = {
    "o": '<circle cx="14" cy="6" r="4"/>',
    "s": '<path d="M10.2 2.2h7.6v7.6h-7.6z"/>',
    "^": '<path d="M14 1.4 18.6 10H9.4z"/>',
    "D": '<path d="M14 1 19 6 14 11 9 6z"/>',
    "v": '<path d="M14 10.6 18.6 2H9.4z"/>',
    "P": '<path d="M12.4 1.5h3.2v2.9h2.9v3.2h-2.9v2.9h-3.2V7.6H9.5V4.4h2.9z"/>',
    "X": '<path d="m11.6 1.4 2.4 2.4 2.4-2.4 2.2 2.2L16.2 6l2.4 2.4-2.2 2.2L14 8.2l-2.4 2.4-2.2-2.2L11.8 6 9.4 3.6z"/>',
    "h": '<path d="M14 1.2 18.2 3.6v4.8L14 10.8 9.8 8.4V3.6z"/>',
}


def text(value: str) -> str:
    """Return text for the page: on one line, without invisible characters, escaped."""
    return html.escape(visible(value))


def phrase(value: str, tag: str = "bdi", of: str = "") -> str:
    """Return an element for words of any language: its direction and letter shapes are its own."""
    language = language_of([value])
    lang = f' lang="{language}"' if language else ""
    kind = f' class="{of}"' if of else ""
    shown = text(value) if value.strip() else '<i class="soft">nothing</i>'
    return f'<{tag}{kind}{lang} dir="auto">{shown}</{tag}>'


def swatch(look: Look) -> str:
    """Return the sign of a model: its colour, dash and shape."""
    dash = f' stroke-dasharray="{" ".join(str(round(1.6 * part, 1)) for part in look.dash)}"' if look.dash else ""
    number = look.number % len(_SHAPES)
    return (
        f'<svg class="sign" viewBox="0 0 28 12" aria-hidden="true" style="--c:var(--m{number})">'
        f'<path class="stroke" d="M1 6h26"{dash}/>{_SHAPES[look.marker]}</svg>'
    )


def name(look: Look) -> str:
    """Return a model's sign and label."""
    return f'<span class="name">{swatch(look)}{phrase(look.label)}</span>'


def figure(picture: Picture, caption: str) -> str:
    """Return the panels of a picture beside or below each other, as the window is wide or narrow.

    Args:
        picture: its panels are drawn into the page.
        caption: HTML.
    """
    panels = "".join(
        f'<div class="panel"><h3>{text(panel.title)}</h3>{inline(panel, f"{picture.name}-{number}")}</div>'
        for number, panel in enumerate(picture.panels)
    )
    width = max(panel.width for panel in picture.panels)
    return (
        f'<figure style="--w:{width:.0f}"><div class="panels">{panels}</div><figcaption>{caption}</figcaption></figure>'
    )


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], of: str = "") -> str:
    """Return a table in a box that scrolls sideways; the first cell of each row names it.

    Args:
        caption: escaped text.
        head: HTML of the heading row.
        rows: HTML of the cells.
        of: class.
    """
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    )
    kind = f' class="{of}"' if of else ""
    named = f"<caption><span>{caption}</span></caption>"
    return box(f"<table{kind}>{named}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>", caption)


def box(content: str, label: str, of: str = "") -> str:
    """Return a box that scrolls sideways, by the keyboard too.

    Args:
        content: HTML.
        label: what is in it, for those who cannot see it: escaped text.
        of: class besides its own.
    """
    kind = f"wide {of}" if of else "wide"
    return f'<div class="{kind}" tabindex="0" role="group" aria-label="{label}">{content}</div>'


def section(identity: str, title: str, how: str, content: str) -> str:
    """Return a section of the page: a heading, how it is read, its content; all HTML."""
    return (
        f'<section id="{identity}" aria-labelledby="{identity}-h"><h2 id="{identity}-h">{title}</h2>'
        f'<p class="how">{how}</p>{content}</section>'
    )
