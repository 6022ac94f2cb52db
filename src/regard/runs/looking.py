"""From what a recording holds and what a person wants to see of it to something that can be shown and written."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np

from regard.data import split_words
from regard.errors import ArgumentError
from regard.insight import (
    Alignment,
    Link,
    Reading,
    find_token,
    looked_at,
    looked_at_by,
    rank_heads,
    readings_of,
    roll_out,
    summarise_heads,
    word_alignments,
)
from regard.insight.overview import overview
from regard.insight.reading import head_range, mean_name
from regard.insight.tokens import Kind, Tokens
from regard.recording import Recording
from regard.runs.looks import AlignmentLook, Gold, MapLook, RankingLook, RollOutLook, SummaryLook, TextLook
from regard.runs.subjects import Subject

Direction = Literal["from", "to"]
"""Of attention: from a token to what it looked at, or to a token from what looked at it."""


@dataclass(frozen=True)
class Which:
    """Which attentions of a model are meant.

    Attributes:
        kind: "self", "causal" or "cross"; None: "cross" if there are any, else that of the model's last attention.
        layer: a number from 0, negative from the end, among those of the kind; or a pattern over names with `*` and
            `?`, which goes without a kind as well; None: all.
        head: a head, by its number in the model; None: all.
    """

    kind: Kind | None = None
    layer: str | None = None
    head: int | None = None

    def of(self, readings: Sequence[Reading]) -> list[Reading]:
        """Those meant, of one kind unless a pattern is wider.

        Raises:
            ArgumentError: there is none.
        """
        pattern = self.layer is not None and not _is_number(self.layer)
        kind = self.kind
        if kind is None and not pattern:
            kind = default_kind(readings)
        found = [one for one in readings if kind in (None, one.role.kind)]
        if not found:
            known = ", ".join(dict.fromkeys(one.role.kind for one in readings))
            raise ArgumentError(f"kind {kind}: there is no such attention here, only: {known}")
        if self.layer is None:
            return found
        if pattern:
            chosen = [one for one in found if fnmatchcase(one.name, self.layer)]
            if not chosen:
                raise ArgumentError(f"layer {self.layer}: no attention is called so; {_names(found)}")
            return chosen
        number = int(self.layer)
        if not -len(found) <= number < len(found):
            raise ArgumentError(f"layer {number}: there are {kind} attentions 0 to {len(found) - 1}; {_names(found)}")
        return [found[number]]

    def alike(self, readings: Sequence[Reading]) -> list[Reading]:
        """Those meant, all between the same two sequences.

        Raises:
            ArgumentError: there is none, they are not, or there is no such head.
        """
        found = self.of(readings)
        pairs = {(one.role.queries, one.role.keys): None for one in found}
        if len(pairs) > 1:
            raise ArgumentError(
                f"layer {self.layer}: attentions between several sequences; choose a kind as well, or fewer: "
                f"{_names(found)}"
            )
        for one in found if self.head is not None else ():
            if self.head not in one.head_numbers:
                raise ArgumentError(f"head {self.head}: {one.name} has heads {head_range(one)}")
        return found

    def view(self, found: Sequence[Reading]) -> str:
        """What is shown, in words."""
        layer = found[0].name if len(found) == 1 else f"mean of {len(found)} layers ({found[0].role.kind})"
        return f"{layer} · {mean_name(found[0]) if self.head is None else f'head {self.head}'}"


def readings(recording: Recording, element: int = 0) -> list[Reading]:
    """The attentions of one batch element of a recording.

    Raises:
        ArgumentError: nothing was recorded, or there is no such element.
    """
    return readings_of(recording, recording.roles, recording.tokens, element, recording.heads)


def default_kind(found: Sequence[Reading]) -> Kind:
    """Cross-attention where there is any, else whatever the model's last attention is."""
    kinds = [one.role.kind for one in found]
    return "cross" if "cross" in kinds else kinds[-1]


def look_at_summary(found: Sequence[Reading], which: Which, title: str) -> SummaryLook:
    """Numbers about every head of the attentions meant; of all kinds unless one is named."""
    wide = which.kind is None and which.layer is None
    return SummaryLook(summarise_heads(list(found) if wide else which.of(found)), title)


