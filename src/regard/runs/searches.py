"""From names and numbers to a search, with a model's own defaults for what is not given."""

from typing import Any

from regard.decoding import Beam, ConstrainedBeam, Greedy, LengthPenalty, Search, Stopping
from regard.errors import ArgumentError
from regard.runs.build import length_penalty
from regard.runs.frames import STOPPING


def choose_search(
    decoding: dict[str, Any],
    search: Search | None,
    *,
    constrained: bool,
    nbest: int | None = None,
    beam: int | None = None,
    penalty: LengthPenalty | None = None,
    stopping: Stopping | None = None,
) -> Search:
    """The search that is asked for, as an object or by its parts.

    Args:
        decoding: a model's defaults: beam, penalty, alpha, perhaps stopping.
        search: the object, or None.
        constrained: whether sentences have phrases that must appear.
        nbest, beam, penalty, stopping: instead of the defaults. nbest is the beam if neither says it. Without phrases
            a beam of 1 is greedy search.

    Raises:
        ArgumentError: the search and parts of one are given, or it is no search; nbest exceeds the beam; the search
            knows no phrases.
    """
    if search is not None:
        if isinstance(search, type) or not isinstance(search, Search):
            raise ArgumentError(f"search is {search!r}; expected a search, such as Greedy() or Beam(4)")
        parts = {"nbest": nbest, "beam": beam, "penalty": penalty, "stopping": stopping}
        given = [name for name, value in parts.items() if value is not None]
        if given:
            raise ArgumentError(f"search and {', '.join(given)} are given; expected one or the other")
        if constrained and not search.takes_constraints:
            raise ArgumentError(f"constraints are given with the search {search}; expected a ConstrainedBeam")
        return search
    width = decoding["beam"] if beam is None else beam
    best = width if nbest is None else nbest
    if width < 1 or not 1 <= best <= width:
        raise ArgumentError(f"nbest must be from 1 to the beam, {width}, not {best}")
    if width == 1 and not constrained:
        return Greedy()
    rule = length_penalty(decoding["penalty"], decoding["alpha"]) if penalty is None else penalty
    kind = ConstrainedBeam if constrained else Beam
    return kind(width, best, rule, STOPPING[decoding.get("stopping", "behind")] if stopping is None else stopping)
