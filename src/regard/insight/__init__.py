"""Looking at attention: word alignments, how good they are, and pictures of them for files, browsers and terminals."""

from regard.insight.alignment import (
    Alignment,
    AlignmentScore,
    Link,
    alignment_error_rate,
    links,
    parse_gold,
    parse_pharaoh,
    pool_to_words,
    score_links,
    to_pharaoh,
)
from regard.insight.figure import draw_alignment, draw_heads
from regard.insight.page import render_page, write_page
from regard.insight.terminal import render_alignment

__all__ = [
    "Alignment",
    "AlignmentScore",
    "Link",
    "alignment_error_rate",
    "draw_alignment",
    "draw_heads",
    "links",
    "parse_gold",
    "parse_pharaoh",
    "pool_to_words",
    "render_alignment",
    "render_page",
    "score_links",
    "to_pharaoh",
    "write_page",
]
