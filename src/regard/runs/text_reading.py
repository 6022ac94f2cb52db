"""How a language model reads a text: what its documents are, and what stands between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from regard.data.documents import Unit

Layout = Literal["stream", "packed"]

NAMES: Final[dict[Unit, str]] = {"file": "file", "line": "lines", "paragraph": "paragraphs"}
"""What messages call documents."""


@dataclass(frozen=True)
class TextReading:
    """How a model read the text that it was trained on.

    Attributes:
        document: what a document of a plain text file was.
        layout: packed: each document stood for itself; stream: one stood after the other. In both a document was closed
            by the end of a text.
    """

    document: Unit
    layout: Layout

    @staticmethod
    def of(content: Mapping[str, Any]) -> "TextReading | None":
        """What a config.json says of it; None if it says nothing.

        Raises:
            ValueError: it says what isn't understood.
        """
        document, layout = content.get("document"), content.get("layout")
        if document is None and layout is None:
            return None
        if document not in get_args(Unit) or layout not in get_args(Layout):
            raise ValueError(f"document {document!r} and layout {layout!r}")
        return TextReading(cast(Unit, document), cast(Layout, layout))

    def content(self) -> dict[str, str]:
        """The inverse of `of`."""
        return {"document": self.document, "layout": self.layout}


def rows_of(
    documents: Sequence[Sequence[int]], reading: TextReading | None, first: Sequence[int], end: Sequence[int]
) -> list[list[int]]:
    """Documents as a model has read them in training: each for itself or all in one row, closed by the end of a text.

    Args:
        documents: their ids.
        reading: how that was; None: it isn't known, and each stands for itself, with nothing that closes it.
        first: what stands before a row.
        end: what closes a document.
    """
    if reading is None:
        return [[*first, *ids] for ids in documents]
    closed = [[*ids, *end] for ids in documents]
    if reading.layout == "packed":
        return [[*first, *ids] for ids in closed]
    return [[*first, *(one for ids in closed for one in ids)]]
