"""A panel as SVG inside the page: text stays text, colours are the page's, identities are its own."""

import html
import io
import re

from regard.insight.palette import INK
from regard.insight.text import visible
from regard.runs.compare.report.figures import draw_panel
from regard.runs.compare.report.style import BAND, COLOURS, LINE, SOFT, Panel, Pen

_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", BAND: "--band"} | {
    colour: f"--m{number}" for number, colour in enumerate(COLOURS)
}
_COLOUR = re.compile("|".join(_VARIABLES))


def inline(panel: Panel, name: str) -> str:
    """Draw a panel as an `<svg>` element for the page.

    What belongs to a model is in groups of class `m m0`, `m m1`, …, with a `<title>` that browsers show when it is
    pointed at.

    Args:
        panel: what to draw.
        name: unlike that of every other picture of the page; letters, digits and hyphens.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(panel.width / 72, panel.height / 72), layout="constrained")
    FigureCanvasSVG(figure)
    pen = draw_panel(panel, figure)
    content = io.StringIO()
    # Text as text can be asked for by this setting only; it is set back at once. The salt makes names repeatable.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "regard"}):
        figure.savefig(content, format="svg", metadata={"Date": None}, transparent=True)
    return _adapted(content.getvalue(), panel, pen, name)


def _adapted(svg: str, panel: Panel, pen: Pen, name: str) -> str:
    svg = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="([^"]*)"', svg)
    assert box is not None
    svg = svg[svg.index(">") + 1 :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<[^<>]*>", lambda match: _tag(match[0], pen, name), svg)
    svg = re.sub(r">\s+<", "><", svg)
    label = html.escape(visible(panel.says))
    return f'<svg viewBox="{box[1]}" role="img" aria-label="{label}">{svg.strip()}'


def _tag(tag: str, pen: Pen, name: str) -> str:
    """Adapt one tag; what stands between tags is text, maybe a user's, and stays as it is."""
    group = re.fullmatch(r'<g id="([^"]*)">', tag)
    if group:
        return _group(group[1], pen)
    tag = re.sub(r' id="([^"]*)"', rf' id="{name}-\1"', tag)
    tag = re.sub(r' xlink:href="#', f' href="#{name}-', tag)
    tag = re.sub(r"url\(#", f"url(#{name}-", tag)
    tag = re.sub(r"font(?:-family)?: ([^;\"]*);?", _font_size, tag)
    tag = _COLOUR.sub(lambda match: f"var({_VARIABLES[match[0]]})", tag)
    tag = re.sub(r"(\d+\.\d{2})\d+", r"\1", tag)
    return re.sub(r"\s+", " ", tag)


def _group(identity: str, pen: Pen) -> str:
    if identity not in pen.says:
        return "<g>"
    number, says = pen.says[identity]
    return f'<g class="m m{number}"><title>{html.escape(visible(says))}</title>'


def _font_size(match: re.Match[str]) -> str:
    """Keep the size of matplotlib's `font`; the family is the page's."""
    size = re.search(r"[\d.]+px", match[0])
    return f"font-size: {size[0]};" if size else ""
