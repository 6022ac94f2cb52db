"""What there is to show of attention, each ready for the terminal, a picture, a page, or as data."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from regard.insight import (
    Alignment,
    HeadRanking,
    HeadSummary,
    Highlight,
    Link,
    Reading,
    RollOut,
    draw_alignment,
    draw_distances,
    draw_head_grids,
    draw_head_ranking,
    draw_heads,
    draw_highlight,
    draw_roll_out,
    links,
    render_alignment,
    render_head_ranking,
    render_head_summary,
    render_highlight,
    render_roll_out,
    score_links,
    to_pharaoh,
    write_highlight,
    write_looking_page,
    write_page,
)
from regard.insight.overview import Overview, draw_overview, render_overview
from regard.insight.picture_page import write_picture_page

Gold = tuple[Collection[Link], Collection[Link]]
"""Sure links and possible ones, which include them."""

PAGE_WIDTH = 100
"""Characters of a line of the text in a page."""


class Look(Protocol):
    """Something about attention, ready to be shown."""

    def render(self, width: int, color: bool) -> str:
        """For a terminal of so many cells; `color` says whether it has colours."""
        ...

    def draw(self, path: Path) -> None:
        """As a picture: .png, .svg or .pdf."""
        ...

    def write_page(self, path: Path) -> None:
        """As a self-contained HTML page."""
        ...

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        ...


@dataclass(frozen=True)
class SummaryLook:
    """Numbers about every head."""

    summary: HeadSummary
    title: str

    def render(self, width: int, color: bool) -> str:
        """See `Look.render`."""
        return render_head_summary(self.summary, width, color)

    def draw(self, path: Path) -> None:
        """See `Look.draw`: a grid of layers and heads for each measure."""
        draw_head_grids(self.summary, path, self.title)

    def write_page(self, path: Path) -> None:
        """See `Look.write_page`: the grids and the distances."""
        pictures: dict[str, Callable[[Path], None]] = {
            "grids of layers and heads, one for each measure": lambda file: draw_head_grids(self.summary, file)
        }
        if any(layer.distances is not None for layer in self.summary.layers):
            pictures["how far each head looks"] = lambda file: draw_distances(self.summary, file)
        write_picture_page(path, self.title, pictures, self.render(PAGE_WIDTH, False), self.to_json())

    def to_json(self) -> dict[str, Any]:
        """See `Look.to_json`."""
        return self.summary.to_json()


@dataclass(frozen=True)
class RollOutLook:
    """What goes into some tokens through all layers."""

    found: RollOut
    title: str

    def render(self, width: int, color: bool) -> str:
        """See `Look.render`."""
        return render_roll_out(self.found, width, color)

    def draw(self, path: Path) -> None:
        """See `Look.draw`."""
        draw_roll_out(self.found, path, self.title)

    def write_page(self, path: Path) -> None:
        """See `Look.write_page`."""
        pictures = {"what goes into each token": lambda file: draw_roll_out(self.found, file)}
        write_picture_page(path, self.title, pictures, self.render(PAGE_WIDTH, False), self.to_json())

    def to_json(self) -> dict[str, Any]:
        """See `Look.to_json`."""
        return self.found.to_json()


@dataclass(frozen=True)
class TextLook:
    """The text with what some tokens looked at, or were looked at by.

    Attributes:
        highlights: one for each token and direction.
        title: of pages.
        special: whether special tokens are shown.
        all: the attentions, for a page on which every token can be chosen; empty: the page has the highlights.
    """

    highlights: Sequence[Highlight]
    title: str
    special: bool = True
    all: Sequence[Reading] = ()

    def render(self, width: int, color: bool) -> str:
        """See `Look.render`."""
        return "\n\n".join(render_highlight(one, width, color, special=self.special) for one in self.highlights)

    def draw(self, path: Path) -> None:
        """See `Look.draw`."""
        draw_highlight(self.highlights, path, special=self.special)

    def write_page(self, path: Path) -> None:
        """See `Look.write_page`."""
        if self.all:
            write_looking_page(self.all, path, self.title)
        else:
            write_highlight(self.highlights, path, self.title, special=self.special)

    def to_json(self) -> dict[str, Any]:
        """See `Look.to_json`."""
        return {"highlights": [one.to_json() for one in self.highlights]}


@dataclass(frozen=True)
class MapLook:
    """A whole map, pooled."""

    found: Overview
    title: str

    def render(self, width: int, color: bool) -> str:
        """See `Look.render`."""
        return render_overview(self.found, width, color)

    def draw(self, path: Path) -> None:
        """See `Look.draw`."""
        draw_overview(self.found, path)

    def write_page(self, path: Path) -> None:
        """See `Look.write_page`."""
        pictures = {f"map: {self.found.view}": self.draw}
        write_picture_page(path, self.title, pictures, "", self.to_json())

    def to_json(self) -> dict[str, Any]:
        """See `Look.to_json`."""
        return self.found.to_json()


@dataclass(frozen=True)
class AlignmentLook:
    """Words of a target and the words of a source that they looked at.

    Attributes:
        views: alignments by name, first the one that is shown.
        grid: of these, those of single heads, in rows of `across`: what a panel is called → the view's name.
        across: heads of a layer.
        title: of pages.
        gold: sure and possible links, to outline and compare with.
    """

    views: Mapping[str, Alignment]
    grid: Mapping[str, str]
    across: int
    title: str
    gold: Gold | None = None

    @property
    def view(self) -> str:
        """The name of the alignment that is shown."""
        return next(iter(self.views))

    @property
    def shown(self) -> Alignment:
        """The alignment that is shown."""
        return self.views[self.view]

    def render(self, width: int, color: bool) -> str:
        """See `Look.render`."""
        found = links(self.shown)
        lines = [self.view, "", render_alignment(self.shown, width, color=color), "", f"links {to_pharaoh(found)}"]
        if self.gold is not None:
            sure, possible = self.gold
            one = score_links([found], [sure], [possible])
            lines.append(f"gold  {to_pharaoh(possible)}")
            lines.append(
                f"alignment error rate {100 * one.error_rate:.1f} % "
                f"(precision {100 * one.precision:.1f} %, recall {100 * one.recall:.1f} %)"
            )
        return "\n".join(lines)

    def draw(self, path: Path) -> None:
        """See `Look.draw`."""
        draw_alignment(self.shown, path, self.view, self._possible())

    def draw_heads(self, path: Path) -> None:
        """Draw a grid of all layers and heads."""
        panels = {name: self.views[view] for name, view in self.grid.items()}
        draw_heads(panels, path, columns=self.across, gold=self._possible())

    def write_page(self, path: Path) -> None:
        """See `Look.write_page`."""
        write_page([self.views], path, self.title, None if self.gold is None else [self.gold[1]])

    def to_json(self) -> dict[str, Any]:
        """See `Look.to_json`."""
        return {
            "view": self.view,
            **self.shown.to_json(),
            "links": sorted(links(self.shown)),
            "views": {name: one.to_json()["weights"] for name, one in self.views.items()},
        }

    def _possible(self) -> Collection[Link] | None:
        return None if self.gold is None else self.gold[1]


@dataclass(frozen=True)
class RankingLook:
    """How well each head aligns, best first."""

    ranking: HeadRanking
    title: str

    def render(self, width: int, color: bool) -> str:
        """See `Look.render`."""
        return render_head_ranking(self.ranking, width, color)

    def draw(self, path: Path) -> None:
        """See `Look.draw`."""
        draw_head_ranking(self.ranking, path, self.title)

    def write_page(self, path: Path) -> None:
        """See `Look.write_page`."""
        pictures = {"alignment error rate of each layer and head": lambda file: draw_head_ranking(self.ranking, file)}
        write_picture_page(path, self.title, pictures, self.render(PAGE_WIDTH, False), self.to_json())

    def to_json(self) -> dict[str, Any]:
        """See `Look.to_json`."""
        return self.ranking.to_json()
