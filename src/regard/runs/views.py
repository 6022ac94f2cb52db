"""Alignments of one sentence pair under every choice of layers and heads, and of a whole text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from regard.errors import ArgumentError
from regard.insight import Alignment, Link, links
from regard.runs.scoring import pair_problem
from regard.runs.translator import Attention, Translator

Choice = Mapping[str, int | None]
"""Arguments for `Attention.alignment`: `layer` and `head`, from 0, None for the mean; its defaults where left out."""

DEFAULT: Choice = {}


@dataclass(frozen=True)
class Aligned:
    """A pair of a text and its attention.

    Attributes:
        line: its number, from 1.
        source, target: the pair.
        attention: what the model looked at; None where there is a problem or a side is empty.
        problem: why the model could not read the pair, or None.
    """

    line: int
    source: str
    target: str
    attention: Attention | None
    problem: str | None = None

    def links(self, choice: Choice = DEFAULT) -> set[Link]:
        """The heaviest source word of each target word; none without attention."""
        return set() if self.attention is None else links(self.attention.alignment(**choice))


def view_name(choice: Choice) -> str:
    """What pictures call a choice of layer and head."""
    if choice.get("layer") is None and choice.get("head") is None:
        return "mean of all layers and heads"
    parts = []
    for what in ("layer", "head"):
        if what in choice:
            parts.append(f"mean of {what}s" if choice[what] is None else f"{what} {choice[what]}")
    return " · ".join(parts)


def every_head(attention: Attention) -> dict[str, Alignment]:
    """The alignment of each layer and head, in that order."""
    choices = [{"layer": i, "head": h} for i in range(attention.layers()) for h in range(attention.heads())]
    return {view_name(choice): attention.alignment(**choice) for choice in choices}


def every_view(attention: Attention, choice: Choice = DEFAULT) -> dict[str, Alignment]:
    """The alignment of `choice` first, then the mean of everything, of each layer, and each head."""
    means: list[Choice] = [{"layer": layer, "head": None} for layer in (None, *range(attention.layers()))]
    views = {view_name(one): attention.alignment(**one) for one in (choice, *means)}
    return views | every_head(attention)


def align_text(
    translator: Translator, sources: Sequence[str], targets: Sequence[str] | None, beam: int | None = None
) -> Iterator[Aligned]:
    """Align pairs in order; without targets, each source with the model's own translation.

    An empty side has no attention; a pair that is too long for the model has a problem and disturbs no other.

    Raises:
        ArgumentError: unequal numbers.
    """
    if targets is not None and len(sources) != len(targets):
        raise ArgumentError(f"{len(sources)} sources and {len(targets)} targets: expected one for each")
    for index, source in enumerate(sources):
        target = "" if targets is None else targets[index]
        problem = pair_problem(translator, source, target)
        if targets is None and problem is None:
            target = translator.translate([source], beam=beam)[0].text
            problem = pair_problem(translator, source, target)
        readable = problem is None and bool(source.strip()) and bool(target.strip())
        attention = translator.attention(source, target) if readable else None
        yield Aligned(index + 1, source, target, attention, problem)