def look_at_rollout(found: Sequence[Reading], which: Which, tokens: Sequence[str], title: str) -> RollOutLook:
    """What goes into some tokens: of the sequence that the last attention reads for, or that of the kind named.

    Raises:
        ArgumentError: there is no such token or kind.
    """
    meant = list(found) if which.kind in (None, "cross") else which.of(found)
    last = meant[-1]
    wanted: Sequence[str | None] = tokens or [None]
    places = [_place(token, last.queries, last.table.shape[-2]) for token in wanted]
    return RollOutLook(roll_out(meant, [at for group in places for at in group]), title)


def look_at_text(
    found: Sequence[Reading],
    which: Which,
    tokens: Sequence[str],
    directions: Sequence[Direction],
    title: str,
    special: bool = True,
) -> TextLook:
    """What tokens looked at, and what looked at them; without tokens, the last one that is no special token.

    Of two directions, a token may lack one: what looks and what is looked at may be two texts.

    Raises:
        ArgumentError: there is no such token, kind, layer or head.
    """
    meant = which.alike(found)
    first = meant[0]
    layer = first.name if len(meant) == 1 else None
    highlights = []
    wanted: Sequence[str | None] = tokens or [None]
    for token in wanted:
        missing = []
        for direction in directions:
            side, axis = (first.queries, -2) if direction == "from" else (first.keys, -1)
            try:
                places = _place(token, side, first.table.shape[axis])
            except ArgumentError as error:
                missing.append(error)
                continue
            look = looked_at if direction == "from" else looked_at_by
            highlights.append(look(meant, places, layer=layer, head=which.head))
        if len(missing) == len(directions):
            raise missing[0]
    return TextLook(highlights, title, special, () if tokens else found)


def look_at_map(found: Sequence[Reading], which: Which, title: str) -> MapLook:
    """The whole map of the attentions meant, or their mean.

    Raises:
        ArgumentError: there is no such kind, layer or head.
    """
    meant = which.alike(found)
    return MapLook(overview(meant, head=which.head, view=which.view(meant)), title)


def look_at_alignment(
    found: Sequence[Reading],
    which: Which,
    title: str,
    gold: Gold | None = None,
    texts: tuple[str | None, str | None] | None = None,
) -> AlignmentLook:
    """What the words of a target looked at when they were about to be said.

    Args:
        found: what was read.
        which: of it.
        title: of pages.
        gold: sure and possible links, which count the words of the texts.
        texts: source and target, where links are to count their words; None: what of them isn't known.

    Raises:
        ArgumentError: there is no cross-attention, no such layer or head, or a gold link outside the words; the model's
            words are others than those that links count.
    """
    across = _crossing(found)
    if any(tokens is not None and not tokens.words for tokens in (across[0].queries, across[0].keys)):
        side = "target" if across[0].queries is not None and not across[0].queries.words else "source"
        raise ArgumentError(f"the {side} has no words to align: give a TARGET to look at, or see --show text")
    if gold is not None or texts is not None:
        problem = _other_words(across[0], *(texts or (None, None)))
        if problem is not None:
            raise ArgumentError(problem)
    meant = Which("cross", which.layer, which.head).alike(found)
    known = word_alignments(across, predicting=True)
    names = {one.name for one in meant}
    views = {which.view(meant): _mean([one for (layer, h), one in known.items() if layer in names and h == which.head])}
    # of those that are here, which may not be all that the model has
    views |= {Which().view(across): _mean([one for (_, head), one in known.items() if head is None])}
    views |= {Which().view([one]): known[one.name, None] for one in across}
    views |= {f"{layer} · head {head}": one for (layer, head), one in known.items() if head is not None}
    grid = {
        f"{label} · head {head}": f"{one.name} · head {head}"
        for label, one in zip(_short_names([one.name for one in across]), across, strict=True)
        for head in one.head_numbers
    }
    one = next(iter(views.values()))
    sizes = len(one.source_words), len(one.target_words)
    for i, j in sorted(gold[1] if gold is not None else ()):
        if i >= sizes[0] or j >= sizes[1]:
            raise ArgumentError(f"gold: link {i}-{j} in a pair of {sizes[0]} source and {sizes[1]} target words")
    return AlignmentLook(views, grid, across[0].heads, title, gold)


