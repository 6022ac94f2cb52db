"""Looking at attention: alignments, heads, roll-outs, highlighted texts, for files, browsers, terminals and logs."""

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
from regard.insight.best_head import HeadRanking, HeadScore, rank_heads, word_alignments
from regard.insight.figure import draw_alignment, draw_heads
from regard.insight.head_figure import draw_distances, draw_head_grids, draw_head_ranking
from regard.insight.head_summary import MEASURES, HeadSummary, LayerSummary, Received, summarise_heads
from regard.insight.health import attention_health
from regard.insight.highlight import Highlight, Piece, looked_at, looked_at_by, rolled_out
from regard.insight.highlight_figure import draw_highlight, draw_roll_out
from regard.insight.highlight_page import highlight_html, write_highlight
from regard.insight.looking_page import render_looking_page, write_looking_page
from regard.insight.looking_terminal import (
    render_head_ranking,
    render_head_summary,
    render_highlight,
    render_roll_out,
)
from regard.insight.page import render_page, write_page
from regard.insight.reading import Reading, find_token, readings_between, readings_of
from regard.insight.rollout import RollOut, roll_out
from regard.insight.terminal import render_alignment

__all__ = [
    "MEASURES",
    "Alignment",
    "AlignmentScore",
    "HeadRanking",
    "HeadScore",
    "HeadSummary",
    "Highlight",
    "LayerSummary",
    "Link",
    "Piece",
    "Reading",
    "Received",
    "RollOut",
    "alignment_error_rate",
    "attention_health",
    "draw_alignment",
    "draw_distances",
    "draw_head_grids",
    "draw_head_ranking",
    "draw_heads",
    "draw_highlight",
    "draw_roll_out",
    "find_token",
    "highlight_html",
    "links",
    "looked_at",
    "looked_at_by",
    "parse_gold",
    "parse_pharaoh",
    "pool_to_words",
    "rank_heads",
    "readings_between",
    "readings_of",
    "render_alignment",
    "render_head_ranking",
    "render_head_summary",
    "render_highlight",
    "render_looking_page",
    "render_page",
    "render_roll_out",
    "roll_out",
    "rolled_out",
    "score_links",
    "summarise_heads",
    "to_pharaoh",
    "word_alignments",
    "write_highlight",
    "write_looking_page",
    "write_page",
]
