"""The one colour scale of all pictures: white through blue to deep indigo."""

SCALE = (
    "#ffffff",
    "#d0ecf8",
    "#a2d8f3",
    "#76c3ed",
    "#4eace5",
    "#2c95d7",
    "#1e7ec4",
    "#2666aa",
    "#2f508b",
    "#313b69",
    "#2b2945",
)
"""Eleven anchors for weights 0, 0.1, …, 1. CIELAB lightness falls evenly from 100 to 18, so equal steps of weight look
like equal steps of darkness, in grey print too."""

GOLD = "#d9480f"
"""The outline of gold links: orange, told apart from the scale by every common kind of colour vision."""

INK = "#1f2430"
"""Text on a light ground."""

GRID = "#dfe4ea"
"""Thin lines between cells."""

DARK_FROM = 0.57
"""From this height of the scale on, text on a cell is white."""