def look_at_ranking(
    subject: Subject,
    sources: Sequence[str],
    targets: Sequence[str],
    gold: Sequence[Gold],
    title: str,
    report: Callable[[str, int, int | None], None],
) -> tuple[RankingLook, dict[int, str]]:
    """How well each layer and head aligns a text.

    Args:
        subject: a model.
        sources, targets: the text; empty pairs don't count.
        gold: sure and possible links of each pair.
        title: of pages.
        report: told what is done, how much, and of how much.

    Returns:
        The ranking, and what the model could not read: number of the pair → why.

    Raises:
        ArgumentError: the model has no cross-attention, or could read no pair.
    """
    check_crosses(subject)
    problems: dict[int, str] = {}
    sure: list[Collection[Link]] = []
    possible: list[Collection[Link]] = []

    def pairs() -> Iterator[list[Reading]]:
        for number, (source, target) in enumerate(zip(sources, targets, strict=True)):
            report("aligning", number, len(sources))
            if not source.strip() or not target.strip():
                continue
            try:
                recording = subject.record([source], [target])
            except ArgumentError as error:
                problems[number] = str(error)
                continue
            found = _crossing(readings(recording))
            problem = _other_words(found[0], source, target)
            if problem is not None:
                problems[number] = problem
                continue
            sure.append(gold[number][0])
            possible.append(gold[number][1])
            yield found

    try:
        return RankingLook(rank_heads(pairs(), sure, possible, predicting=True), title), problems
    except ArgumentError as error:
        if sure or not problems:
            raise
        number, problem = next(iter(problems.items()))
        raise ArgumentError(f"no pair can be judged; pair {number + 1}: {problem}") from error


def check_crosses(subject: Subject) -> None:
    """Refuse a model that reads one text when a source and a target are to be aligned.

    Raises:
        ArgumentError: it does.
    """
    if subject.kind not in ("translator", "encoder-decoder"):
        raise ArgumentError(f"alignments are of a source and a target: {subject.name} reads one text")


def _other_words(one: Reading, source: str | None, target: str | None) -> str | None:
    """Why links, which count the words of the texts, don't fit what a model read; None if they do.

    Of a text that isn't known its words show whether they are several that the tokenizer has as one.
    """
    for side, text, tokens in (("source", source, one.keys), ("target", target, one.queries)):
        found = [] if tokens is None else [word.text for word in tokens.words]
        wanted = _split(text) if text is not None else [part for word in found for part in _split(word)]
        if len(found) != len(wanted):
            return f"the {side} has {len(wanted)} words, which links count, and {len(found)} for the tokenizer"
        for number, (here, there) in enumerate(zip(found, wanted, strict=True)):
            if here != there:
                return f"word {number} of the {side} is {there!r}, which links count, and {here!r} for the tokenizer"
    return None


def _split(text: str) -> list[str]:
    return [text[start:stop] for start, stop in split_words(text)]


def _short_names(names: Sequence[str]) -> list[str]:
    """Paths of modules by the number of their layer, where that tells them apart."""
    numbers = [next((part for part in name.split(".") if part.isdecimal()), None) for name in names]
    if None in numbers or len(set(numbers)) < len(names):
        return list(names)
    return [f"layer {number}" for number in numbers]


def _crossing(found: Sequence[Reading]) -> list[Reading]:
    """All cross-attention."""
    if "cross" not in {one.role.kind for one in found}:
        raise ArgumentError("there is no cross-attention here, so there are no alignments; see --show text")
    return Which("cross").alike(found)


def _mean(found: Sequence[Alignment]) -> Alignment:
    first = found[0]
    weights = np.mean([one.weights for one in found], axis=0)
    return Alignment(first.source_words, first.target_words, weights)


def _place(token: str | None, known: Tokens | None, length: int) -> tuple[int, ...]:
    """The positions of a token; of None, those of the last that is no special token."""
    if token is not None:
        return find_token(known, token, length)
    plain = [at for at in range(length) if known is None or not known.special[at]]
    return (plain[-1] if plain else length - 1,)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _names(found: Sequence[Reading]) -> str:
    names = [one.name for one in found]
    return f"they are {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
